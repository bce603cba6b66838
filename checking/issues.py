"""What is suspicious about the photographs of a data folder: data_report.csv and its page."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_utils import DataSet
from reporting.page import Item, Page
from running.files import atomic_write

# What may be suggested; the category follows the first.
MOVE, LEAVE_OUT = "move to ", "leave out"

COLUMNS = ("file", "split", "category", "kind", "score", "suggestion", "reason", "accept")
FORMULA = "=+-@\t\r"  # a spreadsheet computes what begins with one of these
PRINTED, SHOWN = 5, 48  # issues of each kind that are printed, and that are on the page

EXPLANATIONS = {
    "wrong label": "Photographs whose category is improbable to heads that have not learned from "
    "them, and to the photographs that look most like them; beside each the most similar one of "
    "the category that it looks like. Many are unusual, and right: look before you accept.",
    "near duplicate": "The same picture twice, perhaps scaled, cropped, mirrored or stored again, "
    "or the next shot of a series. The first one would be left out, the second stays: copies in "
    "two splits flatter the figures.",
    "outlier": "Photographs that look like nothing else in the folder.",
}


class Photograph(NamedTuple):
    """A photograph of a data folder."""

    path: str
    split: str
    category: str
    side: int  # the short one, in pixels


class Issue(NamedTuple):
    """Something suspicious about a photograph."""

    photograph: Photograph
    kind: str  # see `EXPLANATIONS` and `images.statistics`
    score: float  # 0..1, the higher the worse
    suggestion: str  # "move to <category>" or "leave out"
    reason: str
    other: str = ""  # the path of another photograph that shows why


def _by_kind(issues: Sequence[Issue]) -> dict[str, list[Issue]]:
    kinds: dict[str, list[Issue]] = {}
    for issue in issues:
        kinds.setdefault(issue.kind, []).append(issue)
    return kinds


def issue_lines(issues: Sequence[Issue]) -> Iterator[str]:
    """Say how many issues there are of each kind, and which are the worst."""
    for kind, found in _by_kind(issues).items():
        yield f"{kind}: {len(found)}"
        for each in found[:PRINTED]:
            yield f"  {each.photograph.path}: {each.reason} ({each.score:.3f})"
        if len(found) > PRINTED:
            yield f"  and {len(found) - PRINTED} more"
    if not issues:
        yield "nothing suspicious about the pictures"


def write_csv(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], issues: Sequence[Issue]
) -> None:
    """Write data_report.csv, with an empty column to accept suggestions."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for (photograph, split, category, _), kind, score, suggestion, reason, _ in issues:
        file = Path(os.path.relpath(photograph, folder)).as_posix()
        file = f"./{file}" if file[0] in FORMULA else file
        category = f"'{category}" if category[0] in FORMULA else category
        writer.writerow([file, split, category, kind, f"{score:.4f}", suggestion, reason, ""])
    with atomic_write(path) as report:
        # With a byte order mark, by which Excel knows the encoding.
        report.write(text.getvalue().encode("utf-8-sig", "surrogateescape"))


def write_page(
    path: str | os.PathLike[str],
    data: DataSet,
    problems: Mapping[str, Sequence[str]],
    issues: Sequence[Issue],
) -> None:
    """Write data_report.html: the splits' sizes, the files' problems, the images' issues."""
    kinds = _by_kind(issues)
    page = Page(f"Data check of {data.folder}")
    sizes = {name: str(len(split.paths)) for name, split in data.splits.items()}
    page.facts([(name, [size, "photographs"]) for name, size in sizes.items()], large=True)
    page.text(
        "Everything here is a suspicion. data_report.csv lists all of it: write yes into its "
        "column accept, and train.py makes a new data folder with --apply and --to."
    )
    counts = [(kind, str(len(found))) for kind, found in (kinds | {**problems}).items()]
    page.table("What was found", ("kind", "photographs, files or folders"), counts)
    for kind, found in kinds.items():
        page.heading(f"{kind.capitalize()}: {len(found)}")
        if kind in EXPLANATIONS:
            page.text(EXPLANATIONS[kind])
        page.gallery([_item(issue) for issue in found[:SHOWN]])
        if len(found) > SHOWN:
            page.text(f"And {len(found) - SHOWN} more, in data_report.csv.")
    for kind, lines in problems.items():
        if lines:
            page.heading(f"{kind.capitalize()}: {len(lines)}")
            page.table(kind.capitalize(), ("what",), [(line,) for line in lines])
    with atomic_write(path) as file:
        file.write(page.render())


def _item(issue: Issue) -> Item:
    (path, _, category, _), _, score, suggestion, reason, other = issue
    pictures = [(path, f"{category}: {reason}")]
    if other:
        pictures.append((other, "a photograph to compare it with"))
    return Item(pictures, f"{reason} ({score:.3f})", f"{path}: {suggestion}")
