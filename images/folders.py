"""Folders: which files are photographs, of which categories and splits; new folders."""

import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from running.errors import InputError, RunError
from running.files import hold_lock, is_special
from running.run_folder import RunFolder

# What is looked for in a folder, and the only formats (but for HEIC) that it is opened as.
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .tif .tiff .avif .avifs".split()
    + ".heic .heif .hif".split()
)
# Nobody takes such files for photographs: notes, tables, settings, networks.
CLUTTER = frozenset(".txt .md .html .pdf .csv .json .xml .log .ini .db .pth .onnx .part".split())
# Folders that systems put among a user's own, in small letters: the last one keeps small pictures.
SYSTEM_FOLDERS = frozenset(
    ["lost+found", "$recycle.bin", "system volume information", "__macosx", "@eadir"]
)
FILE_NAME = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")  # unlike "St. John's wort" and "v1.2"
RUN_FILES = frozenset(
    file.name for file in (*RunFolder("").files, RunFolder("").data_report, RunFolder("").data_page)
)

# What the folder of a split may be called, in small letters.
SPLIT_FOLDERS = {"train": ["train"], "valid": ["valid", "val", "validation"], "test": ["test"]}

LARGEST_GROUP = 50  # photographs in a folder within a category's that are not divided

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


def normalise(name: str) -> str:
    """Spell a name as names are compared: a Mac may write é as e and an accent (Unicode NFD)."""
    return unicodedata.normalize("NFC", name)


def find_photographs(
    folder: str | Path,
    unreadable: list[str] | None = None,
    passed_over: list[str] | None = None,
) -> list[str]:
    """List the photographs in a folder and in the folders within it, sorted by path.

    Sentences on folders that cannot be read are added to `unreadable`; else InputError is raised.
    Files that might be photographs, but in no format that is read, are added to `passed_over`.
    """
    files = sorted(_walk(folder, unreadable))
    if passed_over is not None:
        passed_over += filter(_is_foreign, files)
    return [*filter(is_image_name, files)]


def find_categories(
    folder: str, data_dir: str | Path, problems: dict[str, list[str]]
) -> dict[str, list[str]]:
    """List the photographs of each folder in `folder`, a split or `data_dir` itself, by its name.

    What cannot be read or is left out is added to the problems.
    """
    above = (os.path.realpath(data_dir), os.path.realpath(folder))
    by_category: dict[str, list[str]] = {}
    for entry in sorted(_scan(folder), key=lambda entry: entry.name):
        try:
            if not _is_folder(entry, CLUTTER):
                if is_image_name(entry.name):
                    problems[LEFT_OUT].append(f"{entry.path} is in no category's folder")
                continue
        except InputError as error:
            problems[UNREADABLE].append(str(error))
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
            by_category.setdefault(normalise(entry.name), []).extend(photographs)
        for path in filter(_is_foreign, files):
            problems[LEFT_OUT].append(f"{path} is in no format that is read")
    return by_category


def find_beside(
    data_dir: str | Path, places: Mapping[str, str], problems: dict[str, list[str]]
) -> None:
    """Add photographs beside the folders of splits, and in folders beside them, to the problems."""
    for entry in _scan(data_dir):
        if entry.path in places.values():
            continue
        if is_image_name(entry.name) and not os.path.isdir(entry.path):
            problems[LEFT_OUT].append(f"{entry.path} is in no category's folder")
        elif os.path.isdir(entry.path):
            count = sum(map(is_image_name, _walk(entry.path, [], (os.path.realpath(data_dir),))))
            if count:
                photographs = "a photograph" if count == 1 else f"{count} photographs"
                reason = f"{entry.path}, with {photographs}, is in none of the splits' folders"
                problems[LEFT_OUT].append(reason)


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
            try:
                if _is_folder(entry):
                    folders.append((entry.path, (*above, real)))
                elif entry.is_file(follow_symlinks=False) or not is_special(entry.path):
                    yield entry.path
            except InputError as error:
                if unreadable is None:
                    raise
                unreadable.append(str(error))


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """List a user's entries in a folder, in no order; raise InputError if it cannot be read."""
    try:
        entries = [*os.scandir(folder)]
    except OSError as error:  # no permission, a disk that fails
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    return [
        entry
        for entry in entries
        if not entry.name.startswith(".") and entry.name.lower() not in SYSTEM_FOLDERS
    ]


def _is_folder(entry: os.DirEntry[str], files: Set[str] = frozenset()) -> bool:
    """Whether an entry is a folder, or a link to one; raise InputError if that cannot be seen.

    A folder whose disk has gone is not taken for one that was never there. What has the suffix of a
    file, of `files` or else any, counts as one, which is named when it cannot be read.
    """
    if not entry.is_symlink():
        with suppress(OSError):
            return entry.is_dir()
    try:
        return stat.S_ISDIR(os.stat(entry.path).st_mode)
    except OSError as error:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in EXTENSIONS | files or (not files and FILE_NAME.search(entry.name)):
            return False
        raise InputError(f"{entry.path} cannot be read: {error.strerror}") from None


def _is_foreign(path: str) -> bool:
    """Whether a file might be a photograph in a format that is not read."""
    return os.path.splitext(path)[1].lower() not in EXTENSIONS | CLUTTER


# --- Splits ---------------------------------------------------------------------------


def find_split_folders(data_dir: str | Path) -> dict[str, str]:
    """Find the folders of splits; raise InputError if two can be the same split."""
    entries = sorted(_scan(data_dir), key=lambda entry: entry.name)
    folders = {}
    for split, names in SPLIT_FOLDERS.items():
        there = [e.name for e in entries if e.name.lower() in names and _is_folder(e)]
        if len(there) > 1:
            raise InputError(f"{data_dir} has {' and '.join(there)}, of which only one can be used")
        if there:
            folders[split] = os.path.join(data_dir, there[0])
    return folders


def has_train(data_dir: str | Path) -> bool:
    """Whether there is a data folder with photographs to train on, by its folder train."""
    return os.path.isdir(data_dir) and "train" in find_split_folders(data_dir)


def split_off(
    by_category: Mapping[str, Sequence[str]],
    names: Sequence[str],
    known: Mapping[str, str | None],
    copies: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, list[str]]]:
    """Divide photographs into train and the named splits, valid among them: a tenth for each.

    `split_hash` decides, so that a photograph stays in its split when others are added; `known`
    has the splits of those that have another name or category since. Photographs of one folder
    within a category stay together, and so do `copies`, each with the path of another one: no
    network is tested by what it learned from. Small sets stay usable: each category has a
    photograph in train, and valid has some, where train or test can spare them.
    """
    splits: dict[str, dict[str, list[str]]] = {
        split: {category: [] for category in by_category} for split in ("train", *names)
    }
    train, valid = splits["train"], splits["valid"]
    groups = group_photographs(by_category, copies)
    tenths = {path: split_hash(*group) for path, group in groups.items()}
    # A group of two categories that stays for one of them stays for both.
    kept = {max(tenths[path] for path in paths) for paths in by_category.values() if paths}
    for category, paths in by_category.items():
        for path in paths:
            leaves = tenths[path] < len(names) and tenths[path] not in kept
            split = known.get(path) or (names[int(tenths[path])] if leaves else "train")
            splits.get(split, train)[category].append(path)
        if paths and not train[category]:  # all of them have come from other splits
            for split in names:
                here = splits[split][category]
                train[category] += [path for path in here if tenths[path] in kept]
                splits[split][category] = [path for path in here if tenths[path] not in kept]
    alone = {path: (group[0], os.path.basename(path)) for path, group in groups.items()}
    for together in (groups, alone):  # if all are copies, they part
        if not any(valid.values()):
            _fill_valid(splits, together)
    return splits


def _fill_valid(
    splits: dict[str, dict[str, list[str]]], groups: Mapping[str, tuple[str, str]]
) -> None:
    """Move a group of photographs to valid, of the category that can best spare one."""
    for name in ("train", "test"):
        spare = {
            category: paths
            for category, paths in splits.get(name, {}).items()
            if len({groups[path] for path in paths}) > (name == "train")
        }
        if spare:
            largest = max(spare, key=lambda category: len(spare[category]))
            first = groups[min(spare[largest], key=lambda path: split_hash(*groups[path]))]
            splits["valid"][largest] = [path for path in spare[largest] if groups[path] == first]
            spare[largest][:] = [path for path in spare[largest] if groups[path] != first]
            return


def group_photographs(
    by_category: Mapping[str, Sequence[str]], copies: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Map photographs to what stays together, by category and name: a folder, or copies of one.

    A folder within a category's is the outermost one that is small enough to be of one plant.
    """
    every = [path for paths in by_category.values() for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in every]) if every else ""

    def split(path: str, category: str) -> list[str]:  # from the category's folder on
        parts = os.path.relpath(path, common or os.curdir).split(os.sep)
        own = [i for i, part in enumerate(parts[:-1]) if normalise(part) == category]
        return parts[own[0] if own else 0 :]

    within = Counter[str]()
    for category, paths in by_category.items():
        for path in paths:
            parts = split(path, category)
            within.update(os.sep.join(parts[:i]) for i in range(2, len(parts)))
    groups = {}
    for category, paths in by_category.items():
        for path in paths:
            parts = split(path, category)
            most, name = min(LARGEST_GROUP, len(paths) - 1), parts[-1]
            for i in range(len(parts) - 1, 1, -1):
                if within[os.sep.join(parts[:i])] <= most:
                    name = " ".join(parts[1:i])
            groups[path] = category, name
    joined: dict[tuple[str, str], tuple[str, str]] = {}

    def find(group: tuple[str, str]) -> tuple[str, str]:
        while group in joined:
            group = joined[group]
        return group

    for path, first in copies.items():  # some are in another split, and join those that are here
        low, high = sorted(find(groups.get(each, ("", each))) for each in (path, first))
        if low != high:
            joined[high] = low
    return {path: find(group) for path, group in groups.items()}


def split_hash(category: str, path: str) -> float:
    """Map a photograph or folder to 0 to below 10, by its names alone: everywhere the same."""
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
    """Make a folder that appears when the block ends; what a killed one has left is removed.

    Raises InputError if another process is making it, RunError if it cannot be written.
    """
    lock, prefix = target.with_name(f".{target.name}.lock"), f".{target.name}."
    busy = f"another command is making {target}; wait for its end, or give another name"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            hold_lock(lock, busy, [target]),
            TemporaryDirectory(".tmp", prefix, target.parent) as temporary,
        ):
            new = Path(temporary, target.name)
            new.mkdir()
            yield new
            new.rename(target)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror or error}") from error
