"""reporting/report.py"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from photographs.images import load_image
from reporting.calibration import softmax
from reporting.plots import plot_confusion, plot_curves, plot_photographs
from running.files import atomic_write


def summary_lines(title: str, summary: dict[str, Any]) -> Iterator[str]:
    """Say in a few lines how well a split was named."""
    top1, top5 = summary["top1"], summary["top5"]
    number = summary["photographs"]
    yield f"{title}: {top1['share']:.2%} ({top1['right']} of {number})"
    yield (
        f"among the best five: {top5['share']:.2%} ({top5['right']} of {number}); "
        f"mean of the categories: {summary['mean_category_accuracy']:.2%}"
    )
    if summary["hardest"]:
        yield "hardest: " + ", ".join(
            f"{row['name']} ({row['right']} of {row['photographs']} right)"
            for row in summary["hardest"]
        )
        yield "most confused: " + ", ".join(
            "{} and {} ({})".format(
                *row["names"], f"{row['times']} times" if row["times"] > 1 else "once"
            )
            for row in summary["confused"]
        )


def calibration_line(split: str, figures: dict[str, Any]) -> str:
    """Say how far the probabilities on a split can be believed."""
    low, high = figures["interval"]
    return (
        f"calibration on {split}: expected error {figures['expected_calibration_error']:.2%} "
        f"({low:.2%} to {high:.2%}), negative log-likelihood "
        f"{figures['negative_log_likelihood']:.4f}"
    )


HEADER = "epoch  train loss  valid loss  valid accuracy  seconds"


def epoch_line(
    epoch: int,
    train_loss: float,
    valid_loss: float,
    valid_accuracy: float,
    seconds: float,
    saved: int,
) -> str:
    """Format a row of the table under `HEADER`; the solved head is epoch 0."""
    return (
        f"{epoch or 'head':>5}  {train_loss:10.4f}  {valid_loss:10.4f}  "
        f"{valid_accuracy:14.2%}  {seconds:7.1f}{'  saved' if saved else ''}"
    )


def write_history(path: Path, rows: list[dict]) -> None:
    """Write a row an epoch; the file is whole at any time."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def list_misnamed(
    paths: list[str], labels: np.ndarray, logits: np.ndarray, names: list[str]
) -> list[dict]:
    """List the photographs that were named wrongly, what they show and were taken for."""
    taken, certainty = logits.argmax(1), softmax(logits).max(1)
    return [
        {
            "file": paths[i],
            "name": names[labels[i]],
            "taken_for": names[taken[i]],
            "probability": float(certainty[i]),
        }
        for i in np.flatnonzero(taken != labels)
    ]


def report_lines(report: dict) -> Iterator[str]:
    """Say how good the best checkpoint is, and what it finds hard."""
    first, *others = summary_lines(f"{report['split']} accuracy", report)
    yield first + (
        "" if report["split"] == "test" else ", the figure by which the checkpoint was chosen"
    )
    yield from others
    shown = report["misnamed"][:10]
    for row in shown:
        yield (
            f"misnamed: {row['file']}: {row['name']}, taken for {row['taken_for']} "
            f"({row['probability']:.1%})"
        )
    if len(report["misnamed"]) > len(shown):
        yield f"misnamed: {len(report['misnamed']) - len(shown)} more, in the report"
    for split, figures in report["calibration"].items():
        yield calibration_line(split, figures)
    yield "keep their names with predict.py --reject: " + ", ".join(
        f"{share:.1%} of {split}" for split, share in report["kept"].items()
    )
    yield "seconds: " + ", ".join(
        f"{phase} {seconds:.1f}" for phase, seconds in report["seconds"].items()
    )
    yield f"peak memory: {report['peak_memory_mib']:.0f} MiB"
    yield "versions: " + ", ".join(
        f"{name} {version}" for name, version in report["versions"].items()
    )
    yield f"command: {report['command']}"


def draw(
    save_dir: str,
    history: list[dict],
    labels: np.ndarray,
    logits: np.ndarray,
    names: list[str],
    misnamed: list[dict],
    preprocessing,
) -> None:
    """Draw the run's pictures into the folder."""
    shown = misnamed[:60]
    photographs = [load_image(row["file"], preprocessing) for row in shown]
    for name, figure in (
        ("curves", plot_curves(history)),
        ("confusion", plot_confusion(labels, logits.argmax(1), names)),
        (
            "mistakes",
            plot_photographs(
                photographs, [row["name"] for row in shown], [row["taken_for"] for row in shown]
            ),
        ),
    ):
        with atomic_write(Path(save_dir, f"{name}.png")) as file:
            figure.savefig(file)
