"""Charts for a page, drawn by hand as SVG: they take the page's colours and need no script.

The classes are those of `page.css`; text has the colour of the text around it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 342, 28, 188  # of the area inside the axes

MOST_POINTS = 300  # of a line; of longer ones so many are drawn
MOST_DOTS = 40  # points that get a dot, which says its numbers when it is pointed at


def line_chart(
    title: str, lines: Mapping[str, Sequence[float]], first: int, percent: bool = False
) -> str:
    """Draw one or two lines over the epochs.

    Args:
        title: what the chart shows, for those who do not see it.
        lines: their values by their names; all have the same number of them, above 0.
        first: the number of the first epoch; 0 is the head.
        percent: the values are shares, 0..1.
    """
    number = len(next(iter(lines.values())))
    values = [value for line in lines.values() for value in line]
    parts, y = _scale(min(values), max(values), percent)

    def x(i: int) -> float:
        return LEFT + 8 + (RIGHT - LEFT - 16) * (i / (number - 1) if number > 1 else 0.5)

    def name_epoch(i: int) -> str:
        return str(first + i) if first + i else "head"

    step = max(1, round(_ticks(0, max(number - 1, 1))[1]))
    for i in range(-first % step, number, step):
        parts.append(_text(x(i), BOTTOM + 16, name_epoch(i), "middle"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 34, "epoch", "middle"))

    shown = [*range(number)]
    if number > MOST_POINTS:
        shown = [round(i * (number - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)]
    for k, (name, line) in enumerate(lines.items()):
        style = ("line", "line other")[k]
        points = " ".join(f"{x(i):.1f},{y(line[i]):.1f}" for i in shown)
        parts.append(f'<polyline class="{style}" points="{points}"/>')
        for i in shown if number <= MOST_DOTS else ():
            said = f"{line[i]:.2%}" if percent else f"{line[i]:.4f}"
            place = f'class="{style}" cx="{x(i):.1f}" cy="{y(line[i]):.1f}"'
            said = escape(f"{name}, {name_epoch(i)}: {said}")
            parts.append(f'<circle {place} r="3"><title>{said}</title></circle>')
        left = LEFT + 8 + 180 * k
        parts.append(f'<path class="{style}" d="M{left} 12h24"/>')
        parts.append(_text(left + 30, 16, name))
    return _svg(title, parts)


def bar_chart(title: str, name: str, bars: Sequence[float | None], shares: bool = False) -> str:
    """Draw bars over equal ranges of the probability from 0 to 1.

    Args:
        title: what the chart shows, for those who do not see it.
        name: of the bars.
        bars: their heights: counts, or `shares` (0..1), which would end at a dashed diagonal if
            they were as high as the probability; None where there is no bar.
        shares: they are.
    """
    highest = 1 if shares else max(bar or 0 for bar in bars)
    parts, y = _scale(0, highest, shares)
    parts.append(_text(LEFT, 16, name))
    width = (RIGHT - LEFT) / len(bars)
    for i, bar in enumerate(bars):
        if bar is None:
            continue
        left, said = LEFT + width * i, f"{bar:.1%}" if shares else str(bar)
        place = f'x="{left + 1:.1f}" y="{y(bar):.1f}" width="{width - 2:.1f}"'
        parts.append(f'<rect class="bar" {place} height="{BOTTOM - y(bar):.1f}">')
        where = f"probability {i / len(bars):.0%} to {(i + 1) / len(bars):.0%}"
        parts.append(f"<title>{escape(name)}, {where}: {said}</title></rect>")
        if not shares:
            short = said if bar < 10_000 else f"{bar / 1000:.0f}k"
            parts.append(_text(left + width / 2, y(bar) - 3, short, "middle", "small"))
    if shares:
        parts.append(f'<path class="line other" d="M{LEFT} {BOTTOM}L{RIGHT} {TOP}"/>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LEFT + (RIGHT - LEFT) * share
        parts.append(_text(x, BOTTOM + 16, f"{share:.0%}", "middle"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 34, "probability of the name", "middle"))
    return _svg(title, parts)


def _scale(low: float, high: float, percent: bool) -> tuple[list[str], Callable[[float], float]]:
    """Draw a scale that holds two values; return it, and what tells the place of a value."""
    if percent:  # less than a percentage point would be no more than noise
        low = max(0, min(low, high - 0.01))
    ticks = _ticks(low, high)
    bottom, top = ticks[0], ticks[-1]
    if percent and top > 1:  # nothing is
        ticks, top = [tick for tick in ticks if tick <= 1], 1

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - bottom) / (top - bottom)

    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9) - 2 * percent)
    parts = []
    for tick in ticks:
        text = f"{tick:.{digits}%}" if percent else f"{tick:.{digits}f}"
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 5, y(tick) + 4, text, "end"))
    return parts, y


def _ticks(low: float, high: float) -> list[float]:
    """Choose two to seven round numbers in equal steps, between which two values are."""
    span = high - low or abs(high) or 1
    power = 10 ** math.floor(math.log10(span))
    step = next(power * k for k in (0.2, 0.5, 1, 2) if span / (power * k) <= 5 + 1e-9)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _text(x: float, y: float, text: str, anchor: str = "start", style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, parts: Sequence[str]) -> str:
    name = f"<title>{escape(title)}</title>"
    return f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}">{name}{"".join(parts)}</svg>'
