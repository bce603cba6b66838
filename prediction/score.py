"""The accuracy on photographs whose folders tell their categories."""

import os
from collections.abc import Iterator

import numpy as np

from reporting.metrics import rank_of, summarise
from reporting.report import summary_lines


class Score:
    """Counts how many photographs were named as the folder is that they are in."""

    def __init__(self, categories: list[str]):
        self.categories = categories
        self.index = {category: i for i, category in enumerate(categories)}
        self.labels: list[int] = []
        self.predictions: list[int] = []
        self.ranks: list[int] = []
        self.others = 0  # photographs in folders that are no categories

    def add(self, file: str, probabilities: np.ndarray) -> None:
        """Count a photograph by its probabilities (C,)."""
        label = self.index.get(os.path.basename(os.path.dirname(os.path.abspath(file))))
        if label is None:
            self.others += 1
            return
        self.labels.append(label)
        self.predictions.append(int(probabilities.argmax()))
        self.ranks.append(int(rank_of(probabilities[None], np.array([label]))[0]))

    def lines(self, names: list[str]) -> Iterator[str]:
        """Say how good the names were, which are parallel to the categories."""
        if self.others:
            are = "photograph is" if self.others == 1 else "photographs are"
            yield f"{self.others} {are} not in a folder named as a category"
        if self.labels:
            labels, predictions, ranks = map(np.array, (self.labels, self.predictions, self.ranks))
            summary = summarise(labels, predictions, ranks, self.categories, names)
            yield from summary_lines("accuracy", summary)
