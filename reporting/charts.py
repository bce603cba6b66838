"""Charts as SVG: colours come from the classes of `page.css`, and no script is needed."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 342, 28, 188  # of the area inside the axes

NEARLY = 0.002  # from 1: nearer shares are hardly told apart in a chart

FEWEST = 20  # photographs from which on a share of them is drawn
LONGEST = 20  # letters of a name beside a matrix

MAX_POINTS = 300  # of a line; longer ones are thinned out
MAX_DOTS = 40  # with at most so many points each one gets a dot, whose tooltip has its value


def line_chart(
    title: str, name: str, values: Sequence[float], first: int, percent: bool = False
) -> str:
    """Draw values over the epochs, with the title as alternative text.

    `name` is what has them; `first` is the first epoch, 0 the head; `percent` says that they are
    shares, 0..1.
    """
    count = len(values)
    parts, y = _y_axis(min(values), max(values), percent)

    def x(i: int) -> float:
        return LEFT + 8 + (RIGHT - LEFT - 16) * (i / (count - 1) if count > 1 else 0.5)

    def epoch_name(i: int) -> str:
        return str(first + i) if first + i else "head"

    step = max(1, round(_ticks(0, max(count - 1, 1))[1]))
    for i in range(-first % step, count, step):
        parts.append(_text(x(i), BOTTOM + 16, epoch_name(i), "middle"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 34, "epoch", "middle"))
    parts.append(_text(LEFT, 16, name))

    shown = [*range(count)]
    if count > MAX_POINTS:
        shown = [round(i * (count - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)]
    points = " ".join(f"{x(i):.1f},{y(values[i]):.1f}" for i in shown)
    parts.append(f'<polyline class="line" points="{points}"/>')
    for i in shown if count <= MAX_DOTS else ():
        value = f"{values[i]:.2%}" if percent else f"{values[i]:.4f}"
        dot = f'<circle class="line" cx="{x(i):.1f}" cy="{y(values[i]):.1f}" r="3">'
        parts.append(f"{dot}{_title(f'{name}, {epoch_name(i)}: {value}')}</circle>")
    return _svg(title, parts)


def calibration_chart(title: str, bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw the share that is correct over the probability, with the title as alternative text.

    `bins` are those of `reliability`. Both axes have room for what is near 1, where most are; each
    dot has its 95 % interval, and the diagonal is where probabilities are right.
    """

    def place(share: float, low: float, high: float) -> float:
        return low + (high - low) * math.log10(1 - share + NEARLY) / math.log10(
            NEARLY / (1 + NEARLY)
        )

    def x(share: float) -> float:
        return place(share, LEFT + 8, RIGHT - 8)

    def y(share: float) -> float:
        return place(share, BOTTOM, TOP)

    parts = [_text(LEFT, 16, "share that is correct")]
    for share in (0, 0.5, 0.9, 0.99, 1):
        parts.append(f'<path class="grid" d="M{LEFT} {y(share):.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 5, y(share) + 4, f"{share:.0%}", "end"))
        parts.append(_text(x(share), BOTTOM + 16, f"{share:.0%}", "middle"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 34, "probability of the name", "middle"))
    parts.append(f'<path class="line" d="M{x(0):.1f} {y(0):.1f}L{x(1):.1f} {y(1):.1f}"/>')
    for each in bins:
        at, (low, high) = x(each["confidence"]), each["interval"]
        parts.append(f'<path class="line other" d="M{at:.1f} {y(low):.1f}V{y(high):.1f}"/>')
        dot = f'<circle class="line other" cx="{at:.1f}" cy="{y(each["accuracy"]):.1f}" r="4">'
        said = f"{each['accuracy']:.1%} of {each['photographs']} with {each['confidence']:.1%}"
        parts.append(f"{dot}{_title(f'{said} on average')}</circle>")
    return _svg(title, parts)


def coverage_chart(
    title: str, shares: Sequence[float], points: Mapping[tuple[float, float], str]
) -> str:
    """Draw the share of correct names over the share of photographs that get one.

    `shares` are those among the first, the first two and so on of all photographs, the most certain
    ones first; `points` are marked: of both shares, what to write beside them.
    """
    count = len(shares)
    perfect = next((i for i, share in enumerate(shares) if share < 1), 0)
    # What comes before the first mistakes is left out: nothing happens there.
    least = max(math.floor(10 * (2 * perfect / count - 1)) / 10, 0)
    first = max(round(least * count), min(FEWEST, count)) - 1
    parts, y = _y_axis(min(shares[first:]), 1, percent=True)

    def x(share: float) -> float:
        return LEFT + (RIGHT - LEFT) * (share - least) / (1 - least)

    for i in range(5):
        share = least + i * (1 - least) / 4
        parts.append(_text(x(share), BOTTOM + 16, f"{share:.0%}", "middle"))
    parts.append(
        _text(
            (LEFT + RIGHT) / 2,
            BOTTOM + 34,
            "photographs that get a name, the most certain first",
            "middle",
        )
    )
    parts.append(_text(LEFT, 16, "names that are correct"))
    step = max(1, (count - first) / MAX_POINTS)
    shown = {round(first + i * step) for i in range(int((count - 1 - first) / step) + 1)}
    line = " ".join(
        f"{x((i + 1) / count):.1f},{y(shares[i]):.1f}" for i in sorted({*shown, count - 1})
    )
    parts.append(f'<polyline class="line" points="{line}"/>')
    for (named, right), words in points.items():
        if named < least:
            continue
        at = f'cx="{x(named):.1f}" cy="{y(max(right, min(shares[first:]))):.1f}" r="4"'
        said = f"{words}: names {named:.1%}, of which {right:.2%} are correct"
        parts.append(f'<circle class="line other" {at}>{_title(said)}</circle>')
        parts.append(_text(x(named) - 8, y(right) + 14, words, "end"))
    return _svg(title, parts)


def confusion_chart(title: str, names: Sequence[str], counts: np.ndarray) -> str:
    """Draw mistakes as a matrix, a row for each category and a column for what it was taken for.

    `counts` (C, C) are of these categories alone; the diagonal is not drawn.
    """
    size, room = 16, 150  # of a cell, and for the names
    length = size * len(names)
    parts = []
    for i, name in enumerate(names):
        at = room + size * i
        shown = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\u2026"
        parts.append(_text(room - 6, at + 12, shown, "end"))
        parts.append(
            f'<text transform="translate({at + 12} {room - 6}) rotate(-90)">{escape(shown)}</text>'
        )
        parts.append(f'<path class="grid" d="M{room} {at}h{length}M{at} {room}v{length}"/>')
        parts.append(f'<rect class="own" x="{at}" y="{at}" width="{size}" height="{size}"/>')
    for i, j in np.argwhere(counts).tolist():
        if i != j:
            x, y = room + size * j, room + size * i
            said = f"{names[i]}, taken for {names[j]}: {counts[i, j]}"
            parts.append(
                f'<g><rect class="mistake" x="{x}" y="{y}" width="{size}" height="{size}"/>'
                f'<text class="count" x="{x + size / 2}" y="{y + 12}" text-anchor="middle">'
                f"{counts[i, j]}</text>{_title(said)}</g>"
            )
    side = room + length + 2
    return _svg(title, parts, side, side)


def _y_axis(low: float, high: float, percent: bool) -> tuple[list[str], Callable[[float], float]]:
    """Draw the axis for values from low to high; return it, and what maps a value to its place."""
    if percent:  # differences below a percentage point would be noise
        low = max(0, min(low, high - 0.01))
    ticks = _ticks(low, high)
    bottom, top = ticks[0], ticks[-1]

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - bottom) / (top - bottom)

    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9) - 2 * percent)
    parts = []
    for tick in ticks:
        label = f"{tick:.{digits}%}" if percent else f"{tick:.{digits}f}"
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 5, y(tick) + 4, label, "end"))
    return parts, y


def _ticks(low: float, high: float) -> list[float]:
    """Choose two to seven round numbers in equal steps that enclose two values."""
    span = high - low or abs(high) or 1
    power = 10 ** math.floor(math.log10(span))
    step = next(power * k for k in (0.2, 0.5, 1, 2) if span / (power * k) <= 5 + 1e-9)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _svg(title: str, parts: Sequence[str], width: int = WIDTH, height: int = HEIGHT) -> str:
    content = _title(title) + "".join(parts)
    return f'<svg role="img" viewBox="0 0 {width} {height}">{content}</svg>'
