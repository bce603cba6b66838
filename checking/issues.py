"""What a look at the pictures of a data folder has found, and data_report.csv.

The user marks rows of the file as accepted; `checking.fixes` then does what they suggest.
"""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from running.errors import InputError
from running.files import atomic_write

WRONG_LABEL, NEAR_DUPLICATE, OUTLIER = "wrong label", "near duplicate", "outlier"

# What may be suggested; the category follows the first.
MOVE, LEAVE_OUT = "move to ", "leave out"

COLUMNS = ("file", "split", "category", "kind", "score", "suggestion", "reason", "accept")
FORMULA = "=+-@\t\r"
YES, NO = {"yes", "y", "x", "1", "true"}, {"no", "n", "0", "false", ""}

WORST = 5  # findings of each kind that are printed

LARGEST = 500_000_000  # bytes of a file that is read


class Issue(NamedTuple):
    """Something suspicious about a photograph."""

    file: str
    split: str
    category: str
    kind: str  # "wrong label", "near duplicate", "outlier", or of `images.statistics`
    score: float  # 0..1, the higher the worse
    suggestion: str  # "move to <category>" or "leave out"
    reason: str
    other: str = ""  # another photograph that shows why


def by_kind(issues: Sequence[Issue]) -> dict[str, list[Issue]]:
    """Divide findings by their kinds, in their order."""
    kinds: dict[str, list[Issue]] = {}
    for found in issues:
        kinds.setdefault(found.kind, []).append(found)
    return kinds


def issue_lines(issues: Sequence[Issue]) -> Iterator[str]:
    """Say how much was found of each kind, and the worst of it."""
    for kind, found in by_kind(issues).items():
        yield f"{kind}: {len(found)}"
        yield from (f"  {each.file}: {each.reason} ({each.score:.3f})" for each in found[:WORST])
        if len(found) > WORST:
            yield f"  and {len(found) - WORST} more"
    if not issues:
        yield "nothing suspicious about the pictures"


def write_issues(
    path: str | os.PathLike[str], data_dir: str | os.PathLike[str], issues: Sequence[Issue]
) -> None:
    """Write issues as CSV, with an empty column to accept them; raise RunError if that fails."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for found in issues:
        file = Path(os.path.relpath(found.file, data_dir)).as_posix()
        score, *others = found[4:7]
        # A spreadsheet would compute what begins like a formula.
        file = f"./{file}" if file[0] in FORMULA else file
        category = f"'{found.category}" if found.category[0] in FORMULA else found.category
        writer.writerow([file, found.split, category, found.kind, f"{score:.4f}", *others, ""])
    with atomic_write(path) as file_:
        # With a byte order mark, by which Excel knows the encoding.
        file_.write(text.getvalue().encode("utf-8-sig", "surrogateescape"))


def read_accepted_fixes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read which suggestions of a file were accepted, by photograph within the data folder.

    Leaving a photograph out wins. Raises InputError if the file is missing or another one.
    """
    try:
        if os.path.getsize(path) > LARGEST:
            raise InputError(f"{path} is too large for a data report")
        content = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    # A spreadsheet of a country with decimal commas writes semicolons.
    first = content.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    accepted: dict[str, str] = {}
    try:
        rows = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
        for column in ("file", "suggestion", "accept"):
            if column not in (rows.fieldnames or []):
                raise InputError(f"{path} has no column {column}; --check_data writes such a file")
        for number, row in enumerate(rows, 2):
            file = (row["file"] or "").removeprefix("./")
            suggestion = (row["suggestion"] or "").strip()
            if not _is_yes(row["accept"] or "", f"{path}, row {number}"):
                continue
            if suggestion != LEAVE_OUT and not (suggestion.startswith(MOVE) and suggestion > MOVE):
                raise InputError(
                    f"{path}, row {number}: the suggestion is {suggestion!r}, neither "
                    f"{LEAVE_OUT!r} nor {MOVE + '<category>'!r}"
                )
            if accepted.get(file) != LEAVE_OUT:
                accepted[file] = suggestion
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}") from None
    return accepted


def has_answers(path: str | os.PathLike[str]) -> bool:
    """Tell whether a user has written into a file of findings; also where it can't be read."""
    try:
        return os.path.exists(path) and bool(read_accepted_fixes(path))
    except InputError:
        return True


def _is_yes(answer: str, place: str) -> bool:
    """Read the user's answer in the column accept; raise InputError if it is neither yes nor no."""
    if (word := answer.strip().lower()) not in YES | NO:
        raise InputError(f"{place}: accept is {answer!r}, which is neither yes nor no")
    return word in YES
