"""What is answered to a prediction: a name, "unknown", or "review"."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from formats.schema import KEEP, NetworkInfo, Prediction
from prediction.promise import (
    CONFIDENCE,
    FAMILIAR,
    Known,
    Threshold,
    best_promise,
    count_needed,
    find_group_limit,
    find_limit,
    find_set_limit,
    p_value,
    score,
    sum_up,
)
from prediction.records import REVIEW, UNKNOWN, Guess, Record
from running.errors import FlowersError, InputError
from running.files import is_special

LARGEST_LIST = 20_000_000  # bytes of the file of --only

PROMISES = 0.99, 0.98, 0.95  # of which a network's file is described

# A mix is unlike that of valid where so much more than this share is as unfamiliar as the least
# familiar part of valid, and that is no chance.
UNFAMILIAR, MANY_TIMES, BY_CHANCE = 1 - KEEP, 2, 1e-3


class AnswerPolicy(NamedTuple):
    """What the user wants to be answered."""

    top_k: int = 5
    keep: float | None = None  # the share that keeps its names where the others are unknown
    promise: float | None = None
    sets: bool = False
    only: np.ndarray | None = None  # the categories that can be (C,), bool
    groups: Sequence[str] | None = None  # the name of each category's group


class Safe(NamedTuple):
    """What a photograph needs to get a name, for a promise."""

    probability: float  # of its best name, at least; a multiple of 1e-5
    ood_score: float  # at least
    share: float  # of valid's photographs that have both, 0..1


class Answers:
    """Answers predictions one after the other, and counts what it has answered.

    Args:
        info: what the network's file knows.
        names: parallel to the categories.
        rules: what the user wants.

    Raises:
        InputError: a promise cannot be kept.
    """

    def __init__(self, info: NetworkInfo, names: list[str], rules: AnswerPolicy):
        self.info, self.names, self.rules = info, names, rules
        self.lowest = -math.inf
        if rules.keep is not None:
            self.lowest = info.calibration.ood_threshold(rules.keep)
        self.limit: Threshold | None = None
        self.set_limit: float | None = None
        self.group_limit = math.inf
        if rules.promise is not None:
            self._promise(rules.promise)
        self.go_on(0, 0)

    def go_on(self, count: int, num_ood: int) -> None:
        """Count on behind what a stopped job has answered, of which some were unfamiliar."""
        self.count, self.num_ood = count, num_ood

    def _promise(self, promise: float) -> None:
        """Find the limit of a promise, or say why there is none."""
        if self.info.calibration.valid is None:
            raise InputError(
                "this file is of an earlier version, which kept too little of valid for promises; "
                "train again"
            )
        # What is unknown gets no name, so that the promise is about the others.
        self.least = max(self.info.calibration.ood_threshold(FAMILIAR), self.lowest)
        known = Known.of(self.info.calibration.valid, self.rules.only)
        if self.rules.sets:
            self.set_limit = find_set_limit(known.own, promise)
            if self.set_limit is None:
                least = math.ceil(1 / (1 - promise)) - 1
                raise InputError(
                    f"--sets --promise {promise} takes {least} photographs of valid; this file "
                    f"knows {len(known.own)}"
                )
            return
        scores = score(known.certainty, known.ood_score, self.least)
        # Where there are groups, names and groups may each be mistaken half as often.
        allowed = (1 - CONFIDENCE) / (2 if self.rules.groups else 1)
        self.limit = find_limit(scores, known.correct, promise, allowed)
        if self.limit is None:
            needed, count = count_needed(promise, allowed), int(np.isfinite(scores).sum())
            why = (
                f"it takes {needed} familiar photographs of valid without a mistake; this file "
                f"knows {count}"
                if count < needed
                else "the network is too often wrong on valid"
            )
            lesser = best_promise(scores, known.correct, allowed)
            what = f"--promise {lesser} can be kept" if lesser else "no promise can be kept"
            raise InputError(f"--promise {promise} cannot be kept: {why}; {what}")
        if self.rules.groups:
            self.group_names = sorted({*self.rules.groups})
            self.groups = np.array([self.group_names.index(name) for name in self.rules.groups])
            summed = Known.of(self.info.calibration.valid, self.rules.only, self.groups)
            named = scores >= self.limit.lowest
            correct = np.where(named, known.correct, summed.correct)
            group_scores = score(summed.certainty, summed.ood_score, self.least)
            self.group_limit = find_group_limit(named, correct, group_scores, promise, allowed)

    def restrict(self, result: Prediction | FlowersError) -> Prediction | FlowersError:
        """Leave of a prediction what can be, if that is some categories only."""
        only = self.rules.only
        if only is None or isinstance(result, FlowersError):
            return result
        shares = np.where(only, result.probabilities, 0.0).astype(np.float64)
        if shares.sum() == 0:  # below what float32 can tell from 0
            shares = only.astype(np.float64)
        return result._replace(probabilities=shares / shares.sum())

    def record(self, file: str, result: Prediction | FlowersError) -> Record:
        """Say of a prediction, or error, what is to be said."""
        if isinstance(result, FlowersError):
            return Record(file, [], "", result)
        probabilities, ood_score = result.probabilities, result.ood_score
        number = self.rules.top_k
        if self.set_limit is not None:
            number = int((probabilities >= self.set_limit).sum())
        if self.rules.only is not None:
            number = min(number, int(self.rules.only.sum()))
        best = np.argsort(-probabilities, kind="stable")[: max(1, number)].tolist()
        guesses = [
            Guess(self.names[i], self.info.categories[i], float(probabilities[i])) for i in best
        ]
        self.count += 1
        self.num_ood += ood_score < self.info.calibration.ood_threshold(KEEP)
        if ood_score < self.lowest:
            return Record(file, guesses, UNKNOWN, None)
        if self.set_limit is not None and number != 1:
            return Record(file, guesses, REVIEW, None)
        if self.limit:
            safe = score(probabilities[best[0]], ood_score, self.least)
            if safe < self.limit.lowest:
                return Record(file, guesses, self._group(result) or REVIEW, None)
        return Record(file, guesses, guesses[0].name, None, is_named=True)

    def _group(self, result: Prediction) -> str | None:
        """Find the group to answer with, where that is safe; one of one category is not."""
        if self.group_limit == math.inf:
            return None
        shares = sum_up(result.probabilities[None], self.groups)[0]
        best = int(shares.argmax())
        if score(shares[best], result.ood_score, self.least) < self.group_limit:
            return None
        return self.group_names[best] if (self.groups == best).sum() > 1 else None

    def is_right(self, record: Record, label: int) -> bool | None:
        """Tell whether an answer is right, where one was given to a photograph of a category.

        A set is right if it holds the category. None: there is no answer that could be.
        """
        category = self.info.categories[label]
        if record.error or (self.rules.only is not None and not self.rules.only[label]):
            return None
        if self.set_limit is not None:
            return category in [guess.category for guess in record.guesses]
        if record.is_named:
            return record.guesses[0].category == category
        if record.answer in (UNKNOWN, REVIEW):
            return None
        return self.rules.groups is not None and self.rules.groups[label] == record.answer

    def remarks(self) -> Iterator[str]:
        """Warn where the photographs of a promise, all together, look unlike those of valid."""
        if self.rules.promise is None or self.num_ood <= MANY_TIMES * UNFAMILIAR * self.count:
            return
        if 1 - p_value(self.num_ood - 1, self.count, UNFAMILIAR) > BY_CHANCE:
            return
        share = self.num_ood / self.count
        yield (
            f"warning: {share:.0%} of the photographs look unlike those of valid, of which "
            f"{UNFAMILIAR:.0%} did; a promise is for photographs that are alike"
        )


def find_promises(info: NetworkInfo) -> dict[float, Safe]:
    """Find what of a network's names is safe, for each of some promises that can be kept."""
    if info.calibration.valid is None:
        return {}
    known, least = Known.of(info.calibration.valid), info.calibration.ood_threshold(FAMILIAR)
    scores = score(known.certainty, known.ood_score, least)
    limits = {promise: find_limit(scores, known.correct, promise) for promise in PROMISES}
    return {
        promise: Safe(limit.lowest, least, limit.share)
        for promise, limit in limits.items()
        if limit
    }


def describe_promises(info: NetworkInfo) -> Iterator[str]:
    """Say from which probability on a network's names are safe, for applications."""
    for promise, safe in find_promises(info).items():
        yield (
            f"promise {promise}: names from the probability {safe.probability:.5f} and the "
            f"familiarity {safe.ood_score:.4f} on ({safe.share:.1%} of valid)"
        )


def promise_entries(info: NetworkInfo) -> dict[str, dict[str, float]]:
    """Say the same in plain data, for an exported file."""
    return {
        str(promise): {"probability": safe.probability, "familiarity": safe.ood_score}
        for promise, safe in find_promises(info).items()
    }


def match_groups(
    groups: Mapping[str, str], categories: Sequence[str], names: Sequence[str]
) -> list[str]:
    """Find the group of each category, by category or name; others are groups of their own.

    Raises:
        InputError: something that is grouped is no category, or a group's name is another's.
    """
    if not groups:
        raise InputError("--group: the file has no group")
    if unknown := sorted(groups.keys() - {*categories, *names}):
        raise InputError(f"--group: {', '.join(unknown[:10])}: no category or name of this network")
    found = [groups.get(c, groups.get(n)) for c, n in zip(categories, names)]
    alone = {name for name, group in zip(names, found) if group is None}
    if taken := sorted({*groups.values()} & {*alone, UNKNOWN, REVIEW}):
        raise InputError(f"--group: {taken[0]} cannot be a group: it means something else")
    return [group or name for name, group in zip(names, found)]


def match_only(wanted: Set[str], categories: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Find which categories can be: bool (C,), of categories or names.

    Raises:
        InputError: something is neither.
    """
    if unknown := sorted(wanted - {*categories, *names}):
        raise InputError(f"--only: {', '.join(unknown[:10])}: no category or name of this network")
    return np.array([c in wanted or n in wanted for c, n in zip(categories, names)])


def read_list(path: str | os.PathLike[str]) -> set[str]:
    """Read a file with a category or name on each line.

    Raises:
        InputError: the file cannot be read, or has none.
    """
    try:
        if is_special(path) or os.path.getsize(path) > LARGEST_LIST:
            raise InputError(f"{path} is too large, or no file")
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8") from None
    wanted = {line.strip() for line in lines} - {""}
    if not wanted:
        raise InputError(f"{path} names no category")
    return wanted
