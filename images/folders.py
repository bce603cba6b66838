"""Folders of photographs: which files are some, and the order of names."""

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from running.errors import InputError
from running.run_folder import RunFolder

# What is looked for in a folder, and the only formats (but for HEIC) that it is opened as.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif"}
    | {".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)

# In a folder with one of these files, which is a run's, no picture is a photograph that earlier
# versions of train.py drew there.
RUN_FILES = frozenset(file.name for file in RunFolder("").files)
DRAWN = frozenset(
    name + end for name in ("curves", "confusion", "mistakes") for end in (".png", ".previous.png")
)


class Folder(NamedTuple):
    """The visible files of a folder, by their paths."""

    path: str
    photographs: list[str]
    others: list[str]


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Tell by the extension whether a file should be an image."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def find_photographs(
    folder: str | os.PathLike[str], on_error: Callable[[InputError], None] | None = None
) -> list[str]:
    """List the photographs in a folder and in the folders within it, sorted by path; see `walk`."""
    return sorted(path for each in walk(folder, on_error) for path in each.photographs)


def walk(
    folder: str | os.PathLike[str],
    on_error: Callable[[InputError], None] | None = None,
    above: tuple[str, ...] = (),
) -> Iterator[Folder]:
    """Yield a folder, and then the folders within it; links that lead back up are ignored.

    `above` are the folders above, with links resolved. A folder that cannot be read is passed to
    `on_error`, without which InputError is raised.
    """
    folders = [(os.fspath(folder), above)]
    while folders:
        here, above = folders.pop()
        real = os.path.realpath(here)
        if real in above:
            continue
        try:
            entries = visible(here)
        except InputError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        found = Folder(here, [], [])
        for entry in entries:
            if is_photograph(entry):
                found.photographs.append(entry.path)
            elif os.path.isfile(entry.path):
                found.others.append(entry.path)
            elif os.path.isdir(entry.path):
                folders.append((entry.path, (*above, real)))
        yield found


def visible(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List what is in a folder, but for hidden files and what earlier versions drew there."""
    entries = [entry for entry in scan(folder) if not entry.name.startswith(".")]
    if RUN_FILES.isdisjoint(entry.name for entry in entries):
        return entries
    return [entry for entry in entries if entry.name not in DRAWN]


def scan(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List what is in a folder, in no order; raise InputError if it cannot be read."""
    try:
        return list(os.scandir(folder))
    except OSError as error:  # no permission, a disk that fails
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None


def is_photograph(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry of a folder is a photograph that shall be seen, by its name."""
    if entry.name.startswith(".") or not is_image_name(entry.name):
        return False
    if entry.is_symlink():  # one that leads nowhere is listed, and named when it cannot be read
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def natural_key(text: str) -> tuple[list[int | str], str]:
    """Make a sort key that puts "2" before "10" and "rose 2" before "rose 10"."""
    parts = re.split("([0-9]+)", text)  # text and digits take turns, so that keys compare
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text
