"""Accuracy in all and by category, from labels, predictions and ranks.

Labels and predictions are indices 0..C-1 (int64).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


def rank_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the categories that scores (N, C) put before the label: int64 (N,), 0 is correct.

    The scores are logits or probabilities.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    # Among equal ones the first counts as the best, as with argmax.
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | (scores == own) & earlier).sum(1)


def wilson_interval(right: int, number: int) -> list[float]:
    """Say between which shares (0..1) 95 % of such intervals hold the true one.

    It is Wilson's ("Probable inference, the law of succession, and statistical inference", JASA
    1927): unlike the normal approximation, it also holds for few photographs, and where all of
    them are correct.

    Args:
        right: the correct ones, of
        number: all, above 0.
    """
    z2 = 1.959964**2  # of the normal distribution: 2.5 % are above 1.96
    centre = (right + z2 / 2) / (number + z2)
    half = math.sqrt(z2 * (right * (number - right) / number + z2 / 4)) / (number + z2)
    return [max(0.0, centre - half), min(1.0, centre + half)]


def summarise(
    labels: np.ndarray,
    predictions: np.ndarray,
    ranks: np.ndarray,
    categories: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """Sum up how well photographs were named: shares (0..1) and counts, in all and by category.

    Args:
        labels: what the photographs show (N,), N above 0.
        predictions: what they were taken for (N,).
        ranks: see `rank_of` (N,).
        categories: of the indices, as are the names.
        names: parallel to the categories.

    Returns:
        Plain data, for report.json. `hardest` and `confused` have five entries at most; where
        nothing was correct or taken for a category, precision, recall or f1 may be None.
    """
    count = np.bincount(labels, minlength=len(names))
    right = np.bincount(labels[ranks == 0], minlength=len(names))
    there = np.flatnonzero(count)
    wrong = count - right
    hardest = sorted(
        np.flatnonzero(wrong).tolist(), key=lambda i: (-wrong[i] / count[i], -wrong[i])
    )[:5]
    pairs = Counter(
        tuple(sorted(pair))
        for pair in zip(labels[ranks > 0].tolist(), predictions[ranks > 0].tolist())
    )
    return {
        "photographs": len(labels),
        **{f"top{k}": _share(int((ranks < k).sum()), len(labels)) for k in (1, 5)},
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
        "categories": _by_category(labels, predictions, right, categories, names),
    }


def _share(right: int, number: int) -> dict[str, Any]:
    return {"right": right, "share": right / number, "interval": wilson_interval(right, number)}


def _by_category(
    labels: np.ndarray,
    predictions: np.ndarray,
    right: np.ndarray,
    categories: Sequence[str],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Sum up each category; `right` counts its correct photographs (C,)."""
    count = np.bincount(labels, minlength=len(names))
    taken = np.bincount(predictions, minlength=len(names))

    def share(part: np.integer, whole: np.integer) -> float | None:
        return float(part / whole) if whole else None

    return [
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
    ]
