"""The photographs of a run, told by the content of their files, and what has changed since."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from images.folders import name_some, natural_key

DIGEST = 16  # bytes of what `digest_each` yields
NO_DIGESTS = np.empty((0, DIGEST), np.uint8)


class Manifest(NamedTuple):
    """The photographs that a run has learned from: split and category of each."""

    categories: list[str]
    splits: dict[str, tuple[np.ndarray, np.ndarray]]  # digests uint8 (n, DIGEST), labels int64 (n,)

    @classmethod
    def of(
        cls,
        categories: Sequence[str],
        splits: Mapping[str, tuple[Sequence[str], np.ndarray]],
        digests: Mapping[str, bytes],
    ) -> "Manifest":
        """Make it of paths and labels."""
        found = {}
        for name, (paths, labels) in splits.items():
            rows = np.frombuffer(b"".join(digests[path] for path in paths), np.uint8)
            found[name] = rows.reshape(-1, DIGEST), labels
        return cls([*categories], found)

    def places(self) -> Iterator[tuple[bytes, str, str]]:
        """Yield each photograph's digest, category and split."""
        for name, (digests, labels) in self.splits.items():
            for digest, label in zip(digests, labels.tolist(), strict=True):
                yield digest.tobytes(), self.categories[label], name

    def splits_by_digest(self) -> dict[bytes, str]:
        """Return the split of each photograph; those that are in two are left out."""
        found = _group((digest, split) for digest, _, split in self.places())
        return {digest: splits.pop() for digest, splits in found.items() if len(splits) == 1}


class Changes(NamedTuple):
    """How many photographs have changed, and which categories have come or gone."""

    added: int
    removed: int
    moved: int  # to another category
    resplit: int  # to another split, in the same category
    new: list[str]
    gone: list[str]
    renamed: dict[str, str]  # what these categories are now, whose photographs did not move

    def describe(self) -> str:
        """Spell it in a line."""
        words = ("added", "removed", "moved", "in another split")
        counts = [f"{number} {word}" for number, word in zip(self, words) if number]
        renamed = [f"{old} is {new} now" for old, new in self.renamed.items()]
        for word, names in (("new", self.new), ("removed", self.gone), ("renamed", renamed)):
            if names:
                kind = "category" if len(names) == 1 else "categories"
                counts.append(f"{len(names)} {word} {kind} ({name_some(names, 5)})")
        return ", ".join(counts) or "the same photographs"


def compare(before: Manifest, after: Manifest) -> Changes:
    """Find what has changed; equal files count as one photograph, whatever their names."""
    renamed = _find_renamed(before, after)
    earlier = _group((d, (renamed.get(c, c), split)) for d, c, split in before.places())
    later = _group((d, (c, split)) for d, c, split in after.places())
    common = earlier.keys() & later.keys()
    changed = [each for each in common if earlier[each] != later[each]]
    moved = sum({c for c, _ in earlier[each]} != {c for c, _ in later[each]} for each in changed)
    counts = len(later.keys() - common), len(earlier.keys() - common), moved, len(changed) - moved
    new = {*after.categories} - {*before.categories, *renamed.values()}
    gone = {*before.categories} - {*after.categories, *renamed}
    return Changes(*counts, sorted(new, key=natural_key), sorted(gone, key=natural_key), renamed)


def _find_renamed(before: Manifest, after: Manifest) -> dict[str, str]:
    """Find the categories whose folders have another name, and the names.

    All that is left of the old one's photographs, at least half, is in the new one, and no other's.
    """
    earlier = _group((category, digest) for digest, category, _ in before.places())
    later = _group((category, digest) for digest, category, _ in after.places())
    known, left = set().union(*earlier.values()), set().union(*later.values())
    new = {name: later[name] & known for name in later.keys() - earlier.keys()}
    renamed = {}
    for old in sorted(earlier.keys() - later.keys(), key=natural_key):
        common = earlier[old] & left
        found = [name for name, photographs in new.items() if photographs == common]
        if len(found) == 1 and 2 * len(common) >= len(earlier[old]):
            renamed[old] = found[0]
    return renamed


def _group(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, set[Any]]:
    groups = defaultdict[Any, set[Any]](set)
    for key, value in pairs:
        groups[key].add(value)
    return groups


def count_changed(before: Manifest, after: Manifest, renamed: Mapping[str, str]) -> int:
    """Count the photographs that came into train, or left it, or have another category there."""
    earlier = {d: renamed.get(c, c) for d, c, split in before.places() if split == "train"}
    later = {d: c for d, c, split in after.places() if split == "train"}
    return sum(earlier.get(digest) != later.get(digest) for digest in earlier.keys() | later.keys())


def count_known(learned: np.ndarray, manifest: Manifest) -> dict[str, int]:
    """Count the photographs of each split but train whose digests (n, DIGEST) are in `learned`."""
    digests = {name: {row.tobytes() for row in rows} for name, (rows, _) in manifest.splits.items()}
    known = {row.tobytes() for row in learned} - digests["train"]
    return {name: len(known & each) for name, each in digests.items() if name != "train"}
