"""Accuracy in all and by category. Labels and predictions are indices 0..C-1 (int64)."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


def rank_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the categories with a higher score than the label's: int64 (N,), 0 is correct.

    The scores (N, C) are logits or probabilities.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    # Among equal ones the first counts as the best, as with argmax.
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | (scores == own) & earlier).sum(1)


def wilson_interval(right: int, number: int) -> list[float]:
    """Return the 95 % confidence interval of a share of `right` among `number` photographs.

    It is Wilson's ("Probable inference, the law of succession, and statistical inference", JASA
    1927): unlike the normal approximation, it also holds for few photographs, and where all of
    them are correct.
    """
    z2 = 1.959964**2  # 2.5 % of the normal distribution are above 1.96
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
    """Summarise predictions as plain data for report.json: shares (0..1) and counts.

    Labels, predictions and ranks (see `rank_of`) are (N,), N above 0; categories and names (C,).
    Where a figure of a category is undefined, as nothing was of it or was given its name, it is
    None.
    """
    count, taken, right = (
        np.bincount(indices, minlength=len(names)).tolist()
        for indices in (labels, predictions, labels[ranks == 0])
    )
    rows = [
        {
            "category": categories[i],
            "name": names[i],
            "photographs": count[i],
            "taken_for_it": taken[i],
            "right": right[i],
            "precision": right[i] / taken[i] if taken[i] else None,
            "recall": right[i] / count[i] if count[i] else None,
            "f1": 2 * right[i] / (count[i] + taken[i]) if count[i] + taken[i] else None,
        }
        for i in range(len(names))
    ]
    hardest = sorted(
        (row for row in rows if row["right"] < row["photographs"]),
        key=lambda row: (row["recall"], row["right"] - row["photographs"]),
    )
    wrong = ranks > 0
    pairs = Counter(
        tuple(sorted(pair)) for pair in zip(labels[wrong].tolist(), predictions[wrong].tolist())
    )
    return {
        "photographs": len(labels),
        **{f"top{k}": _share(int((ranks < k).sum()), len(labels)) for k in (1, 5)},
        "mean_category_accuracy": float(
            np.mean([row["recall"] for row in rows if row["photographs"]])
        ),
        "hardest": [
            {key: row[key] for key in ("category", "name", "right", "photographs")}
            for row in hardest[:5]
        ],
        "confused": [
            {
                "categories": [categories[i] for i in pair],
                "names": [names[i] for i in pair],
                "times": times,
            }
            for pair, times in pairs.most_common(5)
            if times > 1  # what happened once may never happen again
        ],
        "categories": rows,
    }


def _share(right: int, number: int) -> dict[str, Any]:
    return {"right": right, "share": right / number, "interval": wilson_interval(right, number)}
