"""Figures of merit: accuracy by category, calibration, and the report of a run.

numpy alone, so that it serves every script. Labels and predictions are indices 0..C-1.
"""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 15  # of the expected calibration error, between the probabilities 0 and 1


# --- Calibration ----------------------------------------------------------------------


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits (N, C) into probabilities; rows sum to 1."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature T by which logits (N, C) are divided for honest probabilities.

    It minimises the negative log-likelihood (Guo et al., "On calibration of modern neural
    networks", ICML 2017). So that a few photographs, all named rightly, do not make it
    certain of everything, ln T counts as normally distributed with deviation 1 beforehand.
    """
    centred = logits - logits[np.arange(len(labels)), labels][:, None]

    def slope(log_inverse: float) -> float:
        """Derive the objective by ln(1 / T)."""
        scaled = np.exp(log_inverse) * centred
        return (softmax(scaled) * scaled).sum() + log_inverse

    low, high = -4.0, 4.0
    for _ in range(30):  # halves: to eight digits
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-low))


def cross_fit(logits: np.ndarray, labels: np.ndarray, folds: int = 5) -> np.ndarray:
    """Calibrate logits (N, C) fold by fold, with the temperature that the other folds have.

    So the figures of the split by which the temperature is chosen are honest.
    """
    result = np.empty_like(logits)
    fold = np.arange(len(labels)) % folds  # photographs stand sorted by category
    for i in range(folds):
        others = fold != i
        result[~others] = logits[~others] / fit_temperature(logits[others], labels[others])
    return result


def calibration(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Measure how far the probabilities of calibrated logits (N, C) can be believed.

    Returns:
        The negative log-likelihood in nats, and the expected calibration error (Naeini et
        al., AAAI 2015) in `BINS` bins of the highest probability, with the interval that
        holds 95 % of 1000 bootstrap samples.
    """
    probabilities = softmax(logits)
    certainty = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    likelihood = probabilities[np.arange(len(labels)), labels].clip(1e-30)
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(1000):
        rows = rng.integers(len(labels), size=len(labels))
        samples.append(calibration_error(certainty[rows], right[rows]))
    return {
        "negative_log_likelihood": float(-np.log(likelihood).mean()),
        "expected_calibration_error": calibration_error(certainty, right),
        "interval": [float(np.quantile(samples, q)) for q in (0.025, 0.975)],
    }


def calibration_error(certainty: np.ndarray, right: np.ndarray) -> float:
    """Average the gap between mean certainty and accuracy over bins of equal width."""
    place = np.minimum((certainty * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, certainty - right, BINS)
    return float(np.abs(gaps).sum() / len(right))


# --- The report -----------------------------------------------------------------------


def rank_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the categories that scores (N, C) put before the right one: 0 is named rightly."""
    right = scores[np.arange(len(labels)), labels][:, None]
    # Among equal ones the first counts as the best, as with argmax.
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > right) | (scores == right) & earlier).sum(1)


def summarise(
    labels: np.ndarray,
    predictions: np.ndarray,
    ranks: np.ndarray,
    categories: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """Sum up how well photographs were named: shares and counts, in all and by category.

    Args:
        labels: what the photographs show (N,).
        predictions: what they were taken for (N,).
        ranks: see `rank_of` (N,).
        categories: of the indices, as are the names.
    """
    count = np.bincount(labels, minlength=len(names))
    taken = np.bincount(predictions, minlength=len(names))
    right = np.bincount(labels[ranks == 0], minlength=len(names))
    there = np.flatnonzero(count)

    def share(part: np.integer, whole: np.integer) -> float | None:
        return float(part / whole) if whole else None

    wrong = count - right
    hardest = sorted(np.flatnonzero(wrong), key=lambda i: (-wrong[i] / count[i], -wrong[i]))[:5]
    pairs = Counter(
        tuple(sorted(pair))
        for pair in zip(labels[ranks > 0].tolist(), predictions[ranks > 0].tolist())
    )
    return {
        "photographs": len(labels),
        **{
            f"top{k}": {"right": int((ranks < k).sum()), "share": float((ranks < k).mean())}
            for k in (1, 5)
        },
        "mean_category_accuracy": float((right[there] / count[there]).mean()),
        "hardest": [
            {
                "category": categories[i],
                "name": names[i],
                "right": int(right[i]),
                "photographs": int(count[i]),
            }
            for i in hardest
        ],
        "confused": [
            {
                "categories": [categories[i] for i in pair],
                "names": [names[i] for i in pair],
                "times": times,
            }
            for pair, times in pairs.most_common(5)
        ],
        "categories": [
            {
                "category": categories[i],
                "name": names[i],
                "photographs": int(count[i]),
                "taken_for_it": int(taken[i]),
                "right": int(right[i]),
                "precision": share(right[i], taken[i]),
                "recall": share(right[i], count[i]),
                "f1": share(2 * right[i], count[i] + taken[i]),
            }
            for i in range(len(names))
        ],
    }


def summary_lines(title: str, summary: dict[str, Any]) -> Iterator[str]:
    """Say in a few lines how well a split was named."""
    top1, top5 = summary["top1"], summary["top5"]
    number = summary["photographs"]
    yield f"{title}: {top1['share']:.2%} ({top1['right']} of {number})"
    yield (
        f"among the best five: {top5['share']:.2%} ({top5['right']} of {number}); "
        f"mean of the categories: {summary['mean_category_accuracy']:.2%}"
    )
    if summary["hardest"]:
        yield "hardest: " + ", ".join(
            f"{row['name']} ({row['right']} of {row['photographs']} right)"
            for row in summary["hardest"]
        )
        yield "most confused: " + ", ".join(
            "{} and {} ({})".format(
                *row["names"], f"{row['times']} times" if row["times"] > 1 else "once"
            )
            for row in summary["confused"]
        )


def calibration_line(split: str, figures: dict[str, Any]) -> str:
    """Say how far the probabilities on a split can be believed."""
    low, high = figures["interval"]
    return (
        f"calibration on {split}: expected error {figures['expected_calibration_error']:.2%} "
        f"({low:.2%} to {high:.2%}), negative log-likelihood "
        f"{figures['negative_log_likelihood']:.4f}"
    )


# --- Pictures -------------------------------------------------------------------------

# matplotlib is optional, and imported where it is used. A Figure of one's own, without pyplot,
# needs no screen; `savefig` writes it, a notebook shows it.


def plot_curves(history: Sequence[dict[str, float]]) -> "Figure":
    """Draw loss and accuracy against the epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [row["epoch"] for row in history]
    figure = Figure((10, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["train_loss"] for row in history], ".-", label="train, while learning")
    left.plot(epochs, [row["valid_loss"] for row in history], ".-", label="valid")
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy, nats")
    left.legend()
    right.plot(epochs, [row["valid_accuracy"] for row in history], ".-")
    right.set(title="Accuracy on valid", xlabel="epoch")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return figure


def plot_confusion(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> "Figure":
    """Draw what share of each category (row) was taken for which (column)."""
    from matplotlib.figure import Figure

    number = len(names)
    shares = np.zeros((number, number))
    np.add.at(shares, (labels, predictions), 1)
    shares /= shares.sum(1, keepdims=True).clip(1)
    side = 3 + 0.17 * number  # inches: every name has its line
    figure = Figure((side + 1, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(np.where(shares > 0, shares, np.nan), vmin=0, vmax=1, cmap="viridis_r")
    axes.set_xticks(range(number), names, rotation=90, fontsize=7)
    axes.set_yticks(range(number), names, fontsize=7)
    axes.set(xlabel="taken for", ylabel="flower")
    axes.set_xticks(np.arange(number) - 0.5, minor=True)
    axes.set_yticks(np.arange(number) - 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    figure.colorbar(picture, label="share of the flower's photographs", shrink=0.5)
    return figure


def plot_photographs(
    photographs: Sequence[np.ndarray], names: Sequence[str], taken_for: Sequence[str] = ()
) -> "Figure":
    """Draw photographs (H, W, 3), each with its name and, if given, what it was taken for."""
    from matplotlib.figure import Figure

    # At most six in a row, and rows as equal as can be.
    rows = max(1, -(-len(photographs) // 6))
    columns = max(1, -(-len(photographs) // rows))
    figure = Figure(
        (2.2 * columns, (3.1 if taken_for else 2.6) * rows), dpi=110, layout="constrained"
    )
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places:
        axes.axis("off")
    titles = [_wrap(name) for name in names]
    if taken_for:
        titles = [f"{title}\ntaken for\n{_wrap(other)}" for title, other in zip(titles, taken_for)]
    for axes, photograph, title in zip(places, photographs, titles):
        axes.imshow(photograph)
        axes.set_title(title, fontsize=9)
        axes.set_anchor("N")  # or the layout cuts long titles
    return figure


def plot_guesses(
    photograph: np.ndarray, names: Sequence[str], probabilities: Sequence[float]
) -> "Figure":
    """Draw a photograph (H, W, 3) beside bars of its most probable names."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure((9, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(photograph)
    left.set_title(_wrap(names[0]))
    left.axis("off")
    places = range(len(names))
    right.barh(places, probabilities)
    right.set_yticks(places, [_wrap(name) for name in names])
    right.invert_yaxis()
    right.set(xlim=(0, 1.25), xlabel="probability", xticks=[0, 0.25, 0.5, 0.75, 1])
    right.xaxis.set_major_formatter(PercentFormatter(1))
    for place, probability in zip(places, probabilities):
        right.text(probability + 0.01, place, f"{probability:.1%}", va="center")
    return figure


def _wrap(name: str) -> str:
    # A dollar would start a formula.
    return "\n".join(textwrap.wrap(name, 20, max_lines=2, placeholder="...")).replace("$", r"\$")
