"""What more photographs would give."""

import numpy as np
import pytest

from reporting.growth import expect_growth, growth_lines, measure_growth


def test_an_error_that_halves_with_twice_as_many_photographs_halves_again():
    """A hundred photographs of two categories, of which half of train leaves 20 mistakes."""
    labels = np.arange(100) % 2
    whole = np.where(np.eye(2)[labels] > 0, 2.0, 0.0)
    whole[:10] = -whole[:10]
    half = whole.copy()
    half[10:20] = -half[10:20]
    growth = measure_growth(half, whole, labels)
    assert growth["exponent"] == pytest.approx(np.log2(20.5 / 10.5))
    assert all(0 < gain < 1 for gain in growth["gains"])
    expected = expect_growth(growth, 0.9, ["rose", "lily"])
    assert expected["twice"] == pytest.approx(1 - 0.1 * 10.5 / 20.5)
    assert expected["half"] == pytest.approx(1 - 0.1 * 20.5 / 10.5)
    assert {*expected["most_to_gain"]} == {"rose", "lily"}
    assert "about 94.9% correct; with half of them: about 80.5%" in next(growth_lines(expected))


def test_what_does_not_grow_promises_nothing():
    labels = np.arange(60) % 3
    logits = 5 * np.eye(3)[labels]
    growth = measure_growth(logits, logits, labels)
    assert growth == {"exponent": 0, "gains": [0, 0, 0]}
    assert expect_growth(growth, 1.0, [*"abc"]) == {"half": 1, "twice": 1, "most_to_gain": []}
    worse = measure_growth(logits, -logits, labels)
    assert worse["exponent"] == 0
    assert expect_growth(worse, 0.5, [*"abc"])["most_to_gain"] == []
