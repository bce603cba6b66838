"""The accuracy on photographs whose folders tell their categories."""

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from reporting.calibration import calibration_report
from reporting.metrics import rank_of, summarise
from reporting.report import Judged, summary_lines
from reporting.run_page import make_page
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
        self.named = self.wrong = 0  # photographs that got a name, and those whose name is wrong

    def add(self, file: str, probabilities: np.ndarray, is_named: bool = True) -> None:
        """Count a photograph by its probabilities (C,), and whether it got a name."""
        label = self.index.get(os.path.basename(os.path.dirname(os.path.abspath(file))))
        if label is None:
            self.others += 1
            return
        if self.keeps:
            self.paths.append(file)
            self.probabilities.append(probabilities)
        self.labels.append(label)
        self.predictions.append(int(probabilities.argmax()))
        self.named += is_named
        self.wrong += is_named and self.predictions[-1] != label
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
        if promise is not None and self.named:
            share = 1 - self.wrong / self.named
            held = "held" if share >= promise else "did not hold"
            yield (
                f"{self.named} of {len(self.labels)} were named, {self.wrong} of them wrongly: "
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
        judged = Judged(self.paths, np.array(self.labels), logits, self.categories, names)
        calibration = {split: calibration_report(judged.logits, judged.labels)}
        report = {**judged.figures(split), "calibration": calibration, **more}
        for path, content in (
            (figures, json.dumps(report, indent=1).encode()),
            (page, make_page(report, judged)),
        ):
            with write_alone(path) as file:
                file.write(content)
