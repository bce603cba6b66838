"""Photographs sorted into a folder for each answer, as links or copies."""

import filecmp
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from formats.schema import UNREADABLE
from prediction.records import Record
from running.errors import InputError, RunError
from running.files import prepare_folder

LONGEST_FOLDER, LONGEST_FILE = 200, 255  # bytes of a name; file systems take 255

# What some file system does not allow in the name of a folder.
PORTS = (f"{kind}{i}" for kind in ("COM", "LPT") for i in range(10))
DEVICES = {"CON", "PRN", "AUX", "NUL", *PORTS}  # of Windows
FORBIDDEN = dict.fromkeys(map(ord, '/\\:*?"<>|'), "_")


class Sorter:
    """Puts a link to each photograph, or a copy, into the folder of its answer.

    Whatever is there already stays as it is, so that a stopped job can be repeated. The originals
    are not touched.
    """

    def __init__(self, folder: str, copies: bool, names: Sequence[str] = ()):
        self.folder, self.copies = Path(folder), copies
        self.real = os.path.realpath(folder)
        self.done = Counter[str]()
        if UNREADABLE in (folder_name(name).casefold() for name in names):
            raise InputError(
                f"a category is called {UNREADABLE}, as the folder of what cannot be read is; "
                "--category_names can give it another name"
            )

    def sort(self, record: Record) -> None:
        """Link or copy a photograph, unless it is missing or in the folder itself."""
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
        """Link or copy a photograph, under a numbered name where another one has its name."""
        number, place = 0, wanted
        while True:
            if not os.path.lexists(place):
                with suppress(FileExistsError):  # another job was quicker: look again
                    return self._make(source, place)
            if _is_same(source, place):
                return "there already"
            number += 1
            end = f"_{number}{wanted.suffix}"
            stem = os.fsencode(wanted.stem)[: LONGEST_FILE - len(os.fsencode(end))]
            place = wanted.with_name(os.fsdecode(stem) + end)

    def _make(self, source: str, place: Path) -> str:
        if not self.copies:
            try:
                place.symlink_to(source)
                return "linked"
            except FileExistsError:
                raise
            except (OSError, NotImplementedError):  # a file system without links
                pass
        if not os.access(source, os.R_OK):
            return "not readable"
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as half:
            copy = shutil.copyfile(source, Path(half, "copy"))
            with suppress(OSError):  # exFAT and network drives may refuse modes and times
                shutil.copystat(source, copy)
            try:
                os.link(copy, place)  # whole at once, and unlike renaming it replaces nothing
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                open(place, "xb").close()
                os.replace(copy, place)
        return "copied"

    def summary(self) -> str:
        """Count what was done in a sentence."""
        kinds = ("linked", "copied", "there already", "missing", "not readable")
        counts = ", ".join(f"{self.done[kind]} {kind}" for kind in kinds if self.done[kind])
        return f"{self.folder}: {counts or 'no photographs'}"


def check_folder(folder: str, inputs: list[str]) -> None:
    """Make the folder; it must not be in one that is read, or it would be read the next time."""
    real = Path(os.path.realpath(folder))
    for path in inputs:
        if os.path.isdir(path) and real.is_relative_to(os.path.realpath(path)):
            raise InputError(f"{folder} is in {path}, which is read; sort into another folder")
    prepare_folder(folder, [])


def folder_name(answer: str) -> str:
    """Turn an answer into the name of a folder."""
    name = answer.translate(FORBIDDEN).strip()
    name = os.fsencode(name)[:LONGEST_FOLDER].decode(errors="ignore").rstrip(". ")
    is_device = name.split(".")[0].strip().upper() in DEVICES
    return f"_{name}" if not name or name.startswith(".") or is_device else name


def _is_same(source: str, place: Path) -> bool:
    """Return whether a place holds a link to this photograph, or a copy of it."""
    if os.path.islink(place):
        return os.readlink(place) == source
    with suppress(OSError):  # a folder, or one of them cannot be read
        return filecmp.cmp(source, place, shallow=False)
    return False
