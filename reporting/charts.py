"""Charts as SVG: colours come from the classes of `page.css`, and no script is needed."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 342, 28, 188  # of the area inside the axes

NEARLY = 0.002  # from 1: nearer shares are hardly told apart in a chart

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


def _svg(title: str, parts: Sequence[str]) -> str:
    content = _title(title) + "".join(parts)
    return f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}">{content}</svg>'
