"""Figures are drawn whole, whatever the names are."""

import io

import numpy as np
import pytest
from PIL import Image

from reporting.plots import (
    plot_guesses,
    save_figure,
)

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(255, size=(32, 32, 3), dtype=np.uint8)


NAMES = [f"flower ${i} with a name that is rather long" for i in range(102)]


def check(figure) -> None:
    file = io.BytesIO()
    figure.savefig(file)
    with Image.open(file) as image:
        assert min(image.size) > 200
        assert image.convert("L").getextrema()[0] < 255
    titles = [axes.title.get_window_extent() for axes in figure.axes]
    assert max(title.y1 for title in titles) <= figure.bbox.height  # is not cut


def test_guesses_are_drawn(photo):
    check(plot_guesses(photo, NAMES[:5], [0.5, 0.3, 0.1, 0.05, 0.05]))


def test_evidence_is_drawn_over_the_photograph(photo):
    evidence = np.zeros((32, 32), np.float32)
    evidence[4:8, 20:24] = np.log(15)
    figure = plot_guesses(photo, NAMES[:5], [0.5, 0.3, 0.1, 0.05, 0.05], evidence)
    check(figure)
    middle = figure.axes[1]
    grey, colours = middle.images
    assert grey.get_array().shape == colours.get_array().shape == (32, 32)
    assert colours.to_rgba(evidence)[6, 22, :3].min() > 0.6  # bright
    [legend] = middle.child_axes
    labels = [tick.get_text() for tick in legend.get_xticklabels()]
    assert labels == ["as they are", "15 times lower"]


def test_letters_that_no_font_has_are_no_warning(photo):
    save_figure(plot_guesses(photo, ["\u767e\u5408", "rose"], [0.9, 0.1]), io.BytesIO(), "png")
