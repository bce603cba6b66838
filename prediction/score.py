"""The accuracy on photographs whose folders tell their categories."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from reporting.calibration import calibration_report
from reporting.metrics import rank_of, summarise
from reporting.report import EvaluatedSplit, summary_lines
from reporting.report_page import make_page
from running.errors import InputError
from running.files import write_alone


class Score:
    """Counts how many photographs were named as the folder is that they are in.

    It `keeps` paths and probabilities where a report is to be written.
    """

    def __init__(self, categories: list[str], keeps: bool = False):
        self.categories, self.keeps = categories, keeps
        self.paths: list[str] = []
        self.probabilities: list[np.ndarray] = []
        self.index = {category: i for i, category in enumerate(categories)}
        self.labels: list[int] = []
        self.predictions: list[int] = []
        self.ranks: list[int] = []
        self.others = 0  # photographs in folders that are no categories
        self.answered = self.wrong = 0  # with an answer that counts, and a wrong one

    def add(
        self,
        file: str,
        probabilities: np.ndarray,
        is_right: Callable[[int], bool | None] = lambda label: None,
    ) -> None:
        """Count a photograph by its probabilities (C,), and by what its answer says of its label.

        None: there is no answer, or none that counts.
        """
        label = self.index.get(os.path.basename(os.path.dirname(os.path.abspath(file))))
        if label is None:
            self.others += 1
            return
        if self.keeps:
            self.paths.append(file)
            self.probabilities.append(probabilities)
        self.labels.append(label)
        self.predictions.append(int(probabilities.argmax()))
        right = is_right(label)
        self.answered += right is not None
        self.wrong += right is False
        self.ranks.append(int(rank_of(probabilities[None], np.array([label]))[0]))

    def lines(self, names: list[str], promise: float | None = None) -> Iterator[str]:
        """Say how good the names were, which are parallel to the categories."""
        if self.others:
            are = "photograph is" if self.others == 1 else "photographs are"
            yield f"{self.others} {are} not in a folder named as a category"
        if self.labels:
            labels, predictions, ranks = map(np.array, (self.labels, self.predictions, self.ranks))
            summary = summarise(labels, predictions, ranks, self.categories, names)
            yield from summary_lines("accuracy", summary)
        if promise is not None and self.answered:
            share = 1 - self.wrong / self.answered
            held = "held" if share >= promise else "did not hold"
            yield (
                f"{self.answered} of {len(self.labels)} were answered, {self.wrong} wrongly: "
                f"{share:.2%} correct; the promise of {promise:.2%} {held}"
            )

    def write_report(
        self, page: str, figures: str, split: str, names: list[str], more: dict[str, Any]
    ) -> None:
        """Write a page, and its figures as JSON, see docs/reference.md.

        Args:
            page: path of the HTML file.
            figures: path of the JSON file.
            split: what the photographs are called.
            names: parallel to the categories.
            more: command, versions and network.

        Raises:
            InputError: no photograph counts, or a file cannot be written there.
            RunError: the disk is full.
        """
        if not self.labels:
            raise InputError(f"no photograph is in a category's folder: {page} is not written")
        # The logarithms of probabilities are logits, too; float64 keeps any two apart.
        logits = np.log(np.array(self.probabilities, np.float64).clip(1e-300))
        evaluated = EvaluatedSplit(
            self.paths, np.array(self.labels), logits, self.categories, names
        )
        calibration = {split: calibration_report(evaluated.logits, evaluated.labels)}
        report = {**evaluated.figures(split), "calibration": calibration, **more}
        for path, content in (
            (figures, json.dumps(report, indent=1).encode()),
            (page, make_page(report, evaluated)),
        ):
            with write_alone(path) as file:
                file.write(content)
