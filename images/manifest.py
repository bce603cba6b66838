"""What has changed in a data folder since a run learned from it: told by the files' content."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from images.folders import natural_key

DIGEST = 16  # bytes of what `digest_each` yields
NO_DIGESTS = np.empty((0, DIGEST), np.uint8)


class Manifest(NamedTuple):
    """The photographs that a run has learned from: where each one stood."""

    categories: list[str]
    splits: dict[str, tuple[np.ndarray, np.ndarray]]  # digests uint8 (n, DIGEST), labels int64 (n,)

    @classmethod
    def of(
        cls,
        categories: Sequence[str],
        splits: Mapping[str, tuple[Sequence[str], np.ndarray]],
        digests: Mapping[str, bytes],
    ) -> "Manifest":
        """Note where photographs stand.

        Args:
            categories: in the order of the indices.
            splits: paths and labels of each.
            digests: of the photographs, by path.
        """
        rows = {
            name: np.frombuffer(b"".join(digests[path] for path in paths), np.uint8)
            for name, (paths, _) in splits.items()
        }
        return cls(
            [*categories],
            {name: (rows[name].reshape(-1, DIGEST), splits[name][1]) for name in splits},
        )

    def places(self) -> Iterator[tuple[bytes, str, str]]:
        """Yield each photograph's digest, category and split."""
        for name, (digests, labels) in self.splits.items():
            for digest, label in zip(digests, labels.tolist(), strict=True):
                yield digest.tobytes(), self.categories[label], name

    def splits_by_digest(self) -> dict[bytes, str]:
        """Say in which split each photograph was; one that was in two is left out."""
        found: dict[bytes, set[str]] = {}
        for digest, _, split in self.places():
            found.setdefault(digest, set()).add(split)
        return {digest: splits.pop() for digest, splits in found.items() if len(splits) == 1}

    def count(self, split: str = "train") -> int:
        """Count the photographs of a split."""
        return len(self.splits[split][1])


class Changes(NamedTuple):
    """How many photographs have changed, and which categories have come or gone."""

    added: int
    removed: int
    moved: int  # to another category
    resplit: int  # to another split, in the same category
    new: list[str]
    gone: list[str]
    renamed: dict[str, str]  # what these categories are now, whose photographs did not move

    def describe(self, has_same_files: bool = False) -> str:
        """Say it in a line; `has_same_files`: whether they have the same names and splits, too."""
        photographs = {
            "added": self.added,
            "removed": self.removed,
            "moved": self.moved,
            "in another split": self.resplit,
        }
        said = [f"{number} {word}" for word, number in photographs.items() if number]
        renamed = [f"{old} is {new} now" for old, new in self.renamed.items()]
        for word, names in (("new", self.new), ("removed", self.gone), ("renamed", renamed)):
            if names:
                kind = "category" if len(names) == 1 else "categories"
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                said.append(f"{len(names)} {word} {kind} ({', '.join(names[:5])}{more})")
        nothing = "nothing" if has_same_files else "nothing but names of files"
        return ", ".join(said) or nothing


def compare(before: Manifest, after: Manifest) -> Changes:
    """Say what has changed; files that are equal count as one photograph, whatever their names."""
    renamed = find_renamed(before, after)
    earlier = _stand(before._replace(categories=[renamed.get(c, c) for c in before.categories]))
    later = _stand(after)
    common = earlier.keys() & later.keys()
    stay = [each for each in common if _categories(earlier[each]) == _categories(later[each])]
    return Changes(
        added=len(later.keys() - common),
        removed=len(earlier.keys() - common),
        moved=len(common) - len(stay),
        resplit=sum(earlier[each] != later[each] for each in stay),
        new=sorted({*after.categories} - {*before.categories, *renamed.values()}, key=natural_key),
        gone=sorted({*before.categories} - {*after.categories, *renamed}, key=natural_key),
        renamed=renamed,
    )


def find_renamed(before: Manifest, after: Manifest) -> dict[str, str]:
    """Find the categories that have another name: most of their photographs are there, as one.

    All that are left of the earlier category are in the new one, and none of another category
    is. Photographs may have been added.
    """
    earlier, later = _by_category(before), _by_category(after)
    known, left = set[bytes]().union(*earlier.values()), set[bytes]().union(*later.values())
    new = {name: later[name] & known for name in later.keys() - earlier.keys()}
    renamed = {}
    for old in sorted(earlier.keys() - later.keys(), key=natural_key):
        common = earlier[old] & left
        found = [name for name, photographs in new.items() if photographs == common]
        if len(found) == 1 and 2 * len(common) >= len(earlier[old]):
            renamed[old] = found[0]
    return renamed


def count_changed(before: Manifest, after: Manifest, renamed: Mapping[str, str]) -> int:
    """Count the photographs that came into train, or left it, or have another category there.

    `renamed`: what categories of before are now, see `find_renamed`.
    """
    earlier, later = (
        {
            digest: renamed.get(category, category)
            for digest, category, split in seen.places()
            if split == "train"
        }
        for seen in (before, after)
    )
    return sum(earlier.get(digest) != later.get(digest) for digest in earlier.keys() | later.keys())


def count_known(learned: np.ndarray, seen: Manifest) -> dict[str, int]:
    """Count the photographs of each split that a run has learned from, other than train's.

    `learned` are their digests: uint8 (n, DIGEST).
    """
    digests = {name: {row.tobytes() for row in rows} for name, (rows, _) in seen.splits.items()}
    known = {row.tobytes() for row in learned} - digests["train"]
    return {name: len(known & each) for name, each in digests.items() if name != "train"}


def _by_category(seen: Manifest) -> dict[str, set[bytes]]:
    """Collect the digests of each category's photographs."""
    found: dict[str, set[bytes]] = {category: set() for category in seen.categories}
    for digest, category, _ in seen.places():
        found[category].add(digest)
    return found


def _stand(seen: Manifest) -> dict[bytes, set[tuple[str, str]]]:
    """Say in which categories and splits each photograph stands."""
    found: dict[bytes, set[tuple[str, str]]] = {}
    for digest, category, split in seen.places():
        found.setdefault(digest, set()).add((category, split))
    return found


def _categories(places: set[tuple[str, str]]) -> set[str]:
    return {category for category, _ in places}
