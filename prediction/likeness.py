"""Whether photographs are like those of valid, which a promise rests on.

Exact tests compare them: Fisher's, of how many look like nothing in the training data, and, of a
random sample, a permutation test of how often each category is the most probable one. They assume
nothing but that photographs like those of valid could have come in any order with them. Those of a
stream often come category by category, so that their mix is not compared.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from formats.schema import KEEP, CalibrationSet, Prediction

LOOKED_AT = 200  # photographs of a batch that are looked at before the first is named
FALSE_ALARM = 0.01  # the probability that photographs like those of valid are refused

FEWEST = 20  # photographs that are compared at all

# In a stream the test is made whenever the photographs have doubled, from FEWEST on, so that all
# LOOKS together, up to a million, raise no more false alarms than one does.
LOOKS = 16

# Permutations, in steps, until so many are as extreme (Besag & Clifford, "Sequential Monte Carlo
# p-values", Biometrika 1991): most are far from any limit.
PERMUTATIONS, STEP, EXTREME = 10_000, 500, 25

# Shares of valid's photographs that count as looking like nothing that is known.
UNLIKE = 0.02, 1 - KEEP


class Looks(NamedTuple):
    """What a network sees in some photographs."""

    total: int
    unlike: np.ndarray  # how many look like nothing in the training data, by `UNLIKE`: int64
    best: np.ndarray  # how often each category is the most probable one: int64 (C,)


class Likeness:
    """Compares photographs with those of valid.

    `valid` holds the photographs that may get a name; what is below the OOD score `lowest`, on
    either side, is unknown, and no part of the comparison.
    """

    def __init__(self, valid: CalibrationSet, names: Sequence[str], lowest: float = -math.inf):
        kept = valid.ood_score >= lowest
        scores, best = valid.ood_score[kept], valid.log_probabilities[kept].argmax(1)
        self.names, self.lowest = names, lowest
        self.limits = np.quantile(scores, UNLIKE) if len(scores) else np.full(len(UNLIKE), -np.inf)
        of_valid = np.bincount(best, minlength=len(names))
        self.valid = Looks(len(scores), (scores[:, None] < self.limits).sum(0), of_valid)
        self.batch = Looks(0, np.zeros_like(self.valid.unlike), np.zeros_like(self.valid.best))

    def add(self, prediction: Prediction) -> bool:
        """Count a photograph; return whether it is time to look again."""
        probabilities, ood_score = prediction
        if ood_score < self.lowest:
            return False
        count, unlike, best = self.batch
        best[int(probabilities.argmax())] += 1
        self.batch = Looks(count + 1, unlike + (ood_score < self.limits), best)
        times, rest = divmod(count + 1, FEWEST)
        return rest == 0 and times.bit_count() == 1 and times < 2**LOOKS

    def differ(self, is_stream: bool = False) -> str | None:
        """Say how the photographs differ from those of valid beyond chance, if they do.

        They are a random sample of the photographs, or all that have come so far in a stream.
        """
        batch, valid = self.batch, self.valid
        if batch.total < FEWEST or not valid.total:
            return None
        level = FALSE_ALARM / (LOOKS if is_stream else 2)  # of each kind of test
        said: list[str] = []
        for found, of_valid in zip(batch.unlike.tolist(), valid.unlike.tolist()):
            chance = tail(found, batch.total, found + of_valid, valid.total)
            if not said and chance <= level / len(UNLIKE):
                said.append(
                    f"{found / batch.total:.0%} look like nothing that the network has learned "
                    f"({of_valid / valid.total:.0%} of valid)"
                )
        if not is_stream and compare_counts(batch.best, valid.best) <= level:
            shares = batch.best / batch.total, valid.best / valid.total
            most = int((shares[0] - shares[1]).argmax())
            said.append(
                f"{shares[0][most]:.0%} look most like {self.names[most]} "
                f"({shares[1][most]:.0%} of valid)"
            )
        return f"of {batch.total} looked at, {' and '.join(said)}" if said else None


def tail(found: int, count: int, found_in_both: int, others: int) -> float:
    """Return the probability that chance puts at least `found` into the first part of a set.

    The set has `count` + `others` photographs, of which `found_in_both` are of a kind, and its
    first part is a random one of `count` (the hypergeometric distribution).
    """
    highest = min(count, found_in_both)
    terms = (
        log_choose(found_in_both, i) + log_choose(count + others - found_in_both, count - i)
        for i in range(found, highest + 1)
        if count - i <= count + others - found_in_both
    )
    whole = log_choose(count + others, count)
    return min(1.0, math.fsum(math.exp(term - whole) for term in terms))


def log_choose(count: int, chosen: int) -> float:
    """Return the logarithm of a binomial coefficient."""
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def compare_counts(one: np.ndarray, other: np.ndarray) -> float:
    """Return the p-value of the hypothesis that two counts of categories (C,) have one source.

    Pearson's chi-squared for two samples, among permutations of the photographs between them.
    """
    together = one + other
    seen = together > 0
    count, expected = one.sum(), together[seen] * (one.sum() / together.sum())
    own = ((one[seen] - expected) ** 2 / expected).sum()
    rng, extreme, drawn = np.random.default_rng(0), 0, 0
    while extreme < EXTREME and drawn < PERMUTATIONS:
        others = rng.multivariate_hypergeometric(together[seen], count, STEP, method="marginals")
        statistics = ((others - expected) ** 2 / expected).sum(1)
        # A little lower, so that what is equal but for rounding counts as equal.
        extreme += int((statistics >= own * (1 - 1e-9)).sum())
        drawn += STEP
    return (extreme + 1) / (drawn + 1)
