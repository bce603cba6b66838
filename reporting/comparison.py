"""An earlier network and a new one on the same photographs: what became better, what worse."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

SHOWN = 5  # categories that became better or worse, in a line; report.json has all
LUCK = 0.05  # a rarer difference is more than that


def compare_networks(
    paths: Sequence[str],
    known: Sequence[str],
    logits: Mapping[str, np.ndarray],
    labels: np.ndarray,
    categories: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """Compare an earlier network with a new one on the same photographs of valid, paths (V,).

    What is of a category that the earlier one does not know counts as named wrongly by it. `known`
    are its categories, as they are called now; `logits` those of the networks "before" and "after"
    (V, C before), (V, C). Returns a part of report.json; docs/reference.md explains each entry.
    """
    index = {category: i for i, category in enumerate(categories)}
    own = np.array([index.get(category, -1) for category in known])
    index_of = {"before": own[logits["before"].argmax(1)], "after": logits["after"].argmax(1)}
    right = {key: indices == labels for key, indices in index_of.items()}
    change = right["after"].astype(int) - right["before"]
    by_category = np.zeros(len(categories), int)
    np.add.at(by_category, labels, change)
    order = np.argsort(-np.abs(by_category), kind="stable").tolist()

    def name_of(i: int) -> str | None:
        return names[i] if i >= 0 else None

    changed = [
        {
            "file": paths[i],
            "name": names[labels[i]],
            **{key: name_of(indices[i]) for key, indices in index_of.items()},
        }
        for i in np.argsort(change, kind="stable").tolist()
        if change[i]
    ]
    return {
        "changed": changed,
        "p_value": mcnemar(int((change > 0).sum()), int((change < 0).sum())),
        **{key: {"right": int(r.sum()), "share": float(r.mean())} for key, r in right.items()},
        "photographs": len(labels),
        "of_new_categories": int((~np.isin(labels, own)).sum()),
        "categories": [
            {
                "category": categories[i],
                "name": names[i],
                "more_right": int(by_category[i]),
                "photographs": int((labels == i).sum()),
            }
            for i in order
            if by_category[i]
        ],
    }


def mcnemar(better: int, worse: int) -> float:
    """Return how likely luck alone would be as uneven: the exact test, two-sided.

    McNemar, "Note on the sampling error of the difference between correlated proportions",
    Psychometrika 1947.
    """
    changed = better + worse
    tail = sum(math.comb(changed, i) for i in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**changed)


def comparison_lines(compared: Mapping[str, Any]) -> Iterator[str]:
    """Describe what `compare_networks` returned."""
    before, after = compared["before"], compared["after"]
    total, new = compared["photographs"], compared["of_new_categories"]
    line = (
        f"on the same photographs of valid: {before['share']:.2%} ({before['right']} of {total}) "
        f"with the earlier network, {after['share']:.2%} ({after['right']}) with this one"
    )
    if new:
        line += f"; {new} of them are of categories that the earlier one did not know"
    yield line
    changed = compared["changed"]
    if changed:
        better = sum(row["after"] == row["name"] for row in changed)
        luck = "more than luck" if compared["p_value"] < LUCK else "which may be luck"
        yield (
            f"{better} became right and {len(changed) - better} wrong, {luck} (exact McNemar test, "
            f"p = {compared['p_value']:.2g})"
        )
    for word, sign in (("better", 1), ("worse", -1)):
        rows = [row for row in compared["categories"] if sign * row["more_right"] > 0]
        if rows:
            yield (
                f"{word}: "
                + ", ".join(
                    f"{row['name']} ({row['more_right']:+} of {row['photographs']})"
                    for row in rows[:SHOWN]
                )
                + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
            )
    yield from compared["notes"]
