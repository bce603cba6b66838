"""The answer to a prediction: a name, a group, "unknown" or "review"."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from formats.schema import REVIEW, UNKNOWN, CalibrationSet, NetworkInfo, Prediction
from images.folders import normalise
from prediction.likeness import Likeness
from prediction.promise import (
    CONFIDENCE,
    FAMILIAR,
    LESSER_PROMISES,
    SAMPLE_SEQUENCES,
    SEQUENCES,
    count_needed,
    find_group_threshold,
    find_threshold,
    restrict_set,
    score,
    score_calibration,
    sum_groups,
)
from prediction.records import Guess, Record
from reporting.calibration import softmax
from reporting.report import EvaluatedSplit
from running.errors import FlowersError, InputError
from running.files import require_small_file

PROMISES = 0.99, 0.98, 0.95  # those that --info and an exported file describe


class Answers:
    """Answers predictions one after the other.

    `names` are parallel to the categories. The share `keep` of valid's photographs keeps its names,
    and what looks less familiar is unknown. `only` are the categories that are possible (C,), bool,
    `groups` the name of each category's group. A promise rests on `sample`, photographs of the
    batch that a person has checked, or else on valid; then the `likeness` of the batch tells
    whether that is possible. Raises InputError if the promise cannot be kept.
    """

    def __init__(
        self,
        info: NetworkInfo,
        names: list[str],
        top_k: int = 5,
        keep: float | None = None,
        promise: float | None = None,
        only: np.ndarray | None = None,
        groups: Sequence[str] | None = None,
        sample: CalibrationSet | None = None,
    ):
        self.info, self.names, self.promise, self.only = info, names, promise, only
        self.top_k = top_k if only is None else min(top_k, int(only.sum()))
        self.sample = sample
        self.likeness: Likeness | None = None
        # The OOD scores below which a photograph is unknown, and below which no name is safe: the
        # promise is about what is not unknown.
        self.rejects = keep is not None
        self.lowest = -math.inf if keep is None else info.calibration.ood_threshold(keep)
        self.least = self.lowest
        if sample is None:
            self.least = max(info.calibration.ood_threshold(FAMILIAR), self.lowest)
        self.threshold: float | None = None
        self.group_threshold = math.inf
        self.group_names = sorted({*(groups or ())})
        self.groups: np.ndarray | None = None  # the number of each category's group (C,)
        if groups:
            self.groups = np.array([self.group_names.index(name) for name in groups])
        taken = {name.casefold() for name in names} & {UNKNOWN, REVIEW}
        if taken and (keep is not None or promise is not None):
            raise InputError(
                f"a category is called {min(taken)}, as an answer without a name is; "
                "--category_names can give it another name"
            )
        if promise is not None:
            self._keep_promise(promise)

    def _keep_promise(self, promise: float) -> None:
        """Find the thresholds of names and groups."""
        known, kind, where = self.sample, "checked", "the sample"
        if known is None:
            if self.info.calibration.valid is None:
                raise InputError(
                    "this checkpoint is of an earlier version, which kept too little of valid for "
                    "promises; train again"
                )
            known = restrict_set(self.info.calibration.valid, self.only)
            kind, where = "familiar", "valid"
            self.likeness = Likeness(known, self.names, self.lowest)
        scores, correct = score_calibration(known, self.least)
        # Where there are groups, names and groups may each be wrong half as often.
        error = (1 - CONFIDENCE) / (1 if self.groups is None else 2)
        sequences = SEQUENCES if self.sample is None else SAMPLE_SEQUENCES
        find = partial(find_threshold, scores, correct, error=error, sequences=sequences)
        self.threshold = find(promise)
        if self.threshold is None:
            needed, count = count_needed(promise, error), int(np.isfinite(scores).sum())
            why = f"the network is too often wrong on {where}"
            if count < needed:
                why = f"it takes {needed} {kind} photographs of {where} without a mistake; there "
                why += f"are {count}"
            kept = (p for p in LESSER_PROMISES if find(p))
            what = next((f"--promise {p} can be kept" for p in kept), "no promise can be kept")
            raise InputError(f"--promise {promise} cannot be kept: {why}; {what}")
        if self.groups is not None:
            group_scores, group_correct = score_calibration(known, self.least, self.groups)
            named = scores >= self.threshold
            right = np.where(named, correct, group_correct)
            self.group_threshold = find_group_threshold(named, right, group_scores, promise, error)

    def restrict(self, result: Prediction | FlowersError) -> Prediction | FlowersError:
        """Share the probability among the categories that are possible."""
        return restrict(result, self.only)

    def record(self, file: str, result: Prediction | FlowersError) -> Record:
        """Answer a prediction from `restrict`, or an error."""
        if isinstance(result, FlowersError):
            return Record(file, [], "", result)
        probabilities, ood_score = result
        best = np.argsort(-probabilities, kind="stable")[: self.top_k].tolist()
        categories = self.info.categories
        guesses = [Guess(self.names[i], categories[i], float(probabilities[i])) for i in best]
        if ood_score < self.lowest:
            return Record(file, guesses, UNKNOWN, None)
        safety = score(probabilities[best[0]], ood_score, self.least)
        if self.threshold is not None and safety < self.threshold:
            return Record(file, guesses, self._find_group(result) or REVIEW, None)
        return Record(file, guesses, guesses[0].name, None, is_named=True)

    def _find_group(self, result: Prediction) -> str | None:
        """Return the group that is safe to answer; one of a single category is not."""
        if self.groups is None:
            return None
        shares = sum_groups(result.probabilities[None], self.groups)[0]
        best = int(shares.argmax())
        if score(shares[best], result.ood_score, self.least) < self.group_threshold:
            return None
        return self.group_names[best] if (self.groups == best).sum() > 1 else None

    def is_right(self, record: Record, label: int) -> bool | None:
        """Return whether an answer is right for a photograph of a category; None: no answer."""
        if record.error or (self.only is not None and not self.only[label]):
            return None
        if record.is_named:
            return record.guesses[0].category == self.info.categories[label]
        if record.answer in (UNKNOWN, REVIEW):
            return None
        return self.groups is not None and self.group_names[self.groups[label]] == record.answer

    def require_alike(self, predictions: Iterable[Prediction | FlowersError]) -> None:
        """Raise InputError if photographs of the batch are unlike those that the promise rests on.

        The predictions are of a random part of the batch, from `restrict`. Then it is not watched
        any more, as its order may be that of categories.
        """
        if self.likeness is None:
            return
        for each in predictions:
            if not isinstance(each, FlowersError):
                self.likeness.add(each)
        differs = self.likeness.differ()
        self.likeness = None
        if differs:
            raise InputError(
                f"--promise {self.promise} rests on photographs like those of valid, and these are "
                f"not: {differs}. Check a sample of them: --check_sample 100, and then --promise "
                f"{self.promise} --checked sample.csv"
            )

    def watch(self, result: Prediction | FlowersError) -> str | None:
        """Watch photographs of a stream; if they are too unlike valid, break the promise off.

        Then no more names are given, and the reason is returned, once.
        """
        if self.likeness is None or isinstance(result, FlowersError):
            return None
        if not self.likeness.add(result):
            return None
        differs = self.likeness.differ(is_stream=True)
        if differs:
            self.break_off()
        return differs

    def break_off(self) -> None:
        """Give no more names."""
        self.threshold = self.group_threshold = math.inf
        self.likeness = None


def restrict(
    result: Prediction | FlowersError, only: np.ndarray | None
) -> Prediction | FlowersError:
    """Share the probability of a prediction among the categories (C,) that are possible."""
    if only is None or isinstance(result, FlowersError):
        return result
    shares = np.where(only, result.probabilities, 0.0).astype(np.float64)
    if shares.sum() == 0:  # less than float32 can tell from 0
        shares = only.astype(np.float64)
    return result._replace(probabilities=shares / shares.sum())


def find_promises(info: NetworkInfo) -> Iterator[tuple[float, float, float, float]]:
    """Yield each of `PROMISES` that can be kept, and what a name needs to be safe.

    That is the least probability (a multiple of 1e-5), the least OOD score, and the share of
    valid's photographs that have both.
    """
    if info.calibration.valid is None:
        return
    least = info.calibration.ood_threshold(FAMILIAR)
    scores, correct = score_calibration(info.calibration.valid, least)
    for promise in PROMISES:
        threshold = find_threshold(scores, correct, promise)
        if threshold is not None:
            yield promise, threshold, least, float(np.mean(scores >= threshold))


def judge_promises(info: NetworkInfo, evaluated: EvaluatedSplit) -> list[dict[str, Any]]:
    """Return of each promise that can be kept how many photographs are named, and rightly.

    It is a part of report.json.
    """
    logs = np.log(softmax(evaluated.logits.astype(np.float64)).clip(1e-300))
    known = CalibrationSet(logs, evaluated.labels, evaluated.ood_scores)
    judged = []
    for promise, threshold, least, _ in find_promises(info):
        scores, correct = score_calibration(known, least)
        named = scores >= threshold
        counts = {"named": int(named.sum()), "right": int((named & correct).sum())}
        judged.append({"promise": promise, **counts})
    return judged


# --- The files of --only and --group ---------------------------------------------------


def match_groups(
    groups: Mapping[str, str], categories: Sequence[str], names: Sequence[str]
) -> list[str]:
    """Find the group of each category, by category or name; others are groups of their own."""
    if not groups:
        raise InputError("--group: the file has no group")
    _check_known("--group", groups.keys(), categories, names)
    both = zip(map(normalise, categories), map(normalise, names))
    found = [groups.get(c, groups.get(n)) for c, n in both]
    alone = {name for name, group in zip(names, found) if group is None}
    if taken := sorted({*groups.values()} & {*alone, UNKNOWN, REVIEW}):
        raise InputError(f"--group: {taken[0]} cannot be a group: it means something else")
    return [group or name for name, group in zip(names, found)]


def match_only(wanted: Set[str], categories: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Find the categories, by category or name, that are possible: bool (C,)."""
    _check_known("--only", wanted, categories, names)
    both = zip(map(normalise, categories), map(normalise, names))
    return np.array([bool({*each} & wanted) for each in both])


def _check_known(
    flag: str, wanted: Set[str], categories: Sequence[str], names: Sequence[str]
) -> None:
    if unknown := sorted(wanted - {*map(normalise, [*categories, *names])}):
        raise InputError(f"{flag}: {', '.join(unknown[:10])}: no category or name of this network")


def read_list(path: str) -> set[str]:
    """Read a file with a category or name on each line; an empty one is an InputError."""
    require_small_file(path, "the file of --only")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise InputError(f"{path} cannot be read: {why}") from None
    wanted = {normalise(line.strip()) for line in lines} - {""}
    if not wanted:
        raise InputError(f"{path} names no category")
    return wanted
