"""Splits: which photographs are for training, validation and test.

A hash of category and file name divides what is not divided yet, the same on every machine.
"""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from images.categories import Remarks, images_by_category
from images.folders import scan
from running.errors import InputError

# What the folder of a split may be called, in small letters.
SPLIT_FOLDERS = {"train": ["train"], "valid": ["valid", "val", "validation"], "test": ["test"]}


def find_splits(
    data_dir: str | os.PathLike[str],
    leave_out: Collection[str],
    pinned: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, dict[str, list[str]]], Remarks]:
    """List the photographs of each split by category, and collect remarks on the folder.

    Without any split folder the categories' own folders are taken. "train" is missing where there
    are other splits without it; an empty "test" is dropped, and an empty "valid" counts as missing.
    Paths in `leave_out` count as not there; `pinned` has the splits of photographs that were
    divided before. Raises InputError if a folder cannot be read, or two folders can be the same
    split.
    """
    folders = find_split_folders(data_dir)
    remarks = Remarks(has_splits=bool(folders))
    top = (os.path.realpath(data_dir),)
    found = {split: images_by_category(path, remarks, top) for split, path in folders.items()}
    if not found:
        found = {"train": images_by_category(data_dir, remarks)}
        remarks.split_off = ["valid", "test"]
        lacks = f"{data_dir} has no splits"
    elif "train" in found and not any(found.get("valid", {}).values()):
        found.pop("valid", None)
        remarks.split_off = ["valid"]
        empty = folders.get("valid")
        lacks = f"{empty} has no photographs" if empty else f"{data_dir} has no valid"
    if leave_out:
        found = {
            split: {
                category: [path for path in paths if path not in leave_out]
                for category, paths in by_category.items()
            }
            for split, by_category in found.items()
        }
    if remarks.split_off:
        found |= split_off(found["train"], remarks.split_off, pinned)
        remarks.notes.append(f"{lacks}: {describe_split_off(found, remarks.split_off, pinned)}")
    if not any(found.get("test", {}).values()):
        found.pop("test", None)
    return found, remarks


def find_split_folders(data_dir: str | os.PathLike[str]) -> dict[str, str]:
    """Find the folders of splits; raise InputError if two can be the same split."""
    entries = [entry for entry in scan(data_dir) if os.path.isdir(entry.path)]
    folders = {}
    for split, names in SPLIT_FOLDERS.items():
        there = sorted(entry.name for entry in entries if entry.name.lower() in names)
        if len(there) > 1:
            raise InputError(
                f"{data_dir} has {' and '.join(there)}; only one can be the split {split}"
            )
        if there:
            folders[split] = os.path.join(data_dir, there[0])
    return folders


def describe_split_off(
    found: Mapping[str, Mapping[str, list[str]]],
    names: Sequence[str],
    pinned: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Say how many photographs, all of train's before, are for which split; see `split_off`."""
    train, *others = (sum(map(len, found[split].values())) for split in ("train", *names))
    if len(others) == 1:
        are = "is" if others[0] == 1 else "are"
        text = f"{others[0]} of train's {train + others[0]} photographs {are} for validation"
    else:
        text = (
            f"{train} photographs are for training, {others[0]} for validation and {others[1]} "
            "for the test"
        )
    stay = [
        pinned.get(path) == split
        for split in ("train", *names)
        for paths in found[split].values()
        for path in paths
    ]
    if any(stay):
        text += ", as in the earlier run"
    if not all(stay):
        text += f"{'; new ones' if any(stay) else ','} by a hash of their names"
    categories = sum(map(bool, found["train"].values()))
    for split in names:
        there = sum(map(bool, found[split].values()))
        if 0 < there < categories:
            text += f"; {split} has photographs of {there} of the {categories} categories"
    return text


def split_off(
    by_category: dict[str, list[str]],
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
    for category, paths in by_category.items():
        tenths = {path: split_hash(category, path) for path in paths}
        kept = max(paths, key=tenths.__getitem__, default=None)
        for path, tenth in tenths.items():
            leaves = tenth < len(names) and path != kept
            split = pinned.get(path) or (names[int(tenth)] if leaves else "train")
            splits[split if split in splits else "train"][category].append(path)
        if kept and not splits["train"][category]:  # all of them have come from other splits
            for name in names:
                splits[name][category] = [path for path in splits[name][category] if path != kept]
            splits["train"][category].append(kept)
    valid = splits["valid"]
    if not any(valid.values()):
        spare = {c: paths for c, paths in splits["train"].items() if len(paths) > 1}
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
