"""Charts show the numbers that they are given, where they belong."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from reporting.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    _ticks,
    calibration_chart,
    confusion_chart,
    coverage_chart,
    line_chart,
)


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
    svg = line_chart("Loss & more", "valid", [0.0, 1.0, 0.5], 0)
    assert texts(svg, "title") == [
        "Loss & more",
        *("valid, head: 0.0000", "valid, 1: 1.0000", "valid, 2: 0.5000"),
    ]
    [valid] = points(svg)
    assert [y for _, y in valid] == [BOTTOM, TOP, (TOP + BOTTOM) / 2]
    assert [x for x, _ in valid] == [LEFT + 8, (LEFT + RIGHT) / 2, RIGHT - 8]
    scale = ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert texts(svg) == [*scale, "head", "1", "2", "epoch", "valid"]


def test_dots_of_probabilities_that_are_right_lie_on_the_diagonal():
    bins = [
        {"photographs": 20, "confidence": p, "accuracy": p, "interval": [p - 0.1, p + 0.05]}
        for p in (0.3, 0.5, 0.9)
    ]
    svg = calibration_chart("a", bins)
    [line] = [path.get("d") for path in parts(svg, "path") if path.get("class") == "line"]
    ends = [*map(float, re.findall(r"[\d.]+", line))]
    assert ends == pytest.approx([LEFT + 8, BOTTOM, RIGHT - 8, TOP], abs=0.2)
    for dot in parts(svg, "circle"):
        across = (float(dot.get("cx")) - LEFT - 8) / (RIGHT - LEFT - 16)
        up = (BOTTOM - float(dot.get("cy"))) / (BOTTOM - TOP)
        assert across == pytest.approx(up, abs=0.01)
    assert texts(svg, "title")[1] == "30.0% of 20 with 30.0% on average"
    bars = [path.get("d") for path in parts(svg, "path") if path.get("class") == "line other"]
    assert len(bars) == 3


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.97, 12345.0])
@pytest.mark.parametrize("span", [0.0, 1e-4, 0.03, 1.0, 70.0])
def test_ticks_are_few_round_and_around_the_values(low, span):
    ticks = _ticks(low, low + span)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6
    assert ticks[-1] >= low + span - 1e-6
    step = f"{ticks[1] - ticks[0]:.3e}"
    assert re.match(r"[125]\.000e", step)


def test_coverage_is_drawn_from_before_the_first_mistake_to_all():
    correct = [1] * 90 + [0] + [1] * 9
    shares = [sum(correct[: i + 1]) / (i + 1) for i in range(100)]
    svg = coverage_chart("Coverage", shares, {(0.9, 1.0): "99%", (0.1, 1.0): "none"})
    [line] = points(svg)
    assert line[0] == (pytest.approx(LEFT), TOP)  # 80 % of the photographs
    assert line[-1][0] == RIGHT and TOP < line[-1][1] < BOTTOM
    assert [dot.get("cx") for dot in parts(svg, "circle")] == [f"{(LEFT + RIGHT) / 2:.1f}"]
    assert texts(svg, "title")[1:] == ["99%: names 90.0%, of which 100.00% are correct"]
    assert coverage_chart("One", [0.0], {})  # a single photograph


def test_mistakes_have_their_place_in_the_matrix():
    svg = confusion_chart("Mistakes", ["a & b", "c"], np.array([[5, 0], [2, 7]]))
    assert texts(svg, "title") == ["Mistakes", "c, taken for a & b: 2"]
    assert "7" not in texts(svg)
