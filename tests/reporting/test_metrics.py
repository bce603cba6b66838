"""Accuracy and its summary against figures worked out by hand."""

import json

import numpy as np
import pytest

from reporting.metrics import rank_of, summarise, wilson_interval


def test_ranks_agree_with_argmax_also_between_equals():
    scores = np.array([[3, 3, 1], [3, 3, 1], [1, 2, 3]])
    assert rank_of(scores, np.array([0, 1, 1])).tolist() == [0, 1, 1]
    scores = np.random.default_rng(0).integers(4, size=(300, 6))
    labels = np.random.default_rng(1).integers(6, size=300)
    assert ((rank_of(scores, labels) == 0) == (scores.argmax(1) == labels)).all()


@pytest.mark.parametrize(
    ("right", "number", "interval"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_intervals_are_wilsons(right, number, interval):
    assert wilson_interval(right, number) == pytest.approx(interval, abs=5e-5)
    low, high = interval  # of the others, it is the mirror image
    assert wilson_interval(number - right, number) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_summary_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    scores = np.eye(4)[[0, 0, 0, 1, 1, 0, 2]]
    summary = summarise(
        labels,
        scores.argmax(1),
        rank_of(scores, labels),
        ["1", "2", "3", "4"],
        ["rose", "lily", "iris", "poppy"],
    )
    assert summary["photographs"] == 7
    assert summary["top1"] == {"right": 5, "share": 5 / 7, "interval": wilson_interval(5, 7)}
    assert summary["top5"] == {"right": 7, "share": 1, "interval": wilson_interval(7, 7)}
    assert summary["mean_category_accuracy"] == pytest.approx((0.75 + 0.5 + 1) / 3)  # no poppies
    assert summary["hardest"] == [
        {"category": "2", "name": "lily", "right": 1, "photographs": 2},
        {"category": "1", "name": "rose", "right": 3, "photographs": 4},
    ]
    assert summary["confused"] == [
        {"categories": ["1", "2"], "names": ["rose", "lily"], "times": 2}
    ]
    rose, lily, iris, poppy = summary["categories"]
    assert rose == {
        "category": "1",
        "name": "rose",
        "photographs": 4,
        "taken_for_it": 4,
        "right": 3,
        "precision": 0.75,
        "recall": 0.75,
        "f1": 0.75,
    }
    assert (lily["precision"], lily["recall"], lily["f1"]) == (0.5, 0.5, 0.5)
    assert iris["f1"] == 1
    assert poppy["precision"] is poppy["recall"] is poppy["f1"] is None  # neither there nor named
    assert json.loads(json.dumps(summary)) == summary  # plain data, for report.json
