"""The lines, the history and the figures of a run."""

import csv

import numpy as np
import pytest

from reporting.metrics import rank_of, summarise
from reporting.report import (
    list_misnamed,
    report_lines,
    summary_lines,
    write_history,
)

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
LOGITS = 9 * np.eye(3)[[0, 0, 0, 1, 1, 0, 2]]
NAMES = ["rose", "lily", "iris"]
CALIBRATION = {
    "expected_calibration_error": 0.0604,
    "interval": [0.0235, 0.1127],
    "negative_log_likelihood": 0.2324,
}


@pytest.fixture
def summary():
    return summarise(LABELS, LOGITS.argmax(1), rank_of(LOGITS, LABELS), ["1", "2", "3"], NAMES)


@pytest.fixture
def report(summary):
    return {
        "split": "test",
        **summary,
        "misnamed": list_misnamed([f"{i}.jpg" for i in range(7)], LABELS, LOGITS, NAMES),
        "temperature": 1.5,
        "calibration": {"test": CALIBRATION},
        "accepted_share": {"valid": 0.95, "test": 0.913},
        "seconds": {"start": 0.44, "epochs": 20.9},
        "peak_memory_mib": 1592.4,
        "versions": {"python": "3.11", "numpy": "2.0"},
        "command": "python train.py flowers",
    }


# --- Epochs ---------------------------------------------------------------------------

HEAD = {
    "epoch": 0,
    "train_loss": 0.50084,
    "valid_loss": 0.40306,
    "valid_accuracy": 0.975,
    "seconds": 9.19,
}
EPOCH = {**HEAD, "epoch": 12}


def test_history_is_csv(tmp_path):
    write_history(tmp_path / "history.csv", [HEAD])
    write_history(tmp_path / "history.csv", [HEAD, EPOCH])
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == [*HEAD]
    assert [row["epoch"] for row in rows] == ["0", "12"]
    assert [float(row["train_loss"]) for row in rows] == [0.50084] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


# --- The result -----------------------------------------------------------------------


def test_summary_in_words(summary):
    assert list(summary_lines("test accuracy", summary)) == [
        "test accuracy: 71.43% (5 of 7)",
        "top-5: 100.00% (7 of 7); mean per-class accuracy: 75.00%",
        "hardest: lily (1 of 2 correct), rose (3 of 4 correct)",
        "most confused: rose and lily (2 times)",
    ]
    summary["confused"] = []  # what happened once is no confusion
    assert [*summary_lines("", summary)][-1].startswith("hardest: ")


def test_misnamed_photographs_are_listed():
    misnamed = list_misnamed([f"{i}.jpg" for i in range(7)], LABELS, LOGITS, NAMES)
    assert [(row["file"], row["name"], row["taken_for"]) for row in misnamed] == [
        ("3.jpg", "rose", "lily"),
        ("5.jpg", "lily", "rose"),
    ]
    certainty = np.exp(9) / (np.exp(9) + 2)
    assert misnamed[0]["probability"] == pytest.approx(certainty)


def test_the_report_in_words(report):
    lines = [*report_lines(report)]
    assert lines[0] == "test accuracy: 71.43% (5 of 7)"
    assert lines[4:] == [
        "misnamed: 3.jpg: rose, taken for lily (over 99.9%)",
        "misnamed: 5.jpg: lily, taken for rose (over 99.9%)",
    ]
