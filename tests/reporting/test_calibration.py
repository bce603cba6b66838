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


def test_bins_hold_the_photographs_of_their_probabilities():
    probabilities = np.array([[0.51, 0.49], [0.49, 0.51], [0.99, 0.01], [0.0, 1.0]])
    bins = reliability(np.log(probabilities.clip(1e-30)), np.array([0, 0, 0, 1]))
    assert len(bins) == 15
    empty = {"photographs": 0, "confidence": None, "accuracy": None}
    assert [i for i, each in enumerate(bins) if each != empty] == [7, 14]
    assert bins[7] == {"photographs": 2, "confidence": pytest.approx(0.51), "accuracy": 0.5}
    assert bins[14] == {"photographs": 2, "confidence": pytest.approx(0.995), "accuracy": 1.0}
