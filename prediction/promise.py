"""Promises: the names that can be given so that at most a small share of them is wrong.

A promise rests on the calibration set: the network's outputs for the photographs of valid, which
it was not trained on, or for a random sample of the photographs to be named, which a person has
checked. Nothing is assumed about the network; with valid it is assumed that the photographs to be
named resemble it. (The literature calls this selective classification.)
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from formats.schema import CalibrationSet

Sequences: TypeAlias = Sequence[tuple[float, float]]

CONFIDENCE = 0.95  # the probability with which a promise is kept

# Each sequence of tests begins with this share of valid's photographs, the most certain ones, and
# adds less certain ones. A single confident mistake would end a sequence that begins with few; but
# a poor network is certain of few names, so these have sequences of their own where there are
# enough photographs. The second number is the sequence's part of the error probability.
SEQUENCES = ((0.85, 0.8), (0.5, 0.1), (0.1, 0.1))

# Of a sample that was checked there are few, and the network may be good or poor: one sequence
# begins with as few as can keep the promise.
SAMPLE_SEQUENCES = ((0.85, 0.5), (0.0, 0.5))

# What is suggested where a promise cannot be kept.
LESSER_PROMISES = (0.999, 0.998, 0.995, 0.99, 0.98, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5)

# The share of valid's photographs whose OOD score is high enough for a name; the others look like
# nothing in the training data. benchmarks/results/confidence.md compares other shares.
FAMILIAR = 0.98

DIGITS = 1e5  # 1 / the step of a probability in `score`


def score(
    certainty: np.ndarray | np.floating, ood_score: np.ndarray | float, least: float
) -> np.ndarray:
    """Rank photographs by how safe their names are: (N,); -inf is never safe.

    `certainty` is the probability of the best name, 0..1 (N,), `least` the lowest OOD score.
    """
    # Rounded down: the last digits differ between checkpoint and ONNX, and from batch to batch.
    steps = np.floor(np.asarray(certainty, np.float64) * DIGITS)
    rounded = np.minimum(steps, DIGITS - 1) / DIGITS
    return np.where(np.asarray(ood_score) >= least, rounded, -np.inf)


def restrict_set(valid: CalibrationSet, only: np.ndarray | None) -> CalibrationSet:
    """Leave out the photographs of categories that are not possible (C,), bool, and these, too."""
    if only is None:
        return valid
    rows = only[valid.labels]
    logs, labels, ood_scores = (np.asarray(array)[rows] for array in valid)
    return CalibrationSet(np.where(only, logs, -np.inf), labels, ood_scores)


def score_calibration(
    known: CalibrationSet, least: float, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Score the V photographs of the calibration set: (V,), and whether the best is correct (V,).

    With the number of each category's group (C,), groups are scored in place of categories. A
    negative label is of a photograph whose name is wrong.
    """
    labels, ood_scores = np.asarray(known.labels), np.asarray(known.ood_score)
    shares = np.exp(np.asarray(known.log_probabilities, np.float64))
    shares /= shares.sum(1, keepdims=True)
    if groups is not None:
        shares, labels = sum_groups(shares, groups), np.where(labels < 0, labels, groups[labels])
    return score(shares.max(1, initial=0), ood_scores, least), shares.argmax(1) == labels


def sum_groups(shares: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Add the probabilities (N, C) of the categories of each group: (N, G)."""
    return shares @ np.eye(groups.max() + 1)[groups]


def p_value(wrong: int, count: int, rate: float) -> float:
    """Return the binomial probability of at most `wrong` of `count`, at a rate of 0..1."""
    i = np.arange(1, wrong + 1)
    steps = np.log((count - i + 1) / i * rate / (1 - rate))  # from each term to the next
    return float(np.exp(np.cumsum([count * math.log1p(-rate), *steps])).sum())


def count_needed(promise: float, error: float = 1 - CONFIDENCE) -> int:
    """Return the number of photographs without a mistake that a promise takes."""
    return math.ceil(math.log(error) / math.log(promise))


def find_threshold(
    scores: np.ndarray,
    correct: np.ndarray,
    promise: float,
    error: float = 1 - CONFIDENCE,
    sequences: Sequences = SEQUENCES,
) -> float | None:
    """Find the lowest score from which on at most 1 - promise of the names are wrong.

    The exact binomial test is applied to ever more photographs, those with the highest scores
    first, until it fails (Learn then Test, with fixed sequences: Angelopoulos et al., arXiv
    2110.01052, 2021). Scores (V,) and whether each name is correct (V,) are of photographs that the
    network was not trained on; `error` is the probability that the promise is not kept.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, wrong = scores[order], np.cumsum(~correct[order])
    possible = int(np.isfinite(scores).sum())
    # Photographs with the same score are named together.
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True)) + 1
    ends = ends[ends <= possible]
    # A sequence that cannot succeed leaves its part to the others.
    sequences = [
        (share, part)
        for share, part in sequences
        if (share or 1) * possible >= count_needed(promise, part * error)
    ] or sequences[:1]
    found = 0
    for share, part in sequences:
        own_error = error * part / sum(part for _, part in sequences)
        first = max(math.ceil(share * possible), count_needed(promise, own_error))
        for count in ends[ends >= first].tolist():
            if p_value(int(wrong[count - 1]), count, 1 - promise) > own_error:
                break
            found = max(found, count)
    return float(ranked[found - 1]) if found else None


def find_group_threshold(
    named: np.ndarray, correct: np.ndarray, scores: np.ndarray, promise: float, error: float
) -> float:
    """Find the lowest score from which on a group is answered where no name is given.

    Of all answers together, names and groups, at most 1 - promise are wrong. `named` says whether a
    photograph gets a name (V,), `correct` whether its answer, a name or else a group, is correct
    (V,). inf: no group is safe.
    """
    rest = np.flatnonzero(~named)
    count, wrong, lowest = int(named.sum()), int((named & ~correct).sum()), math.inf
    for here in np.unique(scores[rest][np.isfinite(scores[rest])])[::-1].tolist():
        together = rest[scores[rest] == here]
        count, wrong = count + len(together), wrong + int((~correct[together]).sum())
        if p_value(wrong, count, 1 - promise) > error:
            break
        lowest = here
    return lowest
