"""Photographs like those of valid are hardly ever taken for others; others are."""

from itertools import combinations

import numpy as np
import pytest

from formats.schema import CalibrationSet, Prediction
from prediction.likeness import Likeness, compare_counts, tail

NAMES = [f"kind {i}" for i in range(20)]


def draw(rng, count, shares=None, shift=0.0):
    """Photographs of twenty kinds, as a network sees them."""
    best = rng.choice(20, count, p=shares)
    logs = np.full((count, 20), -5.0)
    logs[np.arange(count), best] = -0.1
    return CalibrationSet(logs, best, rng.normal(0.8 - shift, 0.1, count))


def differ(valid, batch, is_stream=False):
    likeness = Likeness(valid, NAMES)
    for logs, _, ood_score in zip(*batch):
        likeness.add(Prediction(np.exp(logs), ood_score))
    return likeness.differ(is_stream)


def test_the_tail_is_that_of_drawing_without_replacement():
    draws = [*combinations([1, 1, 1, 0, 0, 0, 0], 4)]
    for found in range(4):
        share = sum(sum(each) >= found for each in draws) / len(draws)
        assert tail(found, 4, 3, 3) == pytest.approx(share)
    assert tail(40, 200, 81, 818) < 1e-8


def test_counts_of_one_source_have_uniform_p_values():
    rng = np.random.default_rng(0)
    values = []
    for _ in range(100):
        one, other = (np.bincount(rng.integers(5, size=n), minlength=6) for n in (50, 300))
        values.append(compare_counts(one, other))
    assert 0.35 < np.mean(values) < 0.65
    assert compare_counts(np.array([30, 0, 0]), np.array([100, 100, 100])) < 0.001
    assert compare_counts(np.array([3, 0, 0]), np.array([0, 0, 0])) == 1


@pytest.mark.parametrize("count", [20, 200, 2000])
def test_photographs_like_valid_are_hardly_ever_refused(count):
    rng = np.random.default_rng(count)
    refused = sum(differ(draw(rng, 300), draw(rng, count)) is not None for _ in range(40))
    assert refused <= 2  # 0.4 is expected; three have a probability of less than 1 %


def test_other_photographs_are():
    rng = np.random.default_rng(0)
    valid = draw(rng, 300)
    assert "look like nothing" in differ(valid, draw(rng, 50, shift=0.3))
    assert "look most like kind 3 " in differ(valid, draw(rng, 50, shares=np.eye(20)[3]))
    assert differ(valid, draw(rng, 0)) is None


def test_all_looks_at_a_stream_raise_no_more_false_alarms_than_one():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(40):
        valid, stream = draw(rng, 300), draw(rng, 640)
        likeness = Likeness(valid, NAMES)
        looked = []
        for i, (logs, _, ood_score) in enumerate(zip(*stream), start=1):
            if likeness.add(Prediction(np.exp(logs), ood_score)):
                looked.append(i)
                alarms += likeness.differ(is_stream=True) is not None
        assert looked == [20, 40, 80, 160, 320, 640]
    assert alarms <= 2


def test_a_stream_may_come_category_by_category():
    rng = np.random.default_rng(0)
    valid, stream = draw(rng, 300), draw(rng, 300)
    order = np.argsort(stream.labels, kind="stable")
    likeness = Likeness(valid, NAMES)
    for i in order:
        if likeness.add(Prediction(np.exp(stream.log_probabilities[i]), stream.ood_score[i])):
            assert likeness.differ(is_stream=True) is None
    few = draw(rng, 40, shares=np.eye(20)[3])
    assert differ(valid, few) and not differ(valid, few, is_stream=True)
