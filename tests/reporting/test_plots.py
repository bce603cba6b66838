"""Figures are drawn whole, whatever the names are."""

import io

import numpy as np
import pytest
from PIL import Image

from reporting.plots import (
    plot_confusion,
    plot_curves,
    plot_guesses,
    plot_photographs,
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


def test_curves_are_drawn():
    check(
        plot_curves(
            [
                {
                    "epoch": i,
                    "train_loss": 1 / (i + 1),
                    "valid_loss": 2 / (i + 1),
                    "calibrated_loss": None,
                    "valid_accuracy": 0.5,
                }
                for i in range(3)
            ]
        )
    )


def test_the_axes_of_one_epoch_have_room_and_no_more_than_all():
    row = {"epoch": 0, "train_loss": 0.5, "valid_loss": 0.5, "valid_accuracy": 1.0}
    left, right = plot_curves([row]).axes
    assert left.get_xlim() == right.get_xlim() == (-0.5, 0.5)
    assert right.get_ylim()[1] == 1
    assert [tick for tick in left.get_xticks() if -0.5 <= tick <= 0.5] == [0]


def test_photographs_are_drawn(photo):
    check(plot_photographs([photo] * 10, NAMES[:10]))
    check(plot_photographs([photo] * 8, NAMES[:8], NAMES[8:16]))
    plot_photographs([], []).savefig(io.BytesIO())  # the mistakes of a run without any


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


@pytest.mark.parametrize("value", [0.0, -3.0, 300.0])
def test_odd_evidence_is_drawn(photo, value):
    check(plot_guesses(photo, NAMES[:2], [1.0, 0.0], np.full((32, 32), value, np.float32)))


@pytest.mark.slow
def test_the_confusion_of_many_categories_is_drawn():
    labels, predictions = np.random.default_rng(0).integers(102, size=(2, 500))
    check(plot_confusion(labels, predictions, NAMES))


def test_confusion_shows_shares_of_the_row():
    figure = plot_confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), ["rose", "lily"])
    [image] = figure.axes[0].images
    assert image.get_array().tolist() == [[0.5, 0.5], [None, 1.0]]


def test_letters_that_no_font_has_are_no_warning(photo):
    save_figure(plot_guesses(photo, ["\u767e\u5408", "rose"], [0.9, 0.1]), io.BytesIO(), "png")
