"""What more photographs would give: the learning curve of the head, carried on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reporting.calibration import fit_temperature, softmax

STEEPEST = 1.0  # twice as many photographs never leave less than half of the mistakes
FEWEST = 10  # mistakes of the head: fewer say nothing of how they become fewer
NAMED = 5  # categories


def measure_growth(
    half: np.ndarray, whole: np.ndarray, labels: np.ndarray, share: float
) -> dict[str, Any]:
    """Compare a head that has learned from about half of the photographs with one that knows all.

    Both logits (N, C) are of photographs that neither has learned from; labels are (N,). `share` is
    the exact part of the photographs that the first one knows. Returns `exponent`, by which the
    error falls as the photographs become more, and `gains`, how much more probable the right name
    has become on average in each category (C,); or nothing where there are too few mistakes.
    """
    count = len(labels)
    wrong = [int((logits.argmax(1) != labels).sum()) for logits in (half, whole)]
    if wrong[1] < FEWEST or share == 1:
        return {}
    exponent = min(math.log(max(wrong) / wrong[1]) / -math.log(share), STEEPEST)
    rows = np.arange(count)
    before, after = (
        softmax(logits / fit_temperature(logits, labels))[rows, labels] for logits in (half, whole)
    )
    gains = np.bincount(labels, after - before, whole.shape[1])
    counts = np.bincount(labels, minlength=whole.shape[1])
    return {"exponent": exponent, "gains": (gains / counts.clip(1)).tolist()}


def expect_growth(
    growth: Mapping[str, Any], accuracy: float, names: Sequence[str]
) -> dict[str, Any]:
    """Return the accuracy to expect with half and with twice as many photographs, for report.json.

    The error follows a power law of their number (Hestness et al., "Deep learning scaling is
    predictable, empirically", 2017), whose exponent is the head's.
    """
    factor = 2 ** growth["exponent"]
    gains = np.array(growth["gains"])
    order = np.argsort(-gains, kind="stable")[:NAMED]
    return {
        "half": max(0.0, 1 - (1 - accuracy) * factor),
        "twice": 1 - (1 - accuracy) / factor,
        "most_to_gain": [names[i] for i in order if gains[i] > 0],
    }


def growth_lines(growth: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences on what more photographs would give."""
    if growth["twice"] == growth["half"]:
        yield "more photographs like these would hardly help: the head is no better than with half"
        return
    yield (
        f"with twice as many photographs: about {growth['twice']:.1%} correct; with half of them: "
        f"about {growth['half']:.1%}"
    )
    if growth["most_to_gain"]:
        yield f"more photographs would help most: {', '.join(growth['most_to_gain'])}"
