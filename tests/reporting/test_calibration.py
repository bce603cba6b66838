"""Calibration against figures worked out by hand or in another way."""

import numpy as np
import pytest

from reporting.calibration import (
    calibration_error,
    cross_fit,
    fit_temperature,
    reliability,
    softmax,
)
from reporting.metrics import wilson_interval


def noisy_logits(count: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of 10 categories, too certain by the scale, and labels drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (count, 10))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(1)  # distributed as the softmax
    return (scale * honest).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_scale(scale):
    logits, labels = noisy_logits(5000, scale)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.05)

    def likelihood(t):
        chosen = softmax(logits / t)[np.arange(len(labels)), labels]
        return np.log(chosen).sum() - np.log(t) ** 2 / 2

    assert likelihood(temperature) > max(
        likelihood(temperature * 1.01), likelihood(temperature / 1.01)
    )


def test_a_few_correct_photographs_do_not_make_certain():
    logits = 5 * np.eye(3, dtype=np.float32)
    assert 0.2 < fit_temperature(logits, np.arange(3)) < 1


def test_a_fold_is_calibrated_by_the_others():
    logits, labels = noisy_logits(500, 2.0)
    result = cross_fit(logits, labels)
    labels[::5] = logits[::5].argmin(1)  # the first fold: no name is correct
    np.testing.assert_array_equal(cross_fit(logits, labels)[::5], result[::5])
    assert (cross_fit(logits, labels)[1::5] != result[1::5]).any()


def test_calibration_error_by_hand():
    # Bins of 1/15: 0.95 and 0.97 share one, one correct and one not; 0.5 has its own.
    certainty, correct = np.array([0.95, 0.97, 0.5]), np.array([True, False, True])
    assert calibration_error(certainty, correct) == pytest.approx((0.92 + 0.5) / 3)
    assert calibration_error(np.ones(2), np.ones(2, bool)) == 0


def test_bins_hold_as_many_photographs_each_from_the_least_certain_on():
    confidence = np.linspace(0.5, 0.995, 60)
    logits = np.log(np.stack([confidence, 1 - confidence], 1))[::-1]
    labels = np.where(np.arange(60) < 50, 0, 1)  # the ten least certain ones are wrong
    bins = reliability(logits, labels)
    assert [each["photographs"] for each in bins] == [20, 20, 20]
    assert [each["accuracy"] for each in bins] == [0.5, 1, 1]
    assert bins[0]["interval"] == wilson_interval(10, 20)
    means = [part.mean() for part in np.split(confidence, 3)]
    assert [each["confidence"] for each in bins] == pytest.approx(means)
    assert len(reliability(logits[:3], labels[:3])) == 1
