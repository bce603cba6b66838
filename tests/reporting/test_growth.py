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
    growth = measure_growth(half, whole, labels, 0.5)
    assert growth["exponent"] == pytest.approx(1)
    assert all(0 < gain < 1 for gain in growth["gains"])
    expected = expect_growth(growth, 0.9, ["rose", "lily"])
    assert expected["twice"] == pytest.approx(0.95)
    assert expected["half"] == pytest.approx(0.8)
    assert {*expected["most_to_gain"]} == {"rose", "lily"}
    assert "about 95.0% correct; with half of them: about 80.0%" in next(growth_lines(expected))


@pytest.mark.parametrize(("share", "wrong"), [(0.5, 9), (1, 20)])
def test_too_few_mistakes_or_no_half_foretell_nothing(share, wrong):
    labels = np.arange(60) % 3
    logits = 5 * np.eye(3)[labels]
    logits[:wrong] = -logits[:wrong]
    assert measure_growth(-logits, logits, labels, share) == {}


def test_what_does_not_grow_is_expected_to_stay():
    labels = np.arange(60) % 3
    logits = 5 * np.eye(3)[labels]
    worse = measure_growth(logits, -logits, labels, 0.5)
    assert worse["exponent"] == 0
    expected = expect_growth(worse, 0.5, [*"abc"])
    assert expected == {"half": 0.5, "twice": 0.5, "most_to_gain": []}
    assert [*growth_lines(expected)] == [
        "more photographs like these would hardly help: the head is no better than with half"
    ]


def test_the_share_need_not_be_a_half():
    labels = np.arange(100) % 2
    whole, half = (np.where(np.eye(2)[labels] > 0, 2.0, 0.0) for _ in range(2))
    whole[:20], half[:25] = -whole[:20], -half[:25]
    growth = measure_growth(half, whole, labels, 0.8)
    assert growth["exponent"] == pytest.approx(1)
