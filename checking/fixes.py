"""Making a new data folder out of one and the findings that its user has accepted."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from checking.issues import LEAVE_OUT, MOVE
from images.splits import find_split_folders
from running.errors import InputError, RunError


def apply_fixes(
    data_dir: str | os.PathLike[str],
    paths: Sequence[str],
    categories: Sequence[str],
    accepted: Mapping[str, str],
    target: str | os.PathLike[str],
) -> str:
    """Make a new data folder of links to photographs, with the fixes; return a sentence on it.

    Links are symbolic; where a file system has none, photographs are copied. `data_dir` stays as it
    is, and the folder appears when it is whole. Raises InputError if `target` exists or the fixes
    do not fit the folder, RunError if the disk is full or not writable.
    """
    target = Path(target)
    places = {Path(os.path.relpath(p, data_dir)).as_posix(): p for p in paths}
    _require(data_dir, places, categories, accepted, target)
    # A folder of categories alone has them at its top.
    depth = 1 if find_split_folders(data_dir) else 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            new = Path(temporary, target.name)
            done = _fill(new, places, depth, accepted)
            names = Path(data_dir, "cat_to_name.json")
            if names.is_file():
                shutil.copy2(names, new)
            new.rename(target)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror or error}") from error
    kinds = ("linked", "copied", "of these moved", "left out")
    said = ", ".join(f"{done[kind]} {kind}" for kind in kinds if done[kind])
    return f"{target}: {said}"


def _require(
    data_dir: str | os.PathLike[str],
    files: Container[str],
    categories: Sequence[str],
    accepted: Mapping[str, str],
    target: str | os.PathLike[str],
) -> None:
    """Raise InputError if the accepted fixes do not fit the folder, or `target` cannot be made."""
    if not accepted:
        raise InputError("nothing is accepted: write yes into the column accept of some rows")
    for file, suggestion in accepted.items():
        if file not in files:
            raise InputError(
                f"{data_dir} has no photograph {file}; is the report another folder's, or was it "
                "saved in another encoding than UTF-8?"
            )
        category = suggestion.removeprefix(MOVE)
        if suggestion != LEAVE_OUT and category not in categories:
            raise InputError(f"{file} cannot be moved to {category}, which is no category")
    if os.path.lexists(target):
        raise InputError(f"{target} is there already; --to takes the name of a new folder")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(data_dir)):
        raise InputError(f"{target} is within {data_dir}, which would then hold itself")


def _fill(
    new: Path, places: Mapping[str, str], depth: int, accepted: Mapping[str, str]
) -> Counter[str]:
    """Link photographs, by their place in the old folder, into a new one; count what was done."""
    done = Counter[str]()
    new.mkdir()
    for file, path in places.items():
        suggestion, place = accepted.get(file, ""), Path(file)
        if suggestion == LEAVE_OUT:
            done["left out"] += 1
            continue
        if suggestion:
            category = suggestion.removeprefix(MOVE)
            place = Path(*place.parts[:depth], category, *place.parts[depth + 1 :])
        done[_link(Path(path).resolve(), _free(new / place))] += 1
        done["of these moved"] += bool(suggestion)
    return done


def _free(place: Path) -> Path:
    """Number a name that is taken: a photograph was moved to one of the same name."""
    taken, number = place, 1
    while os.path.lexists(place):
        place = taken.with_stem(f"{taken.stem}_{number}")
        number += 1
    return place


def _link(source: Path, place: Path) -> str:
    """Link a photograph, or copy it where that cannot be; say which."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(source)
        return "linked"
    except (OSError, NotImplementedError):
        shutil.copy2(source, place)
        return "copied"
