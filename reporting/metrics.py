"""reporting/metrics.py"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


def rank_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the categories that scores (N, C) put before the right one: 0 is named rightly."""
    right = scores[np.arange(len(labels)), labels][:, None]
    # Among equal ones the first counts as the best, as with argmax.
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > right) | (scores == right) & earlier).sum(1)


def summarise(
    labels: np.ndarray,
    predictions: np.ndarray,
    ranks: np.ndarray,
    categories: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """Sum up how well photographs were named: shares and counts, in all and by category.

    Args:
        labels: what the photographs show (N,).
        predictions: what they were taken for (N,).
        ranks: see `rank_of` (N,).
        categories: of the indices, as are the names.
    """
    count = np.bincount(labels, minlength=len(names))
    taken = np.bincount(predictions, minlength=len(names))
    right = np.bincount(labels[ranks == 0], minlength=len(names))
    there = np.flatnonzero(count)

    def share(part: np.integer, whole: np.integer) -> float | None:
        return float(part / whole) if whole else None

    wrong = count - right
    hardest = sorted(np.flatnonzero(wrong), key=lambda i: (-wrong[i] / count[i], -wrong[i]))[:5]
    pairs = Counter(
        tuple(sorted(pair))
        for pair in zip(labels[ranks > 0].tolist(), predictions[ranks > 0].tolist())
    )
    return {
        "photographs": len(labels),
        **{
            f"top{k}": {"right": int((ranks < k).sum()), "share": float((ranks < k).mean())}
            for k in (1, 5)
        },
        "mean_category_accuracy": float((right[there] / count[there]).mean()),
        "hardest": [
            {
                "category": categories[i],
                "name": names[i],
                "right": int(right[i]),
                "photographs": int(count[i]),
            }
            for i in hardest
        ],
        "confused": [
            {
                "categories": [categories[i] for i in pair],
                "names": [names[i] for i in pair],
                "times": times,
            }
            for pair, times in pairs.most_common(5)
        ],
        "categories": [
            {
                "category": categories[i],
                "name": names[i],
                "photographs": int(count[i]),
                "taken_for_it": int(taken[i]),
                "right": int(right[i]),
                "precision": share(right[i], taken[i]),
                "recall": share(right[i], count[i]),
                "f1": share(2 * right[i], count[i] + taken[i]),
            }
            for i in range(len(names))
        ],
    }
