"""Issues of a data folder's photographs: data_report.csv, its page, and what the user accepts."""

import csv
import io
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

from data_utils import NAMES_FILE, DataSet, Inspected
from images.folders import find_split_folders
from reporting.page import Item, Page
from running.errors import InputError, RunError
from running.files import atomic_write
from running.run_folder import back_up

MOVE, LEAVE_OUT = "move to ", "leave out"  # suggestions; a category follows the first

COLUMNS = ("file", "split", "category", "kind", "score", "suggestion", "reason", "accept")
FORMULA = "=+-@\t\r"  # a spreadsheet computes what begins with one of these
YES, NO = ("yes", "y", "x", "1", "true"), ("no", "n", "0", "false", "")

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


class Issue(NamedTuple):
    """Something suspicious about a photograph."""

    path: str
    split: str
    category: str
    kind: str  # see `EXPLANATIONS` and `checking.check.find_flaws`
    score: float  # 0..1, the higher the worse
    suggestion: str  # "move to <category>" or "leave out"
    reason: str
    others: Sequence[str] = ()  # paths of photographs that show why


def issue_lines(issues: Sequence[Issue]) -> Iterator[str]:
    """Describe how many issues there are of each kind, and the worst."""
    for kind, found in _by_kind(issues).items():
        yield f"{kind}: {len(found)}"
        for issue in found[:PRINTED]:
            yield f"  {issue.path}: {issue.reason} ({issue.score:.3f})"
        if len(found) > PRINTED:
            yield f"  and {len(found) - PRINTED} more"
    if not issues:
        yield "nothing suspicious about the pictures"


def _by_kind(issues: Sequence[Issue]) -> dict[str, list[Issue]]:
    return {kind: [*found] for kind, found in groupby(issues, lambda issue: issue.kind)}


def write_page(path: Path, inspected: Inspected, issues: Sequence[Issue]) -> None:
    """Write data_report.html: the splits' sizes, the files' problems, the images' issues."""
    data, problems, kinds = inspected.data, inspected.problems, _by_kind(issues)
    page = Page(f"Data check of {data.folder}")
    sizes = {name: str(len(split.paths)) for name, split in data.splits.items()}
    page.facts([(name, [size, "photographs"]) for name, size in sizes.items()], large=True)
    page.text(
        "Everything here is a suspicion. data_report.csv lists all of it: write yes into its "
        "column accept, and train.py makes a new data folder with --apply and --to."
    )
    counts = [(kind, str(len(found))) for kind, found in (kinds | problems).items()]
    page.table("What was found", ("kind", "photographs, files or folders"), counts)
    for kind, found in kinds.items():
        page.heading(f"{kind.capitalize()}: {len(found)}")
        if kind in EXPLANATIONS:
            page.text(EXPLANATIONS[kind])
        items = []
        for photograph, _, category, _, score, suggestion, reason, others in found[:SHOWN]:
            pictures = [(photograph, f"{category}: {reason}")]
            pictures += [(other, "a photograph to compare it with") for other in others]
            items.append(Item(pictures, f"{reason} ({score:.3f})", f"{photograph}: {suggestion}"))
        page.gallery(items)
        if len(found) > SHOWN:
            page.text(f"And {len(found) - SHOWN} more, in data_report.csv.")
    for kind, lines in problems.items():
        if lines:
            page.heading(f"{kind.capitalize()}: {len(lines)}")
            page.table(kind.capitalize(), ("what",), [(line,) for line in lines])
    with atomic_write(path) as file:
        file.write(page.render())


# --- data_report.csv ------------------------------------------------------------------


def write_csv(path: Path, folder: str | os.PathLike[str], issues: Sequence[Issue]) -> None:
    """Write data_report.csv; a file there that the user has written into is backed up."""
    try:
        has_answers = path.exists() and bool(read_accepted(path))
    except InputError:  # as it may be the user's work
        has_answers = True
    if has_answers:
        back_up(path)
    with (
        atomic_write(path) as file,
        # Excel knows the encoding by the byte order mark.
        io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text,
    ):
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for photograph, split, category, kind, score, suggestion, reason, _ in issues:
            place = Path(os.path.relpath(photograph, folder)).as_posix()
            place = f"./{place}" if place[0] in FORMULA else place
            category = f"'{category}" if category[0] in FORMULA else category
            writer.writerow([place, split, category, kind, f"{score:.4f}", suggestion, reason, ""])


def read_accepted(report: str | Path) -> dict[str, str]:
    """Read which suggestions of data_report.csv the user has accepted, by photograph.

    Leaving a photograph out wins. Raises InputError if the file is missing or another one.
    """
    accepted: dict[str, str] = {}
    try:
        with open(report, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = file.readline()
            # A spreadsheet of a country with decimal commas writes semicolons.
            delimiter = ";" if header.count(";") > header.count(",") else ","
            rows = csv.DictReader(chain([header], file), restval="", delimiter=delimiter)
            for number, row in enumerate(rows, 2):
                photograph, answer = row["file"].removeprefix("./"), row["accept"].strip().lower()
                if answer not in YES + NO:
                    raise InputError(f"{report}, row {number}: accept is {answer!r}, not yes or no")
                if answer in YES and accepted.get(photograph) != LEAVE_OUT:
                    accepted[photograph] = row["suggestion"].strip()
    except OSError as error:
        raise InputError(f"{report} cannot be read: {error.strerror}") from None
    except (KeyError, csv.Error) as error:
        what = "is no data_report.csv, as it lacks a column or is not CSV:"
        raise InputError(f"{report} {what} {error}") from None
    return accepted


# --- The new folder -------------------------------------------------------------------


def apply_fixes(data: DataSet, report: str | Path, target: str | Path) -> str:
    """Make a new data folder with the fixes that `report` accepts; return a sentence on it.

    It holds symbolic links to the photographs, or copies where a file system has no links. Raises
    InputError if it exists already or the fixes do not fit the data, RunError if the disk is full.
    """
    target, folder = Path(target), data.folder
    accepted = read_accepted(report)
    places = {Path(os.path.relpath(path, folder)).as_posix(): path for path in data.paths}
    if not accepted:
        raise InputError("nothing is accepted: write yes into the column accept of some rows")
    known = {LEAVE_OUT, *(MOVE + category for category in data.categories)}
    for file, suggestion in accepted.items():
        if file not in places:
            raise InputError(f"{folder} has no {file}; is {report} another folder's, or not UTF-8?")
        if suggestion not in known:
            raise InputError(f"{file}: {suggestion!r} is neither 'leave out' nor a known 'move to'")
    if os.path.lexists(target):
        raise InputError(f"{target} is there already; --to takes the name of a new folder")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
        raise InputError(f"{target} is within {folder}, which would then hold itself")

    # A folder of categories alone has them at its top.
    depth = 1 if find_split_folders(folder) else 0
    done = Counter({"left out": [*accepted.values()].count(LEAVE_OUT)})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            new = Path(temporary, target.name)
            new.mkdir()
            for file, path in places.items():
                parts, suggestion = [*Path(file).parts], accepted.get(file, "")
                if suggestion.startswith(MOVE):
                    parts[depth] = suggestion.removeprefix(MOVE)
                    done["of these moved"] += 1
                if suggestion != LEAVE_OUT:
                    done[_link(Path(path).resolve(), new.joinpath(*parts))] += 1
            if (names := Path(folder, NAMES_FILE)).is_file():
                shutil.copy2(names, new)
            new.rename(target)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror or error}") from error
    kinds = ("linked", "copied", "of these moved", "left out")
    return f"{target}: " + ", ".join(f"{done[kind]} {kind}" for kind in kinds if done[kind])


def _link(source: Path, place: Path) -> str:
    """Link a photograph, or copy it where that cannot be; return which."""
    free, number = place, 1
    while os.path.lexists(free):  # as a photograph was moved to one of the same name
        free = place.with_stem(f"{place.stem}_{number}")
        number += 1
    free.parent.mkdir(parents=True, exist_ok=True)
    try:
        free.symlink_to(source)
        return "linked"
    except OSError:
        shutil.copy2(source, free)
        return "copied"
