"""The figure of a prediction, by matplotlib, which is optional."""

import logging
import textwrap
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from reporting.report import spell_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# For names of other scripts, where a system has one of these fonts.
FONTS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Thai", "Noto Sans"]
FONTS += ["PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Microsoft YaHei", "Yu Gothic"]
FONTS += ["Malgun Gothic", "Leelawadee UI", "WenQuanYi Zen Hei", "IPAGothic"]

MOST_BARS = 20


def save_figure(figure: "Figure", file: BinaryIO, kind: str) -> bool:
    """Write a figure into an open file, as "png", "jpg", "pdf" or "svg".

    Returns whether the fonts have all letters; others become boxes.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # of fonts not there
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(file, format=kind)
    return not any("missing from" in str(each.message) for each in caught)


def plot_guesses(
    photograph: np.ndarray,
    names: Sequence[str],
    probabilities: Sequence[float],
    evidence: np.ndarray | None = None,
) -> "Figure":
    """Draw a photograph (H, W, 3) beside bars of its most probable names, 0..1.

    `evidence` (H, W) is the occlusion map of the first name, see `compute_occlusion_map`.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    matplotlib.rcParams["font.family"] = FONTS
    names, probabilities = names[:MOST_BARS], probabilities[:MOST_BARS]
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
        right.text(probability + 0.01, place, spell_share(probability), va="center")
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
