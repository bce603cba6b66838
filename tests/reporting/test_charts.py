"""Charts show the numbers that they are given, where they belong."""

import re
from xml.etree import ElementTree

import pytest

from reporting.charts import BOTTOM, LEFT, RIGHT, TOP, _ticks, bar_chart, line_chart


def parts(svg: str, tag: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)  # also proves that it is well formed
    assert root.get("role") == "img"
    assert root[0].tag == "title"
    return [*root.iter(tag)]


def texts(svg: str, tag: str = "text") -> list[str]:
    return [element.text for element in parts(svg, tag)]


def points(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in parts(svg, "polyline")
    ]


def test_lines_go_through_their_values():
    svg = line_chart("Loss & more", {"train": [1.0, 0.5, 0.25], "valid": [0.0, 1.0, 0.5]}, 0)
    assert texts(svg, "title") == [
        "Loss & more",
        *("train, head: 1.0000", "train, 1: 0.5000", "train, 2: 0.2500"),
        *("valid, head: 0.0000", "valid, 1: 1.0000", "valid, 2: 0.5000"),
    ]
    train, valid = points(svg)
    assert [y for _, y in train] == [TOP, (TOP + BOTTOM) / 2, BOTTOM - (BOTTOM - TOP) / 4]
    assert [y for _, y in valid] == [BOTTOM, TOP, (TOP + BOTTOM) / 2]
    assert [x for x, _ in train] == [LEFT + 8, (LEFT + RIGHT) / 2, RIGHT - 8]
    scale = ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert texts(svg) == [*scale, "head", "1", "2", "epoch", "train", "valid"]


def test_shares_end_at_100_percent():
    svg = line_chart("a", {"valid": [0.905, 0.999]}, 1, percent=True)
    assert texts(svg) == ["90%", "92%", "94%", "96%", "98%", "100%", "1", "2", "epoch", "valid"]
    assert texts(svg, "title")[1:] == ["valid, 1: 90.50%", "valid, 2: 99.90%"]
    fine = texts(line_chart("a", {"valid": [0.9905, 0.9915]}, 1, percent=True))
    assert fine[:3] == ["98.0%", "98.2%", "98.4%"]
    flat = texts(line_chart("a", {"valid": [1.0, 1.0]}, 1, percent=True))
    assert flat[:6] == ["99.0%", "99.2%", "99.4%", "99.6%", "99.8%", "100.0%"]


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-9, 3e6])
@pytest.mark.parametrize("number", [1, 2, 5000])
def test_flat_lines_of_any_length_are_drawn(value, number):
    svg = line_chart("a", {"b": [value] * number}, 1, percent=value == 1)
    (line,) = points(svg)
    assert 1 <= len(line) <= 300
    assert all(LEFT < x < RIGHT and TOP <= y <= BOTTOM for x, y in line)
    assert len(svg) < 30_000
    numbers = [text for text in texts(svg) if text.isdigit() and text != "0"]
    assert number < 3 or int(numbers[-1]) <= number


def test_the_last_epoch_of_many_is_drawn():
    losses = [1.0] * 4999 + [0.0]
    (line,) = points(line_chart("a", {"b": losses}, 1))
    assert line[-1][1] == BOTTOM


def test_bars_have_their_heights():
    svg = bar_chart("a", "correct", [None, 0.5, 1.0, 0.0], shares=True)
    bars = parts(svg, "rect")
    assert [float(bar.get("height")) for bar in bars] == [(BOTTOM - TOP) / 2, BOTTOM - TOP, 0]
    assert texts(svg, "title")[1:] == [
        "correct, probability 25% to 50%: 50.0%",
        "correct, probability 50% to 75%: 100.0%",
        "correct, probability 75% to 100%: 0.0%",
    ]
    (diagonal,) = (path for path in parts(svg, "path") if path.get("class") == "line other")
    assert diagonal.get("d") == f"M{LEFT} {BOTTOM}L{RIGHT} {TOP}"


def test_counts_stand_on_their_bars():
    svg = bar_chart("a", "photographs", [None, 3, 800, 81_600])
    small = [each.text for each in parts(svg, "text") if each.get("class") == "small"]
    assert small == ["3", "800", "82k"]
    assert texts(svg, "title")[-1] == "photographs, probability 75% to 100%: 81600"
    assert not [path for path in parts(svg, "path") if path.get("class") == "line other"]


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.97, 12345.0])
@pytest.mark.parametrize("span", [0.0, 1e-4, 0.03, 1.0, 70.0])
def test_ticks_are_few_round_and_around_the_values(low, span):
    ticks = _ticks(low, low + span)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6
    assert ticks[-1] >= low + span - 1e-6
    step = f"{ticks[1] - ticks[0]:.3e}"
    assert re.match(r"[125]\.000e", step)
