"""Figures of a run and of a prediction, by matplotlib, which is optional.

Photographs are uint8 (H, W, 3), 0..255; labels and predictions are indices 0..C-1.
"""

import textwrap
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", file: BinaryIO, kind: str) -> None:
    """Write a figure into an open file, as "png", "jpg", "pdf" or "svg"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that no font here has; they become boxes
        figure.savefig(file, format=kind)


def plot_curves(history: Sequence[dict[str, Any]]) -> "Figure":
    """Draw loss and accuracy against the epochs, from the rows of history.csv."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [row["epoch"] for row in history]
    figure = Figure((10, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["train_loss"] for row in history], ".-", label="train, while learning")
    left.plot(epochs, [row["valid_loss"] for row in history], ".-", label="valid")
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy, nats")
    left.legend()
    right.plot(epochs, [row["valid_accuracy"] for row in history], ".-", clip_on=False)
    right.set(title="Accuracy on valid", xlabel="epoch")
    right.set_ylim(top=min(right.get_ylim()[1], 1))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)  # also where there is one epoch
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    return figure


def plot_confusion(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> "Figure":
    """Draw what share of each category (row) was taken for which (column).

    Labels and predictions have one entry for each photograph (N,), names one for each category.
    """
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
    photograph: np.ndarray,
    names: Sequence[str],
    probabilities: Sequence[float],
    evidence: np.ndarray | None = None,
) -> "Figure":
    """Draw a photograph (H, W, 3) beside bars of its most probable names, 0..1.

    `evidence` (H, W) is the occlusion map of the first name, see `compute_occlusion_map`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure((9 if evidence is None else 13, 4), dpi=120, layout="constrained")
    left, *middle, right = figure.subplots(1, 2 if evidence is None else 3)
    left.imshow(photograph)
    left.set_title(_wrap(names[0]))
    left.axis("off")
    if evidence is not None:
        _draw_evidence(middle[0], photograph, evidence)
    places = range(len(names))
    right.barh(places, probabilities)
    right.set_yticks(places, [_wrap(name) for name in names])
    right.invert_yaxis()
    right.set(xlim=(0, 1.25), xlabel="probability", xticks=[0, 0.25, 0.5, 0.75, 1])
    right.xaxis.set_major_formatter(PercentFormatter(1))
    for place, probability in zip(places, probabilities):
        right.text(probability + 0.01, place, f"{probability:.1%}", va="center")
    return figure


def _draw_evidence(axes: "Axes", photograph: np.ndarray, evidence: np.ndarray) -> None:
    """Draw evidence (H, W) in colours over a photograph in grey; what is below 0 is none."""
    axes.imshow(photograph.mean(2), cmap="gray", vmin=0, vmax=255)
    most = max(float(evidence.max()), 1e-6)
    # Its colours rise in lightness, for eyes that do not tell red from green.
    colours = axes.imshow(evidence, cmap="inferno", vmin=0, vmax=most, alpha=0.6)
    axes.set_title("where it is seen")
    axes.axis("off")
    legend = axes.inset_axes((0.1, -0.09, 0.8, 0.05))
    bar = axes.figure.colorbar(colours, cax=legend, orientation="horizontal", ticks=[0, most])
    times = np.exp(min(most, 100))
    text = f"{times:.1f}" if times < 10 else f"{times:.0f}" if times < 1000 else "over 1000"
    bar.set_ticklabels(["as they are", f"{text} times lower"])
    bar.set_label("odds of the name, when this place is blurred")


def _wrap(name: str) -> str:
    """Break a long name into two lines, and keep it from being read as a formula."""
    # A dollar would start a formula.
    return "\n".join(textwrap.wrap(name, 20, max_lines=2, placeholder="...")).replace("$", r"\$")
