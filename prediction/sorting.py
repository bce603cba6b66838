"""Photographs sorted into a folder for each answer, as links or copies."""

import filecmp
import os
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from prediction.records import Record
from running.errors import InputError, RunError
from running.files import prepare_folder

UNREADABLE = "unreadable"  # the folder of what cannot be read
LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255
LONGEST_FILE = 255  # bytes of a file's

# What no folder may be called on one system or another, and what begins a hidden one.
FORBIDDEN = dict.fromkeys(map(ord, '/\\:*?"<>|'), "_")


class Sorter:
    """Puts a link to each photograph, or a copy, into the folder of its answer.

    What is there already stays as it is, so that a job that was stopped can be given again.
    Originals are not touched.

    Args:
        folder: of the folders of the answers, see `check_folder`.
        copies: whether photographs are copied.
    """

    def __init__(self, folder: str, copies: bool):
        self.folder, self.copies = Path(folder), copies
        self.real = os.path.realpath(folder)
        self.done = Counter[str]()

    def sort(self, record: Record) -> None:
        """Put a photograph where it belongs; one that is not there is left out.

        Raises:
            InputError: it is in the folder itself.
            RunError: the disk is full.
        """
        source = os.path.realpath(record.file)
        if Path(source).is_relative_to(self.real):
            raise InputError(f"{record.file} is in {self.folder}, into which it would be sorted")
        if not os.path.isfile(source):
            self.done["missing"] += 1
            return
        place = self.folder / folder_name(UNREADABLE if record.error else record.answer)
        try:
            place.mkdir(parents=True, exist_ok=True)
            self.done[self._put(source, place / os.path.basename(record.file))] += 1
        except OSError as error:
            raise RunError(f"{place} cannot be written: {error.strerror or error}") from error

    def _put(self, source: str, wanted: Path) -> str:
        """Link or copy a photograph, under a number where its name is another's; say which."""
        number, place = 0, wanted
        while True:
            same = _is_same(source, place)
            if same:
                return "there already"
            if same is None:
                with suppress(FileExistsError):  # of another job, just now: look again
                    return self._make(source, place)
                continue
            number += 1
            place = _add_number(wanted, number)

    def _make(self, source: str, place: Path) -> str:
        if not self.copies:
            try:
                place.symlink_to(source)
                return "linked"
            except FileExistsError:
                raise
            except (OSError, NotImplementedError):  # a file system without links
                pass
        try:
            original = open(source, "rb")  # noqa: SIM115 - closed below
        except OSError:
            return "not readable"
        # Several jobs may copy into one folder.
        handle, half = tempfile.mkstemp(dir=place.parent, prefix=".", suffix=".tmp")
        try:
            with original, open(handle, "wb") as copy:
                shutil.copyfileobj(original, copy)
            shutil.copystat(source, half)
            try:
                os.link(half, place)  # which, unlike renaming, replaces nothing
            except FileExistsError:
                raise
            except OSError:
                open(place, "xb").close()
                os.replace(half, place)
        finally:
            with suppress(OSError):
                os.unlink(half)
        return "copied"

    def summary(self) -> str:
        """Say what was done."""
        kinds = ("linked", "copied", "there already", "missing", "not readable")
        said = ", ".join(f"{self.done[kind]} {kind}" for kind in kinds if self.done[kind])
        return f"{self.folder}: {said or 'no photographs'}"


def check_folder(folder: str, inputs: list[str]) -> None:
    """See that photographs can be sorted into a folder, and make it.

    In a folder that is read they would be read the next time.

    Raises:
        InputError: they cannot.
    """
    real = Path(os.path.realpath(folder))
    for path in inputs:
        if os.path.isdir(path) and real.is_relative_to(os.path.realpath(path)):
            raise InputError(f"{folder} is in {path}, which is read; sort into another folder")
    prepare_folder(folder, [])


def folder_name(answer: str) -> str:
    """Turn an answer into the name of a folder."""
    name = answer.translate(FORBIDDEN).strip()
    name = os.fsencode(name)[:LONGEST_NAME].decode(errors="ignore").rstrip(". ")
    return f"_{name}" if not name or name.startswith(".") else name


def _add_number(path: Path, number: int) -> Path:
    """Put a number behind a file's name, whose end goes where it would be too long."""
    end = f"_{number}{path.suffix}"
    stem = os.fsencode(path.stem)[: LONGEST_FILE - len(os.fsencode(end))]
    return path.with_name(os.fsdecode(stem) + end)


def _is_same(source: str, place: Path) -> bool | None:
    """Tell whether a place has this photograph, or a copy of it; None: it has nothing."""
    try:
        return os.readlink(place) == source
    except FileNotFoundError:
        return None
    except OSError:  # it is no link
        pass
    try:
        return filecmp.cmp(source, place, shallow=False)
    except OSError:  # a folder, or one of them cannot be read
        return False
