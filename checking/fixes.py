"""A new data folder: an old one with the suggestions that its user has accepted."""

import csv
import os
import shutil
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path

from checking.issues import LEAVE_OUT, MOVE
from data_utils import NAMES_FILE, DataSet
from images.splits import find_split_folders
from running.errors import InputError, RunError

READ = ("file", "suggestion", "accept")  # columns of data_report.csv
YES, NO = ("yes", "y", "x", "1", "true"), ("no", "n", "0", "false", "")


def read_accepted(report: str | os.PathLike[str]) -> dict[str, str]:
    """Read which suggestions of data_report.csv the user has accepted, by photograph.

    Leaving a photograph out wins. Raises InputError if the file is missing or another one.
    """
    accepted: dict[str, str] = {}
    try:
        with open(report, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = file.readline()
            # A spreadsheet of a country with decimal commas writes semicolons.
            delimiter = ";" if header.count(";") > header.count(",") else ","
            rows = csv.DictReader(chain([header], file), delimiter=delimiter)
            if not {*READ} <= {*(rows.fieldnames or [])}:
                raise InputError(
                    f"{report} has no columns {', '.join(READ)}; --check_data writes such a file"
                )
            for number, row in enumerate(rows, 2):
                photograph, suggestion, accept = (row[column] or "" for column in READ)
                answer, photograph = accept.strip().lower(), photograph.removeprefix("./")
                if answer not in YES + NO:
                    raise InputError(
                        f"{report}, row {number}: accept is {accept!r}, which is neither yes nor no"
                    )
                if answer in YES and accepted.get(photograph) != LEAVE_OUT:
                    accepted[photograph] = suggestion.strip()
    except OSError as error:
        raise InputError(f"{report} cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise InputError(f"{report} is not CSV: {error}") from None
    return accepted


def has_answers(report: str | os.PathLike[str]) -> bool:
    """Whether a user has written into a data_report.csv; also where it cannot be read."""
    try:
        return os.path.exists(report) and bool(read_accepted(report))
    except InputError:
        return True


def apply_fixes(
    data: DataSet, report: str | os.PathLike[str], target: str | os.PathLike[str]
) -> str:
    """Make a new data folder with the fixes that `report` accepts; return a sentence on it.

    It holds symbolic links to the photographs, or copies where a file system has no links, and
    appears when it is whole. Raises InputError if it exists already or the fixes do not fit the
    data, RunError if the disk is full or not writable.
    """
    target, folder, accepted = Path(target), data.folder, read_accepted(report)
    places = {Path(os.path.relpath(path, folder)).as_posix(): path for path in data.paths}
    if not accepted:
        raise InputError("nothing is accepted: write yes into the column accept of some rows")
    for file, suggestion in accepted.items():
        if file not in places:
            raise InputError(
                f"{folder} has no photograph {file}; is the report another folder's, or was it "
                "saved in another encoding than UTF-8?"
            )
        if suggestion not in (LEAVE_OUT, *(MOVE + category for category in data.categories)):
            raise InputError(
                f"the suggestion for {file} is {suggestion!r}, neither {LEAVE_OUT!r} nor "
                f"{MOVE!r} and a category of {folder}"
            )
    if os.path.lexists(target):
        raise InputError(f"{target} is there already; --to takes the name of a new folder")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
        raise InputError(f"{target} is within {folder}, which would then hold itself")

    # A folder of categories alone has them at its top.
    depth = 1 if find_split_folders(folder) else 0
    done = Counter[str]()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            new = Path(temporary, target.name)
            new.mkdir()
            for file, path in places.items():
                suggestion, place = accepted.get(file, ""), Path(file)
                if suggestion == LEAVE_OUT:
                    done["left out"] += 1
                    continue
                if suggestion:
                    category = suggestion.removeprefix(MOVE)
                    place = Path(*place.parts[:depth], category, *place.parts[depth + 1 :])
                    done["of these moved"] += 1
                done[_link(Path(path).resolve(), new / place)] += 1
            names = Path(folder, NAMES_FILE)
            if names.is_file():
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
    except (OSError, NotImplementedError):
        shutil.copy2(source, free)
        return "copied"
