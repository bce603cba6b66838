"""Folders: which files are photographs, of which categories, and what is left out."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from running.errors import InputError
from running.run_folder import RunFolder

# What is looked for in a folder, and the only formats (but for HEIC) that it is opened as.
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split()
)

# Nobody takes such files for photographs: notes, tables, settings, networks.
CLUTTER = frozenset(".txt .md .html .pdf .csv .json .xml .log .ini .db .pth .onnx".split())
RUN_FILES = frozenset(file.name for file in RunFolder("").files)

# Kinds of problems of a data folder.
UNREADABLE, LEFT_OUT = "folders that cannot be read", "files and folders that are left out"


def is_image_name(path: str | Path) -> bool:
    """Return whether the extension is that of an image."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def natural_key(text: str) -> tuple[list[int | str], str]:
    """Make a sort key that puts "2" before "10" and "rose 2" before "rose 10"."""
    parts = re.split("([0-9]+)", text)  # text and digits take turns, so that keys compare
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


def name_some(names: Sequence[str], most: int = 10) -> str:
    """List names in a sentence, the first ones where there are many."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def find_photographs(folder: str | Path, unreadable: list[str] | None = None) -> list[str]:
    """List the photographs in a folder and in the folders within it, sorted by path.

    Sentences on folders that cannot be read are added to `unreadable`; else InputError is raised.
    """
    return sorted(filter(is_image_name, _walk(folder, unreadable)))


def find_categories(
    folder: str, data_dir: str | Path, problems: dict[str, list[str]]
) -> dict[str, list[str]]:
    """List the photographs of each folder in `folder`, a split or `data_dir` itself, by its name.

    What is left out is added to the problems. Raises InputError if `folder` cannot be read.
    """
    above = (os.path.realpath(data_dir), os.path.realpath(folder))
    by_category = {}
    for entry in scan(folder):
        if not os.path.isdir(entry.path):
            if is_image_name(entry.name):
                problems[LEFT_OUT].append(f"{entry.path} is in no category's folder")
            continue
        files = sorted(_walk(entry.path, problems[UNREADABLE], above))
        photographs = [path for path in files if is_image_name(path)]
        train = os.path.join(entry.path, "train").lower()
        has_train = train in (os.path.dirname(os.path.dirname(p)).lower() for p in photographs)
        if has_train and folder == str(data_dir):
            reason = "is a data folder of its own: it has a folder train"
            problems[LEFT_OUT].append(f"{entry.path} {reason}")
            continue
        is_run = not RUN_FILES.isdisjoint(map(os.path.basename, files))
        if is_run:  # earlier versions of train.py drew pictures beside their files
            drawn = ("curves.", "confusion.", "mistakes.")
            photographs = [p for p in photographs if not os.path.basename(p).startswith(drawn)]
        if photographs or not is_run:
            by_category[entry.name] = photographs
        for path in files:
            if os.path.splitext(path)[1].lower() not in EXTENSIONS | CLUTTER:
                problems[LEFT_OUT].append(f"{path} is in no format that is read")
    return by_category


def _walk(
    folder: str | Path, unreadable: list[str] | None, above: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield the files in a folder and in those within it, but not in those `above`."""
    folders = [(str(folder), above)]
    while folders:
        here, above = folders.pop()
        real = os.path.realpath(here)
        if real in above:  # a link that leads back up
            continue
        try:
            entries = scan(here)
        except InputError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
            continue
        for entry in entries:
            is_file = entry.is_file(follow_symlinks=False)
            if entry.is_symlink():  # one that leads nowhere is named when it cannot be read
                is_file = os.path.isfile(entry.path) or not os.path.exists(entry.path)
            if is_file:
                yield entry.path
            elif os.path.isdir(entry.path):
                folders.append((entry.path, (*above, real)))


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """List what is not hidden in a folder, in no order; raise InputError if it cannot be read."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:  # no permission, a disk that fails
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
