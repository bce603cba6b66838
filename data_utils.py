"""The data folder: its splits, categories and names, and what is wrong with it.

Nothing here imports torch, so that whatever only looks at files answers at once.
Three words are kept apart everywhere: an *index* is an output of the network, 0..C-1;
a *category* is the name of a class's folder, such as "21"; a *name* is what people
call it, such as "fire lily".
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from images.batches import digest_each, load_batches
from images.categories import explain_lack
from images.decode import Preprocessing, load_image
from images.folders import find_photographs, natural_key
from images.manifest import Manifest
from images.splits import find_splits
from running.errors import ImageError, InputError
from running.files import is_special

__all__ = [
    "DataSet",
    "Preprocessing",
    "Split",
    "check_lines",
    "describe_data",
    "digest_each",
    "find_data",
    "find_names",
    "find_photographs",
    "inspect",
    "load_batches",
    "load_image",
    "load_names",
    "problem_lines",
    "require_usable",
]

NAMES_FILE = "cat_to_name.json"
HOME_NAMES = Path(__file__).with_name(NAMES_FILE)

# Bytes of the largest names file; a million names fit.
LARGEST_NAMES = 20_000_000

# Fewer photographs in train are warned of: not every fold that the head is judged by has one.
FEW = 3


# --- Splits and categories ------------------------------------------------------------


class Split(NamedTuple):
    """The photographs of one split: paths, and the index of each one's category (int64)."""

    paths: list[str]
    labels: np.ndarray


class DataSet(NamedTuple):
    """A data folder: categories in the order of the network's outputs, and its splits.

    `splits` has "train", "valid" and, where the folder has one, "test". The others are sentences
    for the user: `notes` about how it was divided, `gaps` about categories that are not in all
    splits, `left_out` about files and folders, and `unreadable` about folders that cannot be read.
    """

    folder: str | os.PathLike[str]
    categories: list[str]
    splits: dict[str, Split]
    notes: list[str]
    gaps: list[str]
    left_out: list[str]
    unreadable: list[str]

    @property
    def paths(self) -> list[str]:
        """The photographs of all splits."""
        return [path for split in self.splits.values() for path in split.paths]

    def summary(self) -> dict[str, Any]:
        """Say in plain data which folder this is and how much is in it, for a report."""
        sizes = {name: len(split.paths) for name, split in self.splits.items()}
        return {"folder": os.fspath(self.folder), "photographs": sizes}


def find_data(
    data_dir: str | os.PathLike[str],
    leave_out: Collection[str] = (),
    pinned: Mapping[str, str] = MappingProxyType({}),
) -> DataSet:
    """Find the photographs of `data_dir/{train,valid,test}/<category>/` and of folders within.

    The categories are the folders of train that hold a photograph, in natural order (2 before 10);
    the other splits are matched to them by folder name. Hidden files and folders are ignored.
    Missing splits are split off (see `images.splits.split_off`): a tenth of train for valid, or,
    where there are only folders of categories, a tenth each for valid and test. Nothing is copied
    or moved. The paths in `leave_out` count as not there; `pinned` has the splits of photographs
    that were split off before.

    Raises InputError if there is nothing to train on or to validate with.
    """
    layout = f"{data_dir}/{{train,valid,test}}/<category>/*.jpg"
    if not os.path.isdir(data_dir):
        what = "is not a folder" if os.path.exists(data_dir) else "does not exist"
        raise InputError(f"the data folder {data_dir} {what}")
    found, remarks = find_splits(data_dir, leave_out, pinned)
    if "train" not in found:
        raise InputError(f"{data_dir} has no folder train; expected {layout}")
    categories = sorted((c for c, paths in found["train"].items() if paths), key=natural_key)
    if len(categories) < 2:
        raise InputError(explain_lack(data_dir, found, remarks, layout))
    for category in categories:
        if not category.isprintable():
            raise InputError(f"the folder name {category!r} in {data_dir} cannot be printed")

    if remarks.only_within:  # as where the folders of the categories were meant
        remarks.notes.append(
            "all photographs are in folders within the categories' folders; the categories are "
            + name_some(categories)
        )
    splits, gaps = _match_categories(found, categories, remarks.split_off)
    if not splits["valid"].paths:
        raise InputError(
            f"{data_dir} has no photographs to validate with, and train can spare none: it has "
            "one of each category"
            if "valid" in remarks.split_off
            else f"no photographs of train's categories to validate with in {data_dir}; "
            f"expected {layout}"
        )
    if "test" in splits and not splits["test"].paths:
        del splits["test"]
    left_out = [f"{path} {reason}" for path, reason in sorted(remarks.left_out)]
    unreadable = sorted(remarks.unreadable)
    return DataSet(data_dir, categories, splits, remarks.notes, gaps, left_out, unreadable)


def _match_categories(
    found: Mapping[str, Mapping[str, list[str]]], categories: list[str], split_off: Collection[str]
) -> tuple[dict[str, Split], list[str]]:
    """Label each split's photographs by train's categories; list the gaps that are the folder's."""
    splits, gaps = {}, []
    for name, by_category in found.items():
        there = {category for category, paths in by_category.items() if paths}
        surplus = sorted(there - set(categories), key=natural_key)
        gaps += [
            f"{name} has {c}, which is left out: train has no photographs of it" for c in surplus
        ]
        expected = sorted(by_category, key=natural_key) if name == "train" else categories
        if name not in split_off:
            gaps += [f"{name} has no photographs of {c}" for c in expected if c not in there]
        paths = [by_category.get(category, []) for category in categories]
        labels = np.repeat(np.arange(len(categories)), [len(p) for p in paths])
        splits[name] = Split([path for each in paths for path in each], labels)
    return splits, gaps


def name_some(categories: Sequence[str], most: int = 10) -> str:
    """List categories in a sentence, the first ones where there are many."""
    more = len(categories) - most
    return ", ".join(categories[:most]) + (f" and {more} more" if more > 0 else "")


def describe_data(data: DataSet) -> Iterator[str]:
    """Say what was found in the data folder."""
    counts = np.bincount(data.splits["train"].labels)
    low, high = counts.min(), counts.max()
    yield (
        f"{data.folder}: "
        + ", ".join(f"{len(split.paths)} {name}" for name, split in data.splits.items())
        + f" photographs; {len(counts)} categories of {low}"
        + (f" to {high}" if high > low else "")
        + " in train"
    )
    yield from data.notes
    if "test" not in data.splits:
        yield "there is no test split: the figures at the end will be those of valid"


# --- What is wrong with it ------------------------------------------------------------


def find_problems(
    data: DataSet, unreadable: Iterable[ImageError], digests: dict[str, bytes], unnamed: list[str]
) -> dict[str, list[str]]:
    """List what is wrong with a data folder, by the kind of problem.

    `unreadable` are the errors of photographs, `digests` those of the readable ones by path, and
    `unnamed` the categories that the names file does not know.
    """
    first: dict[bytes, tuple[str, int, str]] = {}
    in_splits, in_categories, twice = [], [], []
    for name, split in data.splits.items():
        for path, label in zip(split.paths, split.labels.tolist(), strict=True):
            other, other_label, other_path = first.setdefault(digests[path], (name, label, path))
            if other_path == path:
                continue
            pair = f"{path} is {other_path}"
            if other != name:
                in_splits.append(pair)
            if other_label != label:
                in_categories.append(pair)
            elif other == name:
                twice.append(pair)
    counts = np.bincount(data.splits["train"].labels).tolist()
    return {
        "folders that cannot be read": data.unreadable,
        "files and folders that are left out": data.left_out,
        "photographs that cannot be read": [str(error) for error in unreadable],
        "photographs that appear in two splits": in_splits,
        "photographs that appear in two categories": in_categories,
        "photographs that appear twice in a category": twice,
        "categories that are not in all splits": data.gaps,
        f"categories with fewer than {FEW} photographs in train": [
            f"{category}: {count}"
            for category, count in zip(data.categories, counts)
            if count < FEW
        ],
        "categories without a name": unnamed,
    }


def fingerprint(data: DataSet, digests: Mapping[str, bytes]) -> str:
    """Sum up which photographs stand where, so that two data folders can be compared."""
    whole = hashlib.sha256()
    for name, split in data.splits.items():
        for path in split.paths:
            place = os.fsencode(f"{name}\0{os.path.relpath(path, data.folder)}\0")
            whole.update(place + digests[path])
    return whole.hexdigest()


class Inspected(NamedTuple):
    """What reading every photograph once has shown."""

    data: DataSet  # what can be read
    names: list[str]  # parallel to the categories
    names_source: str
    lost: list[str]  # categories without a readable photograph in train
    problems: dict[str, list[str]]  # see `find_problems`
    fingerprint: str
    digests: dict[str, bytes]  # by path

    def with_names(self, known: Mapping[str, str]) -> "Inspected":
        """Let categories keep names that they have."""
        names = [known.get(c, name) for c, name in zip(self.data.categories, self.names)]
        return self._replace(names=names)


def inspect(
    data: DataSet,
    names_file: str | os.PathLike[str] | None,
    results: Sequence[bytes | ImageError],
    seen: Manifest | None = None,
) -> Inspected:
    """Combine what `digest_each` has found out about `data.paths`.

    Splits that were split off are split off again without unreadable photographs; those in the
    manifest of an earlier run stay in its splits.
    """
    by_path = dict(zip(data.paths, results, strict=True))
    errors = {path: found for path, found in by_path.items() if isinstance(found, ImageError)}
    digests = {path: found for path, found in by_path.items() if isinstance(found, bytes)}
    before = seen.splits_by_digest() if seen else {}
    pinned = {path: before[found] for path, found in digests.items() if found in before}
    readable, leave_out = data, {*errors}
    if errors or pinned:
        readable = find_data(data.folder, leave_out, pinned)
    while late := {*readable.paths} - digests.keys():  # came while the others were read
        leave_out |= late
        readable = find_data(data.folder, leave_out, pinned)
    lost = [category for category in data.categories if category not in readable.categories]
    names, source, unnamed = find_names(readable.categories, data.folder, names_file)
    problems = find_problems(readable, errors.values(), digests, unnamed)
    identity = fingerprint(readable, digests)
    return Inspected(readable, names, source, lost, problems, identity, digests)


def check_lines(inspected: Inspected) -> Iterator[str]:
    """Say in a table what is in a data folder, and then all that is wrong with it."""
    data, problems = inspected.data, inspected.problems
    yield "split  photographs  categories  in each"
    for name, split in data.splits.items():
        counts = np.bincount(split.labels, minlength=len(data.categories))
        yield (
            f"{name:5}  {len(split.paths):11}  {(counts > 0).sum():10}  "
            f"{counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")
        )
    yield from ("", *data.notes, f"names: {inspected.names_source}", "")
    yield from (f"{len(found):6}  {kind}" for kind, found in problems.items())
    for kind, found in problems.items():
        if found:
            yield from ("", f"{kind}:", *(f"  {each}" for each in found))


def require_usable(inspected: Inspected, processes: int) -> None:
    """Raise InputError if so many processes cannot learn from the photographs."""
    if inspected.lost:
        raise InputError("no readable photograph left to train on of " + name_some(inspected.lost))
    for name, split in inspected.data.splits.items():
        if len(split.paths) < processes:
            raise InputError(
                f"{processes} processes cannot share out the photographs of {name}: "
                f"{len(split.paths)}"
            )


def problem_lines(problems: dict[str, list[str]], most: int) -> Iterator[str]:
    """Warn of what is wrong with the data, with at most so many examples of each kind."""
    for kind, found in problems.items():
        if found:
            yield f"warning: {kind}: {len(found)}"
            yield from (f"  {each}" for each in found[:most])
            if len(found) > most:
                yield f"  and {len(found) - most} more, which --check_data lists"


# --- Names ----------------------------------------------------------------------------


def load_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a JSON object that maps categories to names; raise InputError if it is another file."""
    try:
        if is_special(path) or os.path.getsize(path) > LARGEST_NAMES:
            raise InputError(f"the names file {path} is too large, or no file")
        names = json.loads(Path(path).read_text(encoding="utf-8-sig"))  # as Notepad may write it
    except OSError as error:
        raise InputError(f"the names file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the names file {path} is not JSON: {error}") from None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise InputError(
            f'the names file {path} must map categories to names, as in {{"21": "fire lily"}}'
        )
    for category, name in names.items():
        if not name.isprintable():
            raise InputError(
                f"the names file {path} gives {category!r} a name that cannot be printed: {name!r}"
            )
    return names


def find_names(
    categories: Sequence[str],
    data_dir: str | os.PathLike[str],
    names_file: str | os.PathLike[str] | None = None,
) -> tuple[list[str], str, list[str]]:
    """Return each category's name, where the names are from, and the categories without one there.

    They come from `names_file`, else from the data folder's own cat_to_name.json, else from the
    project's, but only where the categories are exactly its 102: a stranger's folders 1 to 10 are
    not these flowers. A category without a name is its own name. Raises InputError if the names
    file cannot be used, or names none of the categories.
    """
    typed = names_file
    if names_file is None and os.path.exists(own := Path(data_dir, NAMES_FILE)):
        names_file = own
    if names_file is not None:
        names, source = load_names(names_file), str(names_file)
    elif set(categories) == (home := load_names(HOME_NAMES)).keys():
        names, source = home, f"Oxford 102 Flowers ({NAMES_FILE} of this project)"
    else:
        names, source = dict(zip(categories, categories)), "the folders' names"
    if typed is not None and names.keys().isdisjoint(categories):
        raise InputError(f"the names file {typed} names none of the categories in {data_dir}")
    return (
        [names.get(category, category) for category in categories],
        source,
        [category for category in categories if category not in names],
    )


def describe_names(
    inspected: Inspected, known: Mapping[str, str], checkpoint: str | os.PathLike[str]
) -> Iterator[str]:
    """Describe where the names are from, if a checkpoint's categories keep theirs."""
    found, source = dict(zip(inspected.data.categories, inspected.names)), inspected.names_source
    others = len(found.keys() - known.keys())
    new = "1 category" if others == 1 else f"{others} categories"
    if others == len(found):
        yield f"names: {source}"
    else:
        yield f"names: {checkpoint}" + (f", and of {new} {source}" if others else "")
    differ = [c for c, name in found.items() if known.get(c, name) != name]
    if differ and os.path.isfile(source):
        first, are = differ[0], "differs" if len(differ) == 1 else "differ"
        yield (
            f"{len(differ)} of them {are} from {source}, as {known[first]} ({first}), which is "
            f"{found[first]} there; --category_names {source} takes those"
        )
