"""Issues of a data folder's photographs: data_report.csv, its page, and what the user accepts."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from data_utils import GAPS, NAMES_FILE, DataSet, Inspected
from formats.table import NO, YES, format_table, read_table, safe_path, safe_text
from images.folders import find_split_folders, new_folder
from images.links import link
from reporting.page import Page, Picture
from reporting.review import FIX_COLUMNS, LEAVE_OUT, MOVE, Question, add_review, make_table
from running.errors import InputError
from running.files import atomic_write
from running.run_folder import back_up

PRINTED = 5  # issues of each kind

LABEL, COPY = "suspicious label", "near duplicate"  # kinds of issues


class Issue(NamedTuple):
    """Something suspicious about a photograph."""

    path: str
    split: str
    category: str
    kind: str  # `LABEL`, `COPY`, or another one of `checking.check`
    score: float  # 0..1, the higher the worse
    suggestion: str  # "move to <category>" or "leave out"
    reason: str
    others: Sequence[Picture] = ()  # to compare it with


def issue_lines(issues: Sequence[Issue]) -> Iterator[str]:
    """Describe how many issues there are of each kind, and the worst."""
    for kind, found in _by_kind(issues).items():
        yield f"{kind}: {len(found)}"
        for issue in found[:PRINTED]:
            yield f"  {issue.path}: {issue.reason} ({100 * issue.score:.0f})"
        if len(found) > PRINTED:
            yield f"  and {len(found) - PRINTED} more"
    yield caution(issues)


def caution(issues: Sequence[Issue]) -> str:
    """Say what the issues are."""
    if not issues:
        return "nothing is suspicious about the pictures"
    return "all of this is suspicion, the strongest of each kind first: look before you accept"


def _by_kind(issues: Sequence[Issue]) -> dict[str, list[Issue]]:
    return {kind: [*found] for kind, found in groupby(issues, lambda issue: issue.kind)}


def write_page(
    path: Path,
    inspected: Inspected,
    issues: Sequence[Issue],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> None:
    """Write data_report.html, on which a user decides about the issues.

    `rows` are what `write_csv` returned.
    """
    data, problems, kinds = inspected.data, inspected.problems, _by_kind(issues)
    page = Page(f"Data check of {os.path.basename(os.path.abspath(data.folder))}", path.parent)
    page.text(" ".join(f"{note[0].upper()}{note[1:]}." for note in (*notes, caution(issues))))
    if issues:
        names = dict(zip(data.categories, inspected.names))
        table = make_table(str(data.folder), path.with_suffix(".csv").name, rows)
        asked = [_ask(issue, row[5], names) for issue, row in zip(issues, rows)]
        add_review(page, asked, table, [*inspected.names, LEAVE_OUT])
    page.heading("What was looked at")
    sizes = {name: str(len(split.paths)) for name, split in data.splits.items()}
    page.facts([(name, [f"{size} photographs"]) for name, size in sizes.items()])
    counts = [(kind, str(len(found))) for kind, found in (kinds | problems).items() if found]
    if counts:
        page.table("What was found", ("kind", "photographs, files or folders"), counts)
    for kind, lines in problems.items():
        if lines:
            page.heading(f"{kind.capitalize()}: {len(lines)}")
            page.table(kind.capitalize(), ("what",), [(line,) for line in lines])
    with atomic_write(path) as file:
        file.write(page.render())


def _ask(issue: Issue, suggestion: str, names: Mapping[str, str]) -> Question:
    """Ask whether a suggestion is right, which is the issue's or an earlier one."""
    own, target = names[issue.category], suggestion.removeprefix(MOVE)
    if suggestion != target and target in names:
        asked, yes = f"Is this {names[target]}, and not {own}?", f"Move to {names[target]}"
        no = f"Keep as {own}"
    elif issue.kind == COPY:
        asked, yes, no = "Nearly the same picture: leave the first out?", "Leave out", "Keep both"
    else:
        asked, yes, no = f"{issue.kind}: leave it out of {own}?", "Leave out", f"Keep as {own}"
        asked = asked[0].upper() + asked[1:]
    pictures = [Picture(issue.path, f"in the folder of {own}"), *issue.others]
    more = issue.path if issue.kind == LABEL else f"{issue.path}: {issue.reason}"
    return Question(pictures, asked, more, yes, no)


# --- data_report.csv ------------------------------------------------------------------


def write_csv(
    path: Path, folder: str | os.PathLike[str], issues: Sequence[Issue]
) -> list[list[str]]:
    """Write data_report.csv and return its rows, of which the first are parallel to the issues.

    The user's answers in an earlier one stay, and it is backed up. A row with an answer stays as it
    is, also where its photograph is no longer suspected.
    """
    answered: dict[str, dict[str, str]] = {}
    try:
        if os.path.exists(path):
            rows = [*_read_rows(path)]
            answered = {row["file"]: row for row in rows if row["accept"]}
            is_own = all(None not in row and row.keys() == {*FIX_COLUMNS} for row in rows)
            if answered or not is_own:
                back_up(path)
    except InputError:  # as it may be the user's work
        back_up(path)
    lines = []
    for photograph, split, category, kind, score, suggestion, reason, _ in issues:
        place = Path(os.path.relpath(photograph, folder)).as_posix()
        if row := answered.pop(place, None):
            suggestion = row["suggestion"]
        place, category = safe_path(place), safe_text(category)
        number = f"{100 * score:.0f}"  # whole: a decimal point is text in some countries
        answer = row["accept"] if row else ""
        lines.append([place, split, category, kind, number, suggestion, reason, answer])
    for row in answered.values():
        if os.path.exists(os.path.join(folder, row["file"])):
            lines.append([row.get(name, "") for name in FIX_COLUMNS])
    with atomic_write(path) as file:
        file.write(format_table(FIX_COLUMNS, lines))
    return lines


def _read_rows(report: str | Path) -> Iterator[dict[str, str]]:
    for row in read_table(report, ("file", "suggestion", "accept"), "a data_report.csv"):
        file = row["file"].removeprefix("./")
        shown = row["suggestion"].strip(), row["accept"].strip()
        yield {**row, "file": file, "suggestion": shown[0], "accept": shown[1]}


def read_accepted(report: str | Path, names: Mapping[str, str] = {}) -> dict[str, str]:
    """Read which suggestions of data_report.csv the user has accepted, by photograph.

    In the place of a yes an answer may be the name of another category, or "leave out"; `names` are
    those of all categories. Raises InputError if the file is missing or another one, or two answers
    contradict each other.
    """
    spelled = Counter(word.casefold() for word in names.values())
    moves = {
        word.casefold(): f"{MOVE}{category}"
        for category, word in names.items()
        if spelled[word.casefold()] == 1  # else it says too little
    }
    moves |= {category.casefold(): f"{MOVE}{category}" for category in names}
    moves.setdefault(LEAVE_OUT, LEAVE_OUT)
    accepted: dict[str, str] = {}
    for number, row in enumerate(_read_rows(report), 2):
        photograph, answer, suggestion = row["file"], row["accept"].lower(), row["suggestion"]
        if not answer or answer in NO:
            continue
        if answer not in YES:
            if answer.casefold() not in moves:
                raise InputError(
                    f"{report}, row {number}: accept is {row['accept']!r}; write yes, no, the name "
                    "of a category, leave out, or nothing"
                )
            suggestion = moves[answer.casefold()]
        if accepted.setdefault(photograph, suggestion.strip()) != suggestion.strip():
            both = f"{accepted[photograph]!r} and {suggestion!r}"
            raise InputError(f"{report}: {both} are both accepted for {photograph}; accept one")
    return accepted


# --- The new folder -------------------------------------------------------------------


def apply_fixes(data: DataSet, names: Sequence[str], report: str | Path, target: str | Path) -> str:
    """Make a new data folder with the fixes that `report` accepts; return a sentence on it.

    `names` are those of the categories. The folder holds symbolic links to the photographs, or
    copies where a file system has no links. Raises InputError if it exists already or the fixes do
    not fit the data, RunError if the disk is full.
    """
    target, folder = Path(target), data.folder
    accepted = read_accepted(report, dict(zip(data.categories, names)))
    places = {Path(os.path.relpath(path, folder)).as_posix(): path for path in data.paths}
    if not accepted:
        raise InputError(
            f"nothing is accepted in {report}: write yes into the column accept of some rows, or "
            "give the file that the page saved in your browser's downloads"
        )
    moves = {f"{MOVE}{category}".strip(): category for category in data.categories}
    for file, suggestion in accepted.items():
        if file not in places:
            raise InputError(f"{folder} has no {file}; is {report} another folder's, or not UTF-8?")
        if suggestion not in (LEAVE_OUT, *moves):
            raise InputError(f"{file}: {suggestion!r} is neither 'leave out' nor a known 'move to'")
    if os.path.lexists(target):
        raise InputError(f"{target} is there already; --to takes the name of a new folder")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
        raise InputError(f"{target} is within {folder}, which would then hold itself")

    # A folder of categories alone has them at its top.
    depth = 1 if find_split_folders(folder) else 0
    done = Counter({"left out": [*accepted.values()].count(LEAVE_OUT)})
    with new_folder(target) as new:
        for file, path in places.items():
            parts, suggestion = [*Path(file).parts], accepted.get(file, "")
            if suggestion in moves:
                parts[depth] = moves[suggestion]
                done["of these moved"] += 1
            if suggestion != LEAVE_OUT:
                done[link(Path(os.path.realpath(path)), new.joinpath(*parts))] += 1
        if (own_names := Path(folder, NAMES_FILE)).is_file():
            shutil.copyfile(own_names, new / NAMES_FILE)
    kinds = ("linked", "copied", "of these moved", "left out")
    text = f"{target}: " + ", ".join(f"{done[kind]} {kind}" for kind in kinds if done[kind])
    if others := [line for line in data.problems[GAPS] if "is left out" in line]:
        categories = "1 category" if len(others) == 1 else f"{len(others)} categories"
        text += f"; not taken over: {categories} that train lacks"
    return text
