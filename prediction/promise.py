"""Promises: which names may be given so that at most a small share of them is wrong.

What a promise rests on is what the network made of the photographs of valid, from which it has not
learned. No assumption on the network is made, but one on the photographs: that those to be named
are like those of valid.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from formats.schema import CalibrationSet

CONFIDENCE = 0.95  # with which a promise is kept

# The tests of ever more names begin with these shares of valid's photographs, the safest ones. One
# certain mistake would end a sequence that begins with few; but a poor network is certain of few
# names, so that these have a sequence of their own where there are enough photographs. The second
# number is the part of the probability of an error that each sequence gets.
SEQUENCES = ((0.85, 0.8), (0.5, 0.1), (0.1, 0.1))

# What is suggested where a promise cannot be kept.
LESSER = (0.999, 0.998, 0.995, 0.99, 0.98, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5)

# The share of valid's photographs that are familiar enough for a name: the others look like nothing
# that was learned. docs/results.md has what other shares do.
FAMILIAR = 0.98

DIGITS = 1e5  # steps of a probability by which photographs are ranked


class Threshold(NamedTuple):
    """From which score on a name is given."""

    lowest: float
    share: float  # of valid's photographs that get a name, 0..1


def score(
    certainty: np.ndarray | np.floating, ood_score: np.ndarray | float, least: float
) -> np.ndarray:
    """Rank photographs by how safe their names are: (N,); -inf is never safe.

    Args:
        certainty: the probability of the best name, 0..1 (N,).
        familiarity: see `Prediction` (N,).
        least: what is less familiar gets no name.
    """
    # Rounded down, as the last digits differ between valid and predictions, checkpoint and ONNX.
    steps = np.floor(np.asarray(certainty, np.float64) * DIGITS)
    rounded = np.minimum(steps, DIGITS - 1) / DIGITS
    return np.where(np.asarray(ood_score) >= least, rounded, -np.inf)


def p_value(wrong: int, count: int, rate: float) -> float:
    """Say how probable at most so many mistakes of so many are, at a rate of mistakes 0..1."""
    logs, i = _log_factorials(count.bit_length()), np.arange(wrong + 1)
    ways = logs[count] - logs[i] - logs[count - i]
    return float(np.exp(ways + i * math.log(rate) + (count - i) * math.log1p(-rate)).sum())


@functools.cache
def _log_factorials(bits: int) -> np.ndarray:
    """Compute the logarithms of 0!, 1! and so on, for numbers of so many bits."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2**bits)))])


def count_needed(promise: float, error: float = 1 - CONFIDENCE) -> int:
    """Say how many photographs without a mistake show that a promise is kept."""
    return math.ceil(math.log(error) / math.log(promise))


def find_limit(
    scores: np.ndarray, correct: np.ndarray, promise: float, allowed: float = 1 - CONFIDENCE
) -> Threshold | None:
    """Find the lowest score from which on at most 1 - promise of the names are wrong.

    Whether that is so is tested for ever more of the photographs, those with the highest scores
    first, by the exact binomial test, until it is not shown (Learn then Test, with fixed sequences:
    Angelopoulos et al., arXiv 2110.01052, 2021).

    Args:
        scores: of photographs that nothing was learned from (V,), see `score`.
        correct: whether the best name of each is its own (V,), bool.
        promise: above 0 and below 1.
        allowed: the probability that the promise is not kept.
    """
    order = np.argsort(-scores, kind="stable")
    wrong = np.cumsum(~correct[order])
    # Those with the same score are named together.
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True)) + 1
    possible = int(np.isfinite(scores).sum())
    ends = ends[ends <= possible]
    found = 0
    # What cannot succeed leaves its part to the others.
    enough = [
        (share, part)
        for share, part in SEQUENCES
        if share * possible >= count_needed(promise, part * allowed)
    ] or SEQUENCES[:1]
    for share, part in enough:
        error = allowed * part / sum(part for _, part in enough)
        first = max(math.ceil(share * possible), count_needed(promise, error))
        for count in ends[ends >= first].tolist():
            if p_value(int(wrong[count - 1]), count, 1 - promise) > error:
                break
            found = max(found, count)
    if not found:
        return None
    return Threshold(float(scores[order[found - 1]]), found / len(scores))


def find_group_limit(
    named: np.ndarray, correct: np.ndarray, scores: np.ndarray, promise: float, allowed: float
) -> float:
    """Find the lowest score from which on a group is answered where no name was given.

    Of all answers together, names and groups, at most 1 - promise are wrong. inf: no group is safe.

    Args:
        named: whether a photograph got a name (V,), bool.
        correct: whether its answer, a name or else a group, is right (V,), bool.
        scores: of the groups (V,).
        promise: above 0 and below 1.
        allowed: the probability that the promise is not kept.
    """
    rest = np.flatnonzero(~named)
    count, wrong, lowest = int(named.sum()), int((named & ~correct).sum()), math.inf
    for here in np.unique(scores[rest][np.isfinite(scores[rest])])[::-1].tolist():
        together = rest[scores[rest] == here]
        count, wrong = count + len(together), wrong + int((~correct[together]).sum())
        if p_value(wrong, count, 1 - promise) > allowed:
            break
        lowest = here
    return lowest


def best_promise(scores: np.ndarray, correct: np.ndarray, allowed: float) -> float | None:
    """Find the highest promise of `LESSER` that can be kept; see `find_limit`."""
    kept: Iterator[float] = (p for p in LESSER if find_limit(scores, correct, p, allowed))
    return next(kept, None)


def find_set_limit(own: np.ndarray, promise: float) -> float | None:
    """Find the probability from which on a name belongs to the set that holds the right one.

    It does with the probability `promise`, over the photographs to be named and those of valid
    (split conformal prediction: Angelopoulos and Bates, arXiv 2107.07511, 2021).

    Args:
        own: the probability of each photograph's own category (V,).
        promise: 0..1.
    """
    rank = math.floor((len(own) + 1) * (1 - promise) + 1e-9)
    return float(np.sort(own)[rank - 1]) if rank else None


def sum_up(shares: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Add the probabilities (N, C) of the categories of each group: (N, G)."""
    return shares @ np.eye(groups.max() + 1)[groups]


class Known(NamedTuple):
    """What a network made of photographs whose categories are known."""

    certainty: np.ndarray  # the probability of the best name (V,)
    own: np.ndarray  # that of their own category (V,)
    correct: np.ndarray  # whether these are the same (V,), bool
    ood_score: np.ndarray  # (V,)

    @classmethod
    def of(
        cls, valid: CalibrationSet, only: np.ndarray | None = None, groups: np.ndarray | None = None
    ) -> "Known":
        """Look at what a network made of valid.

        Args:
            valid: that.
            only: the categories whose photographs count, and that can be answered (C,), bool.
            groups: the number of each category's group (C,): categories are summed up.
        """
        logs, labels, ood_scores = (np.asarray(each) for each in valid)
        logs = logs.astype(np.float64)
        if only is not None:
            rows = only[labels]
            logs, labels, ood_scores = (
                np.where(only, logs[rows], -np.inf),
                labels[rows],
                ood_scores[rows],
            )
        shares = np.exp(logs)
        shares /= shares.sum(1, keepdims=True)
        if groups is not None:
            shares, labels = sum_up(shares, groups), groups[labels]
        own = shares[np.arange(len(labels)), labels]
        return cls(shares.max(1, initial=0), own, shares.argmax(1) == labels, ood_scores)
