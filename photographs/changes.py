"""What has changed in a data folder since a run learned from it: told by the files' content."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from photographs.folders import natural_key

DIGEST = 16  # bytes of what `digest_each` yields


class Seen(NamedTuple):
    """The photographs that a run has learned from: where each one stood."""

    categories: list[str]
    splits: dict[str, tuple[np.ndarray, np.ndarray]]  # digests uint8 (n, DIGEST), labels int64 (n,)

    @classmethod
    def of(
        cls,
        categories: Sequence[str],
        splits: Mapping[str, tuple[Sequence[str], np.ndarray]],
        digests: Mapping[str, bytes],
    ) -> "Seen":
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

    def describe(self) -> str:
        """Say it in a line."""
        photographs = {
            "added": self.added,
            "removed": self.removed,
            "moved": self.moved,
            "in another split": self.resplit,
        }
        said = [f"{number} {word}" for word, number in photographs.items() if number]
        for word, names in (("new", self.new), ("removed", self.gone)):
            if names:
                kind = "category" if len(names) == 1 else "categories"
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                said.append(f"{len(names)} {word} {kind} ({', '.join(names[:5])}{more})")
        return ", ".join(said) or "nothing but names of files"


def compare(before: Seen, after: Seen) -> Changes:
    """Say what has changed; files that are equal count as one photograph, whatever their names."""
    earlier, later = _stand(before), _stand(after)
    common = earlier.keys() & later.keys()
    moved = sum(_categories(earlier[each]) != _categories(later[each]) for each in common)
    stay = [each for each in common if _categories(earlier[each]) == _categories(later[each])]
    return Changes(
        added=len(later.keys() - common),
        removed=len(earlier.keys() - common),
        moved=moved,
        resplit=sum(earlier[each] != later[each] for each in stay),
        new=sorted({*after.categories} - {*before.categories}, key=natural_key),
        gone=sorted({*before.categories} - {*after.categories}, key=natural_key),
    )


def _stand(seen: Seen) -> dict[bytes, set[tuple[str, str]]]:
    """Say in which categories and splits each photograph stands."""
    found: dict[bytes, set[tuple[str, str]]] = {}
    for digest, category, split in seen.places():
        found.setdefault(digest, set()).add((category, split))
    return found


def _categories(places: set[tuple[str, str]]) -> set[str]:
    return {category for category, _ in places}
