"""Folders of photographs: which files are some, and the order of names."""

import os
import re

from running.errors import InputError

# What is looked for in a folder, and the only formats (but for HEIC) that it is opened as.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif"}
    | {".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Tell by the extension whether a file should be an image."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def find_photographs(folder: str | os.PathLike[str]) -> list[str]:
    """List the photographs in a folder and in the folders within it, sorted by path.

    Hidden files and folders are ignored, and so is a link that leads back up.

    Raises:
        InputError: a folder cannot be read.
    """
    found: list[str] = []
    # Each with the folders above it, as they are without links.
    folders: list[tuple[str, tuple[str, ...]]] = [(os.fspath(folder), (os.path.realpath(folder),))]
    while folders:
        here, above = folders.pop()
        for entry in scan(here):
            if is_photograph(entry):
                found.append(entry.path)
            elif not entry.name.startswith(".") and os.path.isdir(entry.path):
                real = os.path.realpath(entry.path)
                if real not in above:
                    folders.append((entry.path, (*above, real)))
    return sorted(found)


def scan(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List what is in a folder, in no order.

    Raises:
        InputError: it cannot be read.
    """
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
