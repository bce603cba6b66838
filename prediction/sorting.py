"""Photographs sorted into a folder for each answer, as links or copies."""

import filecmp
import os
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

from prediction.records import Record
from running.errors import InputError, RunError
from running.files import prepare_folder

UNREADABLE = "unreadable"  # the folder of what cannot be read
LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255

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
        self.done = Counter[str]()

    def sort(self, record: Record) -> None:
        """Put a photograph where it belongs; one that is not there is left out.

        Raises:
            RunError: the disk is full.
        """
        source = Path(record.file).resolve()
        if not source.is_file():
            self.done["missing"] += 1
            return
        place = self.folder / folder_name(UNREADABLE if record.error else record.answer)
        try:
            place.mkdir(parents=True, exist_ok=True)
            self.done[self._put(source, place / Path(record.file).name)] += 1
        except OSError as error:
            raise RunError(f"{place} cannot be written: {error.strerror or error}") from error

    def _put(self, source: Path, place: Path) -> str:
        """Link or copy a photograph, under a number where its name is another's; say which."""
        wanted, number = place, 0
        while True:
            if os.path.lexists(place):
                if _is_same(source, place):
                    return "there already"
            else:
                with suppress(FileExistsError):  # of another job, just now
                    return self._make(source, place)
            number += 1
            place = wanted.with_stem(f"{wanted.stem}_{number}")

    def _make(self, source: Path, place: Path) -> str:
        if not self.copies:
            try:
                place.symlink_to(source)
                return "linked"
            except FileExistsError:
                raise
            except (OSError, NotImplementedError):  # a file system without links
                pass
        half = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            shutil.copy2(source, half)
            try:
                os.link(half, place)  # which, unlike renaming, replaces nothing
            except FileExistsError:
                raise
            except OSError:
                os.replace(half, place)
        finally:
            half.unlink(missing_ok=True)
        return "copied"

    def summary(self) -> str:
        """Say what was done."""
        kinds = ("linked", "copied", "there already", "missing")
        said = ", ".join(f"{self.done[kind]} {kind}" for kind in kinds if self.done[kind])
        return f"{self.folder}: {said or 'no photographs'}"


def check_folder(folder: str, inputs: list[str]) -> None:
    """See that photographs can be sorted into a folder, and make it.

    In a folder that is read they would be read the next time.

    Raises:
        InputError: they cannot.
    """
    for path in inputs:
        if os.path.isdir(path) and Path(folder).resolve().is_relative_to(Path(path).resolve()):
            raise InputError(f"{folder} is in {path}, which is read; sort into another folder")
    prepare_folder(folder, [])


def folder_name(answer: str) -> str:
    """Turn an answer into the name of a folder."""
    name = answer.translate(FORBIDDEN).strip()
    name = os.fsencode(name)[:LONGEST_NAME].decode(errors="ignore").rstrip(". ")
    return f"_{name}" if not name or name.startswith(".") else name


def _is_same(source: Path, place: Path) -> bool:
    """Tell whether a place has this photograph, or a copy of it."""
    try:
        return os.path.samefile(source, place) or filecmp.cmp(source, place, shallow=False)
    except OSError:  # a link that leads nowhere any more, or a folder
        return False
