"""How reliable probabilities are: the temperature, and the calibration error that remains.

Labels are indices 0..C-1 (int64), logits (N, C) float32.
"""

from typing import Any

import numpy as np

from reporting.metrics import wilson_interval

BINS = 15  # of the expected calibration error, of equal width between the probabilities 0 and 1
SAMPLES = 1000  # of the bootstrap
MOST_BINS, LEAST_IN_A_BIN = 10, 20  # of the reliability diagram


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities; rows sum to 1."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature T such that logits / T are calibrated.

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
    for _ in range(30):  # halvings: to eight digits
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-low))


def cross_fit(logits: np.ndarray, labels: np.ndarray, folds: int = 5) -> np.ndarray:
    """Calibrate each fold of the logits by the temperature that fits the other folds."""
    result = np.empty_like(logits)
    fold = np.arange(len(labels)) % folds  # photographs are sorted by category
    for i in range(folds):
        others = fold != i
        result[~others] = logits[~others] / fit_temperature(logits[others], labels[others])
    return result


def calibration_report(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Measure how reliable the probabilities of calibrated logits are.

    Returns the negative log-likelihood in nats, and the expected calibration error (Naeini et al.,
    AAAI 2015) with its 95 % bootstrap interval.
    """
    probabilities = softmax(logits)
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    likelihood = probabilities[np.arange(len(labels)), labels].clip(1e-30)
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(SAMPLES):
        rows = rng.integers(len(labels), size=len(labels))
        samples.append(calibration_error(confidence[rows], correct[rows]))
    return {
        "negative_log_likelihood": float(-np.log(likelihood).mean()),
        "expected_calibration_error": calibration_error(confidence, correct),
        "interval": [float(np.quantile(samples, q)) for q in (0.025, 0.975)],
    }


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Average the gap between the mean of the highest probabilities and the accuracy over bins.

    `confidence` is the highest probability of each photograph (N,), `correct` is bool (N,).
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, confidence - correct, BINS)
    return float(np.abs(gaps).sum() / len(correct))


def reliability(logits: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Return the reliability diagram of calibrated logits, in bins of as many photographs each.

    Each bin has `photographs`, a count, `confidence`, their mean highest probability, `accuracy`,
    0..1, and its 95 % `interval`.
    """
    probabilities = softmax(logits)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    order = np.argsort(confidence, kind="stable")
    bins = []
    for rows in np.array_split(order, min(MOST_BINS, max(len(order) // LEAST_IN_A_BIN, 1))):
        right = int(correct[rows].sum())
        bins.append(
            {
                "photographs": len(rows),
                "confidence": float(confidence[rows].mean()),
                "accuracy": right / len(rows),
                "interval": wilson_interval(right, len(rows)),
            }
        )
    return bins
