"""Folders: which files are photographs, of which categories and splits; new folders."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from running.errors import InputError, RunError
from running.run_folder import RunFolder

# What is looked for in a folder, and the only formats (but for HEIC) that it is opened as.
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split()
)
# Nobody takes such files for photographs: notes, tables, settings, networks.
CLUTTER = frozenset(".txt .md .html .pdf .csv .json .xml .log .ini .db .pth .onnx".split())
RUN_FILES = frozenset(file.name for file in RunFolder("").files)

# What the folder of a split may be called, in small letters.
SPLIT_FOLDERS = {"train": ["train"], "valid": ["valid", "val", "validation"], "test": ["test"]}

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

    What is left out is added to the problems.
    """
    above = (os.path.realpath(data_dir), os.path.realpath(folder))
    by_category = {}
    for entry in _scan(folder):
        if not os.path.isdir(entry.path):
            if is_image_name(entry.name):
                problems[LEFT_OUT].append(f"{entry.path} is in no category's folder")
            continue
        files = sorted(_walk(entry.path, problems[UNREADABLE], above))
        photographs = [path for path in files if is_image_name(path)]
        folders = {os.path.dirname(os.path.dirname(path)).lower() for path in photographs}
        if folder == str(data_dir) and os.path.join(entry.path, "train").lower() in folders:
            reason = f"{entry.path} is a data folder of its own: it has a folder train"
            problems[LEFT_OUT].append(reason)
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
            entries = _scan(here)
        except InputError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
            continue
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.path
            elif os.path.isdir(entry.path):
                folders.append((entry.path, (*above, real)))
            elif os.path.isfile(entry.path) or not os.path.exists(entry.path):
                yield entry.path  # a link that leads nowhere is named when it cannot be read


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """List what is not hidden in a folder, in no order; raise InputError if it cannot be read."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:  # no permission, a disk that fails
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None


# --- Splits ---------------------------------------------------------------------------


def find_split_folders(data_dir: str | Path) -> dict[str, str]:
    """Find the folders of splits; raise InputError if two can be the same split."""
    entries = sorted(entry.name for entry in _scan(data_dir) if os.path.isdir(entry.path))
    folders = {}
    for split, names in SPLIT_FOLDERS.items():
        there = [entry for entry in entries if entry.lower() in names]
        if len(there) > 1:
            raise InputError(f"{data_dir} has {' and '.join(there)}, of which only one can be used")
        if there:
            folders[split] = os.path.join(data_dir, there[0])
    return folders


def has_train(data_dir: str | Path) -> bool:
    """Whether there is a data folder with photographs to train on, by its folder train."""
    return os.path.isdir(data_dir) and "train" in find_split_folders(data_dir)


def split_off(
    by_category: Mapping[str, Sequence[str]], names: Sequence[str], known: Mapping[str, str | None]
) -> dict[str, dict[str, list[str]]]:
    """Divide photographs into train and the named splits, valid among them: a tenth for each.

    `split_hash` decides, so that a photograph stays in its split when others are added; `known`
    has the splits of those that have another name or category since. Small sets stay usable: each
    category has a photograph in train, and valid has one, where train or test can spare it.
    """
    splits: dict[str, dict[str, list[str]]] = {
        split: {category: [] for category in by_category} for split in ("train", *names)
    }
    train, valid = splits["train"], splits["valid"]
    for category, paths in by_category.items():
        tenths = {path: split_hash(category, path) for path in paths}
        kept = max(paths, key=tenths.__getitem__, default=None)
        for path, tenth in tenths.items():
            leaves = tenth < len(names) and path != kept
            split = known.get(path) or (names[int(tenth)] if leaves else "train")
            splits.get(split, train)[category].append(path)
        if kept and not train[category]:  # all of them have come from other splits
            for split in names:
                splits[split][category] = [path for path in splits[split][category] if path != kept]
            train[category].append(kept)
    if not any(valid.values()):
        spare = {c: paths for c, paths in train.items() if len(paths) > 1}
        spare = spare or {c: paths for c, paths in splits.get("test", {}).items() if paths}
        if spare:
            largest = max(spare, key=lambda category: len(spare[category]))
            path = min(spare[largest], key=partial(split_hash, largest))
            spare[largest].remove(path)
            valid[largest].append(path)
    return splits


def split_hash(category: str, path: str) -> float:
    """Map a photograph to a number from 0 to below 10, by its names alone: everywhere the same."""
    name = os.fsencode(f"{category}/{os.path.basename(path)}")
    return int.from_bytes(hashlib.sha256(name).digest()[:6], "big") / 2**48 * 10


def assign_splits(
    by_category: Mapping[str, Sequence[str]], tenths: Sequence[str], rest: str
) -> dict[str, str]:
    """Give each file a path, <split>/<category>/<file>: a tenth of each category to some splits.

    Ranks by `split_hash`, unlike the values that `split_off` looks at, make the tenths exact: of a
    set that does not grow, no category shall be missing in a split by chance.
    """
    paths = {}
    for category, files in by_category.items():
        tenth = (len(files) + 5) // 10
        for rank, file in enumerate(sorted(files, key=partial(split_hash, category))):
            split = tenths[rank // tenth] if rank < tenth * len(tenths) else rest
            paths[file] = f"{split}/{category}/{file}"
    return paths


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Make a folder that appears when the block ends; raise RunError if it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(".tmp", f".{target.name}.", target.parent) as temporary:
            new = Path(temporary, target.name)
            new.mkdir()
            yield new
            new.rename(target)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror or error}") from error
