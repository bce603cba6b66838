"""An earlier network and a new one on the same photographs."""

import numpy as np
import pytest

from reporting.comparison import compare_networks, comparison_lines, mcnemar

PATHS = [f"{i}.jpg" for i in range(5)]


def test_networks_are_compared_by_category():
    labels = np.array([0, 0, 1, 1, 2])
    before = np.eye(2)[[1, 1, 0, 1, 0]]  # of the categories b and a
    after = np.eye(3)[[0, 0, 2, 2, 2]]
    logits = {"before": before, "after": after}
    compared = {
        **compare_networks(PATHS, ["b", "a"], logits, labels, ["a", "b", "c"], ["A", "B", "C"]),
        "notes": ["a note"],
    }
    assert compared["before"] == {"right": 3, "share": 0.6}
    assert compared["after"] == {"right": 3, "share": 0.6}
    assert compared["changed"] == [
        {"file": "2.jpg", "name": "B", "before": "B", "after": "C"},
        {"file": "4.jpg", "name": "C", "before": "B", "after": "C"},
    ]
    assert compared["of_new_categories"] == 1
    assert [*comparison_lines(compared)] == [
        "on the same photographs of valid: 60.00% (3 of 5) with the earlier network, 60.00% (3) "
        "with this one; 1 of them are of categories that the earlier one did not know",
        "1 became right and 1 wrong, which may be luck (exact McNemar test, p = 1)",
        "better: C (+1 of 1)",
        "worse: B (-1 of 2)",
        "a note",
    ]


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1), (1, 1, 1), (5, 0, 1 / 16), (0, 6, 1 / 32), (8, 2, 112 / 1024)],
)
def test_luck_is_the_exact_binomial_probability(better, worse, p):
    assert mcnemar(better, worse) == pytest.approx(p)
