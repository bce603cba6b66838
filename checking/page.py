"""The page of a data check: what is suspicious, as pictures."""

import os
from collections.abc import Mapping, Sequence

from checking.issues import NEAR_DUPLICATE, OUTLIER, WRONG_LABEL, Issue, by_kind
from reporting.page import Item, Page
from running.files import atomic_write

SHOWN = 48  # issues of each kind

WHAT = {
    WRONG_LABEL: "Photographs whose category is improbable to heads that have not learned from "
    "them, and to the photographs that look most like them; beside each the most similar one of "
    "the category that it looks like. Many are unusual, and right: look before you accept.",
    NEAR_DUPLICATE: "The same picture twice, perhaps scaled, cropped, mirrored or stored again, or "
    "the next shot of a series. The first one would be left out, the second stays: copies in two "
    "splits flatter the figures.",
    OUTLIER: "Photographs that look like nothing else in the folder.",
}


def write_check_page(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    splits: Mapping[str, int],
    problems: Mapping[str, Sequence[str]],
    issues: Sequence[Issue],
) -> None:
    """Write data_report.html: the splits' sizes, the files' problems, the images' issues.

    Raises RunError if it cannot be written.
    """
    kinds = by_kind(issues)
    page = Page(f"Data check of {folder}")
    sizes = [(name, [str(count), "photographs"]) for name, count in splits.items()]
    page.facts(sizes, large=True)
    page.text(
        "Everything here is a suspicion. data_report.csv lists all of it: write yes into its "
        "column accept, and train.py makes a new data folder with --apply and --to."
    )
    counts = [(kind, str(len(found))) for kind, found in (kinds | {**problems}).items()]
    page.table("What was found", ("kind", "photographs, files or folders"), counts)
    for kind, found in kinds.items():
        page.heading(f"{kind.capitalize()}: {len(found)}")
        if kind in WHAT:
            page.text(WHAT[kind])
        page.gallery([_item(each) for each in found[:SHOWN]])
        if len(found) > SHOWN:
            page.text(f"And {len(found) - SHOWN} more, in data_report.csv.")
    for kind, lines in problems.items():
        if lines:
            page.heading(f"{kind.capitalize()}: {len(lines)}")
            page.table(kind.capitalize(), ("what",), [(line,) for line in lines])
    with atomic_write(path) as file:
        file.write(page.render())


def _item(found: Issue) -> Item:
    pictures = [(found.file, f"{found.category}: {found.reason}")]
    if found.other:
        pictures.append((found.other, "a photograph to compare it with"))
    return Item(
        pictures, f"{found.reason} ({found.score:.3f})", f"{found.file}: {found.suggestion}"
    )
