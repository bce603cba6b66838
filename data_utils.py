"""The data folder: its splits, categories and names, and what is wrong with it.

An *index* is an output of the network, 0..C-1; a *category* is the name of a class's folder, such
as "21"; a *name* is what people call it, such as "fire lily". Some imports are for applications.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from formats.schema import NO_NAMES
from images import folders
from images.copies import group_copies
from images.decode import Preprocessing, digest_each, load_batches, load_image  # noqa: F401
from images.folders import find_photographs  # noqa: F401
from images.manifest import Manifest
from running.errors import ImageError, InputError
from running.files import require_small_file
from running.recipe import FOLDS, LARGEST_JOINED, LEAST_VALID

NAMES_FILE = "cat_to_name.json"
HOME_NAMES = Path(__file__).with_name(NAMES_FILE)

FEW = 3  # a category with fewer photographs in train is not in every fold that judges the head

PLANTS = (
    "other photographs of one plant may be in two parts, which makes the figures at the end too "
    "good: put them into a folder of their own"
)
ALL_COPIES = (
    "all photographs of a category are copies, so that the networks are judged by what they have "
    "learned from: the figures are too good"
)

UNREADABLE_FILES = "photographs that cannot be read"
GAPS = "categories that are not in all splits"


class Split(NamedTuple):
    """The photographs of one split: paths, and the index of each one's category (int64)."""

    paths: list[str]
    labels: np.ndarray


class DataSet(NamedTuple):
    """A data folder: categories in the order of the network's outputs, and its splits."""

    folder: str | Path
    categories: list[str]
    splits: dict[str, Split]  # "train", "valid" and, where there is one, "test"
    notes: list[str]  # sentences on how it was divided
    split_off: list[str]  # the splits that it was divided into
    problems: dict[str, list[str]]  # sentences, by the kind of problem

    @property
    def paths(self) -> list[str]:
        """The photographs of all splits."""
        return [path for split in self.splits.values() for path in split.paths]

    def summary(self) -> dict[str, Any]:
        """Return which folder this is and how much is in it, as report.json has it."""
        sizes = {name: len(split.paths) for name, split in self.splits.items()}
        return {"folder": os.fspath(self.folder), "photographs": sizes}


def find_data(
    data_dir: str | Path,
    known: Mapping[str, str | None] | None = None,
    copies: Mapping[str, str] | None = None,
) -> DataSet:
    """Find the photographs of `data_dir/{train,valid,test}/<category>/` and of folders within.

    The categories are the folders of train that hold a photograph, in natural order (2 before 10);
    the other splits are matched to them by folder name. Missing splits are split off, without
    copying or moving anything: a tenth of train for valid, or, where there are only folders of
    categories, a tenth each for valid and test. Where photographs are `known`, by path, there are
    no others; some have the split that they were in before. `copies` stay together in what is split
    off, each with the path of another one. Raises InputError if there is nothing to train on or to
    validate with.
    """
    if not os.path.isdir(data_dir):
        what = "is not a folder" if os.path.exists(data_dir) else "does not exist"
        raise InputError(f"the data folder {data_dir} {what}")
    layout = f"expected {data_dir}/{{train,valid,test}}/<category>/*.jpg"
    places = folders.find_split_folders(data_dir)
    if places and "train" not in places:
        others = " and ".join(map(os.path.basename, places.values()))
        raise InputError(f"{data_dir} has no folder train beside {others}; {layout}")
    problems: dict[str, list[str]] = {folders.UNREADABLE: [], folders.LEFT_OUT: [], GAPS: []}
    found = {
        split: folders.find_categories(place, data_dir, problems)
        for split, place in (places or {"train": os.fspath(data_dir)}).items()
    }
    if places:
        folders.find_beside(data_dir, places, problems)
    for sentences in problems.values():
        sentences.sort()
    train = found["train"]
    found = {"train": train} | {split: here for split, here in found.items() if any(here.values())}
    missing = [] if "valid" in found else ["valid"] if places else ["valid", "test"]
    if known is not None:
        for by_category in found.values():
            for category, paths in by_category.items():
                by_category[category] = [path for path in paths if path in known]
    categories = sorted((c for c, paths in train.items() if paths), key=folders.natural_key)
    if len(categories) < 2:
        lack = f"one category only ({categories[0]})" if categories else "no photographs"
        why = (f"; {kind}: {len(s)}, such as {s[0]}" for kind, s in problems.items() if s)
        is_split = f"; {places['train']} is taken for the folder of a split" if places else ""
        raise InputError(f"{data_dir} has {lack} to train on; {layout}{is_split}{''.join(why)}")
    for category in categories:
        if not category.isprintable():
            raise InputError(f"the folder name {category!r} in {data_dir} cannot be printed")
    for split, by_category in found.items():  # gaps in what is split off are not the folder's
        problems[GAPS] += _find_gaps(split, by_category, train)
    notes = []
    if missing:
        before = known or {}
        found |= folders.split_off(train, missing, before, copies or {})
        how = "by a hash of names" + (", or as in the earlier run" if any(before.values()) else "")
        whole = places.get("train", data_dir)
        notes = [
            f"{' and '.join(missing)}: split off from {whole} {how}; copies, and folders within a "
            "category, are not divided",
            PLANTS,
        ]
    splits = {}
    for split, by_category in found.items():
        ours = [by_category.get(category, []) for category in categories]
        labels = np.repeat(np.arange(len(categories)), [*map(len, ours)])
        if len(labels):
            splits[split] = Split([path for paths in ours for path in paths], labels)
    if "valid" not in splits:
        raise InputError(
            f"{data_dir} has no photographs of train's categories to validate with"
            + (", and train can spare none" if missing else f"; {layout}")
        )
    return DataSet(data_dir, categories, splits, notes, missing, problems)


def join_valid(data: DataSet) -> DataSet:
    """Put a valid that is too small to judge by into train, and a test that was split off, too.

    The photographs are sorted by category and path, as if there had been no other splits.
    """
    count = len(data.splits["valid"].labels)
    if count >= LEAST_VALID or len(data.splits["train"].labels) > LARGEST_JOINED:
        return data
    joined = {"train", "valid", *data.split_off}
    parts = [split for name, split in data.splits.items() if name in joined]
    labels = np.concatenate([part.labels for part in parts])
    paths = [path for part in parts for path in part.paths]
    order = sorted(range(len(paths)), key=lambda i: (labels[i], paths[i]))
    train = Split([paths[i] for i in order], labels[order])
    splits = {"train": train} | {k: v for k, v in data.splits.items() if k not in joined}
    few = f"valid has {count} photographs, too few to judge by"
    how = "they are learned from, too"
    if data.split_off:
        few, how = f"{data.folder} is small", f"{' and '.join(data.split_off)} are not split off"
    note = f"{few}: {how}, and a {FOLDS}-fold cross-validation tells how good the network is"
    gaps = [gap for gap in data.problems[GAPS] if not gap.startswith("valid has no photographs")]
    problems = {**data.problems, GAPS: gaps}
    return data._replace(splits=splits, notes=[note, PLANTS], split_off=[], problems=problems)


def deal_folds(data: DataSet, digests: Mapping[str, bytes]) -> tuple[np.ndarray, bool]:
    """Deal train out to `FOLDS` folds (N,): of each category as many to each, if possible.

    Copies of one photograph are together, and those of a folder within a category. If that leaves
    no category in two folds, they part, and True is returned, too.
    """
    paths, labels = data.splits["train"]
    by_category: dict[str, list[str]] = {}
    for path, label in zip(paths, labels.tolist()):
        by_category.setdefault(data.categories[label], []).append(path)
    together = folders.group_photographs(by_category, _pair_copies(paths, digests))
    label_of = dict(zip(paths, labels.tolist()))
    for groups in (together, {path: (group[0], path) for path, group in together.items()}):
        dealt, fold_of = np.zeros((FOLDS, len(data.categories)), int), dict[tuple[str, str], int]()
        for path in sorted(paths, key=lambda path: folders.split_hash(*groups[path])):
            label = label_of[path]
            each = dealt[:, label] * len(paths) + dealt.sum(1)  # the category's count comes first
            fold = fold_of.setdefault(groups[path], int(each.argmin()))
            dealt[fold, label] += 1
        if ((dealt > 0).sum(0) > 1).any():
            break
    return np.array([fold_of[groups[path]] for path in paths]), groups is not together


def _find_gaps(
    split: str, by_category: Mapping[str, list[str]], train: Mapping[str, list[str]]
) -> Iterator[str]:
    """List the categories that only a split has, or has not."""
    for category in sorted(by_category.keys() | train.keys(), key=folders.natural_key):
        here, in_train = by_category.get(category), train.get(category)
        if here and not in_train:
            yield f"{split} has {category}, which is left out: train has no photographs of it"
        elif not here and (in_train or split == "train"):
            yield f"{split} has no photographs of {category}"


def describe_data(data: DataSet) -> Iterator[str]:
    """Describe in sentences what was found in the data folder."""
    sizes = ", ".join(f"{len(split.paths)} {name}" for name, split in data.splits.items())
    counts = np.bincount(data.splits["train"].labels)
    categories = f"{len(counts)} categories of {_spell_range(counts)} in train"
    yield f"{data.folder}: {sizes} photographs; {categories}"
    yield from data.notes
    if "test" not in data.splits and "valid" in data.splits:
        yield "there is no test split: the figures at the end will be those of valid"


def _spell_range(counts: np.ndarray) -> str:
    low, high = counts.min(), counts.max()
    return f"{low} to {high}" if high > low else f"{low}"


# --- What is wrong with it ------------------------------------------------------------


class Inspected(NamedTuple):
    """What reading every photograph once has shown."""

    data: DataSet  # what can be read
    names: list[str]  # parallel to the categories
    names_source: str
    problems: dict[str, list[str]]  # sentences, by the kind of problem
    fingerprint: str  # of which photographs stand where
    digests: dict[str, bytes]  # by path


def inspect(
    data: DataSet,
    names_file: str | Path | None,
    results: Sequence[bytes | ImageError],
    manifest: Manifest | None = None,
    joins: bool = False,
) -> Inspected:
    """Combine what `digest_each` has found out about `data.paths`.

    Splits that were split off are split off again without unreadable photographs; those in the
    manifest of an earlier run stay in its splits. If it `joins` them, a small valid is learned
    from, see `join_valid`.
    """
    found = [*zip(data.paths, results, strict=True)]
    digests = {path: digest for path, digest in found if isinstance(digest, bytes)}
    errors = [str(error) for error in results if isinstance(error, ImageError)]
    before = manifest.splits_by_digest() if manifest else {}
    known = {path: before.get(digest) for path, digest in digests.items()}
    copies = _pair_copies([*digests], digests) if data.split_off else {}
    before_reading = data.splits
    if errors or copies or any(known.values()):
        try:
            data = find_data(data.folder, known, copies)  # without what has come since
        except InputError:
            if not errors:
                raise
            raise InputError(
                f"{len(errors)} of the {len(found)} photographs in {data.folder} cannot be read, "
                f"and too few are left to train on: {errors[0]}"
            ) from None
    if joins:
        data = join_valid(data)
    for name, (paths, _) in before_reading.items():
        if not any(map(os.path.exists, paths)):
            raise InputError(f"{data.folder} has lost its {name} while it was read; try again")
    names, source, unnamed = find_names(data.categories, data.folder, names_file)
    counts = zip(data.categories, np.bincount(data.splits["train"].labels).tolist())
    problems = {
        folders.UNREADABLE: data.problems[folders.UNREADABLE],
        folders.LEFT_OUT: data.problems[folders.LEFT_OUT],
        UNREADABLE_FILES: errors,
        **_find_copies(data, digests),
        GAPS: data.problems[GAPS],
        f"categories with fewer than {FEW} photographs in train": [
            f"{category}: {count}" for category, count in counts if count < FEW
        ],
        "categories without a name": unnamed,
        "categories named like an answer of predict.py": [
            f"{name} is what predict.py answers without a name; --category_names can rename it"
            for name in names
            if name.casefold() in NO_NAMES
        ],
    }
    whole = hashlib.sha256()
    for name, split in data.splits.items():
        for path in split.paths:
            place = os.fsencode(f"{name}\0{os.path.relpath(path, data.folder)}\0")
            whole.update(place + digests[path])
    return Inspected(data, names, source, problems, whole.hexdigest(), digests)


def _pair_copies(paths: Sequence[str], digests: Mapping[str, bytes]) -> dict[str, str]:
    """Pair photographs with the first one of the same file, or that looks the same."""
    by_digest: dict[bytes, str] = {}
    copies = {path: by_digest.setdefault(digests[path], path) for path in paths}
    for path, group in zip(paths, group_copies(paths).tolist()):
        if paths[group] != path:
            copies[path] = paths[group]
    return {path: first for path, first in copies.items() if path != first}


def _find_copies(data: DataSet, digests: Mapping[str, bytes]) -> dict[str, list[str]]:
    """List the photographs that appear twice, by where they do."""
    kinds = "in two splits", "in two categories", "twice in a category"
    copies: dict[str, list[str]] = {f"photographs that appear {kind}": [] for kind in kinds}
    in_splits, in_categories, twice = copies.values()
    first: dict[bytes, tuple[str, int, str]] = {}
    for name, split in data.splits.items():
        for path, label in zip(split.paths, split.labels.tolist()):
            other, other_label, other_path = first.setdefault(digests[path], (name, label, path))
            pair = f"{path} is {other_path}"
            if other != name:
                in_splits.append(pair)
            if other_label != label:
                in_categories.append(pair)
            elif other == name and other_path != path:
                twice.append(pair)
    return copies


def require_readable_folders(data: DataSet) -> None:
    """Raise InputError if a folder cannot be read: what is in it would be lost without a word."""
    if unreadable := data.problems[folders.UNREADABLE]:
        more = f"; {len(unreadable)} folders cannot be read" if unreadable[1:] else ""
        raise InputError(unreadable[0] + more)


def require_usable(before: DataSet, inspected: Inspected, processes: int) -> None:
    """Raise InputError if processes cannot learn all categories from what can be read."""
    data, errors = inspected.data, inspected.problems[UNREADABLE_FILES]
    if lost := [category for category in before.categories if category not in data.categories]:
        paths, labels = before.splits["train"]
        first = paths[labels.tolist().index(before.categories.index(lost[0]))]
        why = next((error for error in errors if error.startswith(first)), f"{first} is missing")
        lack = folders.name_some(lost)
        raise InputError(f"no readable photograph left to train on of {lack}: {why}")
    for name, split in data.splits.items():
        if len(split.paths) < processes:
            few = f"share out the photographs of {name}: {len(split.paths)}"
            raise InputError(f"{processes} processes cannot {few}")


def check_lines(inspected: Inspected) -> Iterator[str]:
    """Yield a table of what is in a data folder, and then all that is wrong with it."""
    data, problems = inspected.data, inspected.problems
    yield "split  photographs  categories  in each"
    for name, split in data.splits.items():
        counts = np.bincount(split.labels, minlength=len(data.categories))
        yield f"{name:5}  {len(split.paths):11}  {(counts > 0).sum():10}  {_spell_range(counts)}"
    yield from ("", *data.notes, f"names: {inspected.names_source}", "")
    yield from (f"{len(found):6}  {kind}" for kind, found in problems.items())
    for kind, found in problems.items():
        if found:
            yield from ("", f"{kind}:", *(f"  {each}" for each in found))


def problem_lines(problems: dict[str, list[str]], most: int) -> Iterator[str]:
    """Yield warnings of what is wrong with the data, with at most so many examples of each kind."""
    for kind, found in problems.items():
        if found:
            yield f"warning: {kind}: {len(found)}"
            yield from (f"  {each}" for each in found[:most])
            if len(found) > most:
                yield f"  and {len(found) - most} more, which --check_data lists"


# --- Names ----------------------------------------------------------------------------


def load_names(path: str | Path, flag: str = "the names file") -> dict[str, str]:
    """Read a JSON object that maps categories to names; raise InputError if it is another file.

    `flag` is what the sentence calls it.
    """
    try:
        require_small_file(path, flag)
        names = json.loads(Path(path).read_text(encoding="utf-8-sig"))  # as Notepad may write it
    except OSError as error:
        raise InputError(f"{flag} {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{flag} {path} is not JSON: {error}") from None
    values = names.values() if isinstance(names, dict) else [None]
    if not all(isinstance(name, str) and name.strip() and name.isprintable() for name in values):
        example = '{"21": "fire lily"}'
        raise InputError(f"{flag} {path} must map categories to names, as in {example}")
    return {folders.normalise(category): name for category, name in names.items()}


def find_names(
    categories: Sequence[str], data_dir: str | Path, names_file: str | Path | None = None
) -> tuple[list[str], str, list[str]]:
    """Return each category's name, where the names are from, and the categories without one there.

    They come from `names_file`, else from the data folder's own cat_to_name.json, else from the
    project's, but only where the categories are exactly its 102: a stranger's folders 1 to 10 are
    not these flowers. A category without a name is its own name. Raises InputError if the names
    file cannot be used, or names none of the categories.
    """
    own = Path(data_dir, NAMES_FILE)
    if names_file is not None or os.path.lexists(own):
        source = str(own if names_file is None else names_file)
        names = load_names(source)
    elif set(categories) == (home := load_names(HOME_NAMES)).keys():
        names, source = home, f"Oxford 102 Flowers ({NAMES_FILE} of this project)"
    else:
        names, source = dict(zip(categories, categories)), "the folders' names"
    if names_file is not None and names.keys().isdisjoint(categories):
        raise InputError(f"the names file {source} names none of the categories in {data_dir}")
    unnamed = [category for category in categories if category not in names]
    return [names.get(category, category) for category in categories], source, unnamed


def keep_names(
    inspected: Inspected, known: Mapping[str, str], checkpoint: str | Path
) -> tuple[list[str], str]:
    """Return each category's name, a checkpoint's if that is known, and a line on their source."""
    found = dict(zip(inspected.data.categories, inspected.names))
    sources = [str(checkpoint)] if found.keys() & known.keys() else []
    if found.keys() - known.keys():
        sources.append(inspected.names_source)
    names = [known.get(category, name) for category, name in found.items()]
    line, source = f"names: {', then '.join(sources)}", inspected.names_source
    if names != inspected.names and os.path.isfile(source):
        line += f"; {source} has others, which --category_names {source} takes"
    return names, line
