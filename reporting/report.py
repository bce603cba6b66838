"""What a run says of its epochs and of its result: lines, history.csv and figures."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reporting.calibration import softmax
from reporting.comparison import comparison_lines
from reporting.growth import growth_lines
from reporting.metrics import rank_of, summarise
from running.files import atomic_write

HEADER = "epoch  train loss  valid loss  valid accuracy  seconds"

CROSS_VALIDATION = "cross-validation"  # what a report has for a split, without valid and test

LACKING = 10  # categories that are listed
MISNAMED_LINES = 5  # that are printed; report.json lists all


# --- Epochs ---------------------------------------------------------------------------


def epoch_line(
    epoch: int,
    train_loss: float,
    valid_loss: float,
    valid_accuracy: float,
    seconds: float,
) -> str:
    """Format a row of history.csv as one of the table under `HEADER`.

    Losses are in nats, accuracy 0..1; the head is epoch 0.
    """
    return (
        f"{epoch or 'head':>5}  {train_loss:10.4f}  {valid_loss:10.4f}  "
        f"{valid_accuracy:14.2%}  {seconds:7.1f}"
    )


def write_history(path: str | os.PathLike[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write a row for each epoch as CSV, whole at any time."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


# --- The result -----------------------------------------------------------------------


def spell_share(share: float) -> str:
    """Spell a share 0..1 in percent; what is not quite 1 is not rounded to it."""
    return "over 99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def summary_lines(title: str, summary: dict[str, Any]) -> Iterator[str]:
    """Describe in a few lines what `summarise` returned."""
    top1, top5 = summary["top1"], summary["top5"]
    number = summary["photographs"]
    yield f"{title}: {top1['share']:.2%} ({top1['right']} of {number})"
    yield (
        f"top-5: {top5['share']:.2%} ({top5['right']} of {number}); "
        f"mean per-class accuracy: {summary['mean_category_accuracy']:.2%}"
    )
    if summary["hardest"]:
        yield "hardest: " + ", ".join(
            f"{row['name']} ({row['right']} of {row['photographs']} correct)"
            for row in summary["hardest"]
        )
    if summary["confused"]:
        yield "most confused: " + ", ".join(
            "{} and {} ({} times)".format(*row["names"], row["times"])
            for row in summary["confused"]
        )


class EvaluatedSplit(NamedTuple):
    """Photographs whose categories are known, and what a network makes of them."""

    paths: Sequence[str]
    labels: np.ndarray  # indices (N,), N above 0
    logits: np.ndarray  # (N, C), calibrated
    ood_scores: np.ndarray  # (N,)
    categories: Sequence[str]  # in the order of the indices
    names: Sequence[str]  # parallel to the categories

    def figures(self, split: str) -> dict[str, Any]:
        """Return how well the photographs of a split were named, and which were not."""
        labels, logits = self.labels, self.logits
        ranks = rank_of(logits, labels)
        return {
            "split": split,
            **summarise(labels, logits.argmax(1), ranks, self.categories, self.names),
            "misnamed": list_misnamed(self.paths, labels, logits, self.names),
        }


def list_misnamed(
    paths: Sequence[str], labels: np.ndarray, logits: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """List the photographs whose name is not correct, what they show and were taken for."""
    taken, certainty = logits.argmax(1), softmax(logits).max(1)
    return [
        {
            "file": paths[i],
            "name": names[labels[i]],
            "taken_for": names[taken[i]],
            "probability": float(certainty[i]),
        }
        for i in np.flatnonzero(taken != labels).tolist()
    ]


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    """Describe how good the network is, and what it finds hard."""
    yield from summary_lines(f"{report['split']} accuracy", report)
    if report["split"] == CROSS_VALIDATION:
        low, high = report["top1"]["interval"]
        yield (
            "each part judged by a network that has learned from the others; 95% interval: "
            f"{low:.1%} to {high:.1%}"
        )
    lack = [row["name"] for row in report["categories"] if not row["photographs"]]
    if lack:
        more = f" and {len(lack) - LACKING} more" if lack[LACKING:] else ""
        yield f"not judged, for lack of photographs: {', '.join(lack[:LACKING])}{more}"
    if "update" in report:
        yield from comparison_lines(report["update"])
    if "growth" in report:
        yield from growth_lines(report["growth"])
    misnamed = report["misnamed"]
    for row in misnamed[:MISNAMED_LINES]:
        yield (
            f"misnamed: {row['file']}: {row['name']}, taken for {row['taken_for']} "
            f"({spell_share(row['probability'])})"
        )
    if len(misnamed) > MISNAMED_LINES:
        yield f"misnamed: {len(misnamed) - MISNAMED_LINES} more, in the report"
    for row in report.get("suspects", ()):
        yield f"label to look at: {row['file']}: {row['name']}, looks like {row['looks_like']}"
