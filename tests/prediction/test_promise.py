"""Promises: the bound is exact, and kept in all but the few draws in which it may fail."""

import math

import numpy as np
import pytest

from formats.schema import CalibrationSet
from prediction.promise import (
    count_needed,
    find_threshold,
    p_value,
    restrict_set,
    score_calibration,
)


def share(scores, lowest) -> float:
    """The share of photographs that get a name."""
    return (scores >= lowest).mean()


@pytest.mark.parametrize(("wrong", "count", "rate"), [(0, 299, 0.01), (3, 40, 0.05), (7, 7, 0.5)])
def test_the_p_value_is_that_of_the_binomial_test(wrong, count, rate):
    terms = (math.comb(count, i) * rate**i * (1 - rate) ** (count - i) for i in range(wrong + 1))
    assert p_value(wrong, count, rate) == pytest.approx(sum(terms), rel=1e-9)


def test_a_promise_takes_enough_photographs_without_a_mistake():
    assert count_needed(0.99) == 299
    assert count_needed(0.95) == 59
    right = np.ones(299, bool)
    assert find_threshold(np.arange(299.0), right, 0.99) == 0
    assert find_threshold(np.arange(298.0), right[1:], 0.99) is None
    right[0] = False  # the least safe one is wrong: there are no longer enough
    assert find_threshold(np.arange(299.0), right, 0.99) is None
    assert find_threshold(np.arange(299.0), right, 0.98) is not None


def test_names_are_given_down_to_the_first_that_would_be_too_much():
    scores = np.arange(1000.0)[::-1]
    right = np.ones(1000, bool)
    right[900:] = False  # the hundred least safe ones
    limit = find_threshold(scores, right, 0.99)
    count = int((scores >= limit).sum())
    wrong = count - 900
    assert p_value(wrong, count, 0.01) <= 0.05 < p_value(wrong + 1, count + 1, 0.01)
    assert limit == scores[count - 1]


def draw(rng, count):
    """Scores of a network whose least safe tenth is often wrong, and which are right."""
    scores = rng.uniform(0, 1, count)
    return scores, rng.uniform(0, 1, count) > np.where(scores < 0.1, 0.3, 0.002)


def test_a_promise_is_broken_in_one_draw_of_twenty_at_most():
    rng = np.random.default_rng(0)
    broken = given = 0
    for _ in range(200):
        scores, right = draw(rng, 800)
        limit = find_threshold(scores, right, 0.98)
        if limit is None:  # refused, by a few mistakes of bad luck
            continue
        # The rate of mistakes above a limit is known here.
        many = rng.uniform(limit, 1, 20_000)
        rate = np.where(many < 0.1, 0.3, 0.002).mean()
        broken += rate > 0.02
        given += share(scores, limit)
    assert broken <= 14  # of ten that are to be expected; more have a probability of 8 %
    assert given / 200 > 0.85


def test_with_only_some_categories_valid_counts_those_alone():
    shares = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    valid = CalibrationSet(
        np.log(shares).astype(np.float16), np.array([1, 1, 2]), np.array([0.1, 0.2, 0.3])
    )
    scores, correct = score_calibration(valid, 0.0)
    assert scores == pytest.approx([0.5, 0.6, 0.6], abs=1e-3)
    assert correct.tolist() == [False, True, True]
    _, correct = score_calibration(restrict_set(valid, np.array([False, True, True])), 0.0)
    assert correct.tolist() == [True, True, True]
    scores, _ = score_calibration(restrict_set(valid, np.array([True, True, False])), 0.15)
    assert scores == pytest.approx([-np.inf, 0.857], abs=1e-3)


def test_equal_scores_are_named_together_or_not_at_all():
    scores = np.append(np.full(540, 2.0), np.full(60, 1.0))
    right = np.ones(600, bool)
    right[560:] = False
    limit = find_threshold(scores, right, 0.99)
    assert (limit, share(scores, limit)) == (2.0, 540 / 600)
