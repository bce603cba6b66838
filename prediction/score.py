"""The accuracy on photographs whose folders are named as categories."""

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from reporting.calibration import calibration_report
from reporting.metrics import rank_of, summarise
from reporting.report import EvaluatedSplit, summary_lines
from reporting.report_page import make_page
from running.errors import InputError
from running.files import write_alone


class Score:
    """Compares predictions with the folders that the photographs are in.

    It `keeps` paths and probabilities where a report is to be written.
    """

    def __init__(self, categories: list[str], keeps: bool = False):
        self.categories, self.keeps = categories, keeps
        self.index = {category: i for i, category in enumerate(categories)}
        self.paths: list[str] = []
        self.probabilities: list[np.ndarray] = []
        self.labels: list[int] = []
        self.predictions: list[int] = []
        self.ranks: list[int] = []
        self.others = 0  # photographs in other folders
        self.answered = self.wrong = 0  # see `count_answer`

    def add(self, file: str, probabilities: np.ndarray) -> int | None:
        """Count a prediction (C,); return the label, unless the folder is not a category."""
        label = self.index.get(os.path.basename(os.path.dirname(os.path.abspath(file))))
        if label is None:
            self.others += 1
            return None
        if self.keeps:
            self.paths.append(file)
            self.probabilities.append(probabilities)
        self.labels.append(label)
        self.predictions.append(int(probabilities.argmax()))
        self.ranks.append(int(rank_of(probabilities[None], np.array([label]))[0]))
        return label

    def count_answer(self, right: bool | None) -> None:
        """Count whether an answer is right; None: there was no answer."""
        self.answered += right is not None
        self.wrong += right is False

    def lines(self, names: list[str], promise: float | None = None) -> Iterator[str]:
        """Summarise; `names` are parallel to the categories."""
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
        """Write an HTML page, and its figures as JSON, see docs/reference.md.

        Args:
            page: path of the HTML file.
            figures: path of the JSON file.
            split: where the photographs come from.
            names: parallel to the categories.
            more: command, versions and network.

        Raises:
            InputError: no photograph has a label, or a file cannot be written there.
            RunError: the disk is full.
        """
        if not self.labels:
            raise InputError(f"no photograph is in a category's folder: {page} is not written")
        # Logarithms of probabilities are logits, too; float64 keeps any two apart.
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
