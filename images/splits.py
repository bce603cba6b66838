"""Splits: which photographs are for training, validation and test.

A hash of category and file name divides what is not divided yet, the same on every machine.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from images.folders import scan
from running.errors import InputError

# What the folder of a split may be called, in small letters.
SPLIT_FOLDERS = {"train": ["train"], "valid": ["valid", "val", "validation"], "test": ["test"]}


def find_split_folders(data_dir: str | Path) -> dict[str, str]:
    """Find the folders of splits; raise InputError if two can be the same split."""
    entries = [entry for entry in scan(data_dir) if os.path.isdir(entry.path)]
    folders = {}
    for split, names in SPLIT_FOLDERS.items():
        there = sorted(entry.name for entry in entries if entry.name.lower() in names)
        if len(there) > 1:
            both = " and ".join(there)
            raise InputError(f"{data_dir} has {both}; only one can be the split {split}")
        if there:
            folders[split] = os.path.join(data_dir, there[0])
    return folders


def has_train(data_dir: str | Path) -> bool:
    """Whether there is a data folder with photographs to train on, by its folder train."""
    return os.path.isdir(data_dir) and "train" in find_split_folders(data_dir)


def split_off(
    by_category: Mapping[str, Sequence[str]],
    names: Sequence[str],
    pinned: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, list[str]]]:
    """Divide photographs into train and the named splits, a tenth for each of these.

    `split_hash` decides, so that a photograph stays in its split when others are added; `pinned`
    decides for those that have another name or category since. Two exceptions keep small sets
    usable: a category has at least one photograph in train, and valid, which is among the names, at
    least one, where train or test can spare it.
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
            split = pinned.get(path) or (names[int(tenth)] if leaves else "train")
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
    """Map a photograph to a number from 0 to below 10 that depends on nothing but its names."""
    name = os.fsencode(f"{category}/{os.path.basename(path)}")
    return int.from_bytes(hashlib.sha256(name).digest()[:6], "big") / 2**48 * 10


def assign_splits(
    by_category: Mapping[str, Sequence[str]], tenths: Sequence[str], rest: str
) -> dict[str, str]:
    """Give a tenth of each category's files to each of some splits, and the rest to another.

    Returns for each file its path, <split>/<category>/<file>. The files are ranked by `split_hash`.
    Ranks, unlike the values that `split_off` looks at, make the tenths exact: of a set that does
    not grow, no category shall be missing in a split by chance.
    """
    paths = {}
    for category, files in by_category.items():
        tenth = (len(files) + 5) // 10
        for rank, file in enumerate(sorted(files, key=partial(split_hash, category))):
            split = tenths[rank // tenth] if rank < tenth * len(tenths) else rest
            paths[file] = f"{split}/{category}/{file}"
    return paths
