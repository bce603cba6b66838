"""Splits: which photographs are for training, validation and test.

A hash of category and file name divides what is not divided yet, the same on every machine.
"""

import hashlib
import os
from collections.abc import Collection, Sequence
from functools import partial

from photographs.folders import is_photograph, scan
from running.errors import InputError

# What the folder of a split may be called, in small letters.
SPLIT_FOLDERS = {"train": ["train"], "valid": ["valid", "val", "validation"], "test": ["test"]}


def find_splits(
    data_dir: str | os.PathLike[str], leave_out: Collection[str]
) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """List the photographs of each split by category, and say which ones were split off.

    Without any split folder the categories' own folders are taken. "train" is missing
    where there are other splits without it; an empty "test" is dropped.

    Args:
        data_dir: it exists.
        leave_out: paths of photographs that count as not there.

    Returns:
        The paths by split and category, and sentences about what was split off.

    Raises:
        InputError: a folder cannot be read, or two folders can be the same split.
    """
    folders = [entry for entry in scan(data_dir) if os.path.isdir(entry.path)]
    found: dict[str, dict[str, list[str]]] = {}
    notes = []
    for split, names in SPLIT_FOLDERS.items():
        there = sorted(entry.name for entry in folders if entry.name.lower() in names)
        if len(there) > 1:
            raise InputError(
                f"{data_dir} has {' and '.join(there)}; only one can be the split {split}"
            )
        if there:
            found[split] = images_by_category(os.path.join(data_dir, there[0]), leave_out)
    if not found:
        found = split_off(images_by_category(data_dir, leave_out), ["valid", "test"])
        notes.append(
            f"{data_dir} has no splits: 80 % of the photographs are for training, 10 % "
            "for validation and 10 % for the test, by a hash of their names"
        )
    elif "train" in found and "valid" not in found:
        found |= split_off(found["train"], ["valid"])
        notes.append(
            f"{data_dir} has no valid: 10 % of train's photographs are for validation, "
            "by a hash of their names"
        )
    if not any(found.get("test", {}).values()):
        found.pop("test", None)
    return found, notes


def split_off(
    by_category: dict[str, list[str]], names: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Divide photographs into train and the named splits, a tenth for each of these.

    `split_hash` decides, so that a photograph stays in its split when others are added. Two
    exceptions keep small sets usable: a category has at least one photograph in train, and
    valid, which is among the names, at least one, where train can spare it.
    """
    splits: dict[str, dict[str, list[str]]] = {
        split: {category: [] for category in by_category} for split in ("train", *names)
    }
    for category, paths in by_category.items():
        tenths = {path: split_hash(category, path) for path in paths}
        kept = max(paths, key=tenths.__getitem__, default=None)
        for path, tenth in tenths.items():
            leaves = tenth < len(names) and path != kept
            splits[names[int(tenth)] if leaves else "train"][category].append(path)
    train, valid = splits["train"], splits["valid"]
    if by_category and not any(valid.values()):
        largest = max(train, key=lambda category: len(train[category]))
        if len(train[largest]) > 1:
            path = min(train[largest], key=partial(split_hash, largest))
            train[largest].remove(path)
            valid[largest].append(path)
    return splits


def split_hash(category: str, path: str) -> float:
    """Map a photograph to a number from 0 to below 10 that depends on nothing but its names."""
    name = os.fsencode(f"{category}/{os.path.basename(path)}")
    return int.from_bytes(hashlib.sha256(name).digest()[:6], "big") / 2**48 * 10


def images_by_category(
    split_dir: str | os.PathLike[str], leave_out: Collection[str]
) -> dict[str, list[str]]:
    """List each visible folder's photographs, sorted by file name."""
    return {
        folder.name: sorted(
            file.path for file in scan(folder) if is_photograph(file) and file.path not in leave_out
        )
        for folder in scan(split_dir)
        if not folder.name.startswith(".") and os.path.isdir(folder.path)
    }


def has_train(data_dir: str | os.PathLike[str]) -> bool:
    """Tell whether there is a data folder with photographs to train on, by its folder train."""
    return os.path.isdir(data_dir) and any(
        entry.name.lower() in SPLIT_FOLDERS["train"] and os.path.isdir(entry.path)
        for entry in scan(data_dir)
    )


def assign_splits(
    by_category: dict[str, list[str]], tenths: Sequence[str], rest: str
) -> dict[str, str]:
    """Give a tenth of each category's files to each of some splits, and the rest to another.

    The files are ranked by `split_hash`. Ranks, unlike the values that `split_off` looks at,
    make the tenths exact: of a set that does not grow, no category shall be missing in a split
    by chance.

    Returns:
        For each file its path, <split>/<category>/<file>.
    """
    paths = {}
    for category, files in by_category.items():
        tenth = (len(files) + 5) // 10
        for rank, file in enumerate(sorted(files, key=partial(split_hash, category))):
            split = tenths[rank // tenth] if rank < tenth * len(tenths) else rest
            paths[file] = f"{split}/{category}/{file}"
    return paths
