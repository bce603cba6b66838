"""The accuracy on photographs whose folders are named as categories."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from formats.schema import Prediction
from images.folders import SPLIT_FOLDERS, normalise
from prediction.answers import Answers, judge_promises
from prediction.records import Record
from reporting.calibration import calibration_report
from reporting.metrics import rank_of, summarise, wilson_interval
from reporting.report import EvaluatedSplit, summary_lines
from reporting.report_page import Light, make_page
from running.errors import FlowersError, InputError
from running.files import write_alone

SPLIT_NAMES = {name for names in SPLIT_FOLDERS.values() for name in names}


class Score:
    """Compares predictions with the folders that the photographs are in.

    It `keeps` paths and probabilities, which only a report needs, and a million photographs fill
    the memory with.
    """

    def __init__(self, answers: Answers, inputs: Sequence[str], keeps: bool):
        self.answers, self.keeps = answers, keeps
        self.categories = {normalise(c): i for i, c in enumerate(answers.info.categories)}
        folders = [_parts(path) for path in inputs if os.path.isdir(path)]
        self.folders = sorted(folders, key=len, reverse=True)
        self.known: dict[str, bool] = {}  # folders, and whether they hold those of categories
        self.paths: list[str] = []
        self.probabilities: list[np.ndarray] = []
        self.ood_scores: list[float] = []
        self.labels: list[int] = []
        self.predictions: list[int] = []
        self.ranks: list[int] = []
        self.others = 0  # photographs in other folders
        self.excluded = 0  # photographs of categories that --only leaves out
        self.answered = self.wrong = 0  # a review and an unknown are not answered

    def add(self, record: Record, result: Prediction | FlowersError) -> None:
        """Count a record of `Answers`, unless its folder is not a category."""
        if isinstance(result, FlowersError):
            return
        label = self._find_label(record.file)
        if label is None:
            self.others += 1
            return
        if self.keeps:
            self.paths.append(record.file)
            self.probabilities.append(result.probabilities)
            self.ood_scores.append(result.ood_score)
        self.labels.append(label)
        self.predictions.append(int(result.probabilities.argmax()))
        self.ranks.append(int(rank_of(result.probabilities[None], np.array([label]))[0]))
        only = self.answers.only
        self.excluded += only is not None and not only[label]
        right = self.answers.is_right(record, label)
        self.answered += right is not None
        self.wrong += right is False

    def _find_label(self, path: str) -> int | None:
        """Find the category of a photograph, as train.py does: folders may be within its folder.

        It is the outermost folder below that of a split, or else below the input, that is a
        category; where that is the folder of a category itself, beside others, that one; or else
        the innermost above.
        """
        *place, _ = _parts(path)
        splits = [i + 1 for i, name in enumerate(place) if name.lower() in SPLIT_NAMES]
        above = [len(each) for each in self.folders if place[: len(each)] == [*each]]
        start = [*splits[-1:], *above, len(place)][0]
        if not splits:  # what was given may be the folder of a category, or in one
            among = (i for i in range(1, start) if self._is_among_categories(place[: i + 1]))
            start = next(among, start)
        for name in place[start:] + place[:start][::-1]:
            if (label := self.categories.get(normalise(name))) is not None:
                return label
        return None

    def _is_among_categories(self, place: list[str]) -> bool:
        """Whether a folder is named as a category, and another one beside it is, too."""
        if normalise(place[-1]) not in self.categories:
            return False
        parent = os.path.join(*place[:-1])
        if parent not in self.known:
            with suppress(OSError):
                names = {normalise(entry.name) for entry in os.scandir(parent) if entry.is_dir()}
                self.known[parent] = len(names & self.categories.keys()) > 1
        return self.known.get(parent, False)

    def lines(self) -> Iterator[str]:
        """Summarise the accuracy and, where there is one, what became of the promise."""
        if self.others:
            are = "photograph is" if self.others == 1 else "photographs are"
            yield f"{self.others} {are} not in a folder named as a category"
        if self.labels:
            labels, predictions, ranks = map(np.array, (self.labels, self.predictions, self.ranks))
            categories, names = self.answers.info.categories, self.answers.names
            summary = summarise(labels, predictions, ranks, categories, names)
            yield from summary_lines("accuracy", summary)
        if self.excluded:
            yield f"--only leaves out the categories of {self.excluded} of these"
        promise = self.answers.promise
        if self.labels and (promise is not None or self.answers.rejects):
            line = f"{self.answered} of {len(self.labels)} were answered"
            if self.answered:
                right = self.answered - self.wrong
                low, high = wilson_interval(right, self.answered)
                line += f", {self.wrong} wrongly: {right / self.answered:.2%} correct (95 % "
                line += f"interval: {low:.2%} to {high:.2%})"
            if promise is not None:
                line += f"; the promise is {promise:.2%}"
            yield line

    def write_report(
        self, page: str, figures: str, split: str, more: dict[str, Any], light: Light
    ) -> None:
        """Write an HTML page, and its figures as JSON, see docs/reference.md.

        `split` says where the photographs come from; `more` has command, versions and network.
        `light` shows where the network looked.
        Raises InputError if no photograph has a label, or a file cannot be written there, RunError
        if the disk is full.
        """
        if not self.labels:
            raise InputError(f"no photograph is in a category's folder: {page} is not written")
        # Logarithms of probabilities are logits, too; float64 keeps any two apart.
        logits = np.log(np.array(self.probabilities, np.float64).clip(1e-300))
        categories, names = self.answers.info.categories, self.answers.names
        known = self.paths, np.array(self.labels), logits, np.array(self.ood_scores)
        evaluated = EvaluatedSplit(*known, categories, names)
        calibration = {split: calibration_report(evaluated.logits, evaluated.labels)}
        promises = judge_promises(self.answers.info, evaluated)
        report = {
            **evaluated.figures(split),
            "calibration": calibration,
            "promises": promises,
            **more,
        }
        with write_alone(figures) as file:
            file.write(json.dumps(report, indent=1).encode())
        with write_alone(page) as file:
            file.write(make_page(report, evaluated, (), os.path.dirname(page), light))


def _parts(path: str) -> tuple[str, ...]:
    return Path(os.path.abspath(path)).parts
