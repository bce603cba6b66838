"""How far probabilities can be believed: the temperature, and what it leaves to be desired.

Labels are indices 0..C-1 (int64), logits float32.
"""

from typing import Any

import numpy as np

BINS = 15  # of the expected calibration error, between the probabilities 0 and 1
SAMPLES = 1000  # of the bootstrap


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits (N, C) into probabilities; rows sum to 1."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature T that calibrates logits (N, C) when they are divided by it.

    It minimises the negative log-likelihood (Guo et al., "On calibration of modern neural
    networks", ICML 2017). So that a few photographs, all of them correct, do not make it
    certain of everything, ln T has a normal prior of mean 0 and standard deviation 1.
    """
    centred = logits - logits[np.arange(len(labels)), labels][:, None]

    def slope(log_inverse: float) -> float:
        """Differentiate the objective with respect to ln(1 / T), in which it is convex."""
        scaled = np.exp(log_inverse) * centred
        return float((softmax(scaled) * scaled).sum() + log_inverse)

    low, high = -4.0, 4.0
    for _ in range(30):  # halves: to eight digits
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-low))


def cross_fit(logits: np.ndarray, labels: np.ndarray, folds: int = 5) -> np.ndarray:
    """Divide logits (N, C) fold by fold by the temperature that fits the other folds.

    So a photograph is never judged by a temperature that it has had a part in.
    """
    result = np.empty_like(logits)
    fold = np.arange(len(labels)) % folds  # photographs stand sorted by category
    for i in range(folds):
        others = fold != i
        result[~others] = logits[~others] / fit_temperature(logits[others], labels[others])
    return result


def calibration_report(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Measure how far the probabilities of calibrated logits (N, C) can be believed.

    Returns:
        The negative log-likelihood in nats, and the expected calibration error (Naeini et
        al., AAAI 2015) in `BINS` bins of the highest probability, with the interval that
        holds 95 % of `SAMPLES` bootstrap samples.
    """
    probabilities = softmax(logits)
    certainty = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    likelihood = probabilities[np.arange(len(labels)), labels].clip(1e-30)
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(SAMPLES):
        rows = rng.integers(len(labels), size=len(labels))
        samples.append(calibration_error(certainty[rows], correct[rows]))
    return {
        "negative_log_likelihood": float(-np.log(likelihood).mean()),
        "expected_calibration_error": calibration_error(certainty, correct),
        "interval": [float(np.quantile(samples, q)) for q in (0.025, 0.975)],
    }


def reliability(logits: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Compare, in `BINS` bins of the highest probability, how sure calibrated logits (N, C) are.

    Returns:
        For each bin `photographs`, a count, and, None without any, `certainty`, their mean
        highest probability, and `accuracy`, the share of them that is correct.
    """
    probabilities = softmax(logits)
    certainty = probabilities.max(1)
    place = _bins(certainty)
    sums = [
        np.bincount(place, weights, BINS).tolist()
        for weights in (None, certainty, probabilities.argmax(1) == labels)
    ]
    return [
        {
            "photographs": count,
            "certainty": sure / count if count else None,
            "accuracy": right / count if count else None,
        }
        for count, sure, right in zip(*sums)
    ]


def _bins(certainty: np.ndarray) -> np.ndarray:
    """Find the bin of each highest probability (N,)."""
    return np.minimum((certainty * BINS).astype(int), BINS - 1)


def calibration_error(certainty: np.ndarray, correct: np.ndarray) -> float:
    """Average the gap between mean certainty and accuracy over bins of equal width.

    Args:
        certainty: the highest probability of each photograph (N,), 0..1.
        correct: whether it is that of the label: bool (N,).
    """
    gaps = np.bincount(_bins(certainty), certainty - correct, BINS)
    return float(np.abs(gaps).sum() / len(correct))
