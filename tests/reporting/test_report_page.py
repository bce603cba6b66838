"""The page of a report says what report.json says, and shows the photographs."""

import re

import numpy as np
import pytest
from pages import Page
from PIL import Image

from reporting.calibration import calibration_report
from reporting.page import STYLE
from reporting.report import EvaluatedSplit
from reporting.report_page import make_page

NAMES = ["rose", "<b>&lily", "iris", "never there"]
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
TAKEN = [0, 0, 0, 1, 1, 1, 2, 0]
LOGITS = 3.0 * np.eye(4)[TAKEN]
LOGITS[3] *= 3  # the most certain mistake

NETWORK = {
    "arch": "cnn",
    "image_size": 64,
    "epoch": 0,
    "valid_accuracy": 0.75,
    "valid_images": 40,
    "folds": 0,
    "seed": 7,
    "date": "2026-01-01T00:00:00+00:00",
    "command": "python train.py flowers",
    "versions": {"python": "3"},
}
HISTORY = [
    {"epoch": i, "train_loss": 1 / (i + 1), "valid_loss": 1 / (i + 2), "valid_accuracy": a}
    for i, a in ((0, 0.5), (1, 0.75), (2, 0.625))
]


@pytest.fixture
def evaluated(tmp_path) -> EvaluatedSplit:
    paths = [str(tmp_path / f"{label}" / f"{i}.png") for i, label in enumerate(LABELS)]
    for i, path in enumerate(paths):
        (tmp_path / f"{LABELS[i]}").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (20 * i, 0, 0)).save(path)
    return EvaluatedSplit(paths, LABELS, LOGITS, list("0123"), NAMES)


def report_of(evaluated: EvaluatedSplit, split: str = "test", **more) -> dict:
    return {
        **evaluated.figures(split),
        "calibration": {
            "valid, cross-fitted": {"expected_calibration_error": 9.0, "interval": [9.0, 9.0]},
            split: calibration_report(evaluated.logits, evaluated.labels),
        },
        "command": "python predict.py flowers",
        "versions": {"python": "3.11", "numpy": "2"},
        "network": NETWORK,
        **more,
    }


def run_of(evaluated: EvaluatedSplit, split: str = "test") -> dict:
    sizes = {"train": 48, "valid": 16, "test": 8}
    return report_of(
        evaluated,
        split,
        settings={"arch": "cnn", "weights": None, "hidden_units": [], "epochs": 2, "seed": 0},
        data={"folder": "my flowers", "photographs": sizes},
    )


def test_the_figures_are_those_of_the_report(evaluated):
    report = report_of(evaluated)
    found = Page(make_page(report, evaluated))
    assert found.texts("h1") == ["75.00% of 8 photographs named correctly"]
    low, high = report["top1"]["interval"]
    large = found.texts("dd")
    assert large[:3] == ["75.00%", "6 of 8", f"95 % interval: {low:.2%} to {high:.2%}"]
    assert f"{report['mean_category_accuracy']:.2%}" in large
    calibration = report["calibration"]["test"]
    assert f"{calibration['expected_calibration_error']:.2%}" in large
    header, *rows = found.rows()
    assert header == ["name", "category", "photographs", "correct", "precision", "recall", "F1"]
    assert rows == [
        ["rose", "0", "4", "3", "75.0%", "75.0%", "75.0%"],
        ["iris", "2", "2", "1", "100.0%", "50.0%", "66.7%"],
        ["<b>&lily", "1", "2", "2", "66.7%", "100.0%", "80.0%"],
        ["never there", "3", "0", "0", "none", "none", "none"],
    ]


def test_photographs_of_confused_pairs_stand_side_by_side(evaluated):
    once = Page(make_page(report_of(evaluated), evaluated))
    assert "What it confuses most" not in once.texts("h2")
    logits = LOGITS.copy()
    logits[4] = LOGITS[0]  # a lily as a rose, too
    evaluated = evaluated._replace(logits=logits)
    found = Page(make_page(report_of(evaluated), evaluated))
    assert found.texts("h3")[0] == "rose and <b>&lily: 2 times"
    captions = found.texts("figcaption")[1:3]  # behind that of the chart
    assert captions == ["rose, taken for <b>&lily", "<b>&lily, taken for rose"]
    alts = [each["alt"] for each in found.all("img")]
    assert alts[:2] == captions


def test_mistakes_are_shown_the_most_probable_first(evaluated):
    found = Page(make_page(report_of(evaluated), evaluated))
    assert found.texts("figcaption")[-2:] == [
        "rose, taken for <b>&lily (over 99.9%); the label may be wrong0/3.png",
        "iris, taken for rose (87.0%)2/7.png",
    ]
    assert not re.search("more are listed", found.source)


def test_nothing_is_confused_where_all_is_correct(evaluated):
    right = evaluated._replace(logits=3.0 * np.eye(4)[LABELS])
    found = Page(make_page(report_of(right), right))
    assert "What it confuses most" not in found.texts("h2")
    assert "Nothing." in found.texts("p")
    assert not found.all("img")


def test_charts_have_the_reports_numbers(evaluated):
    found = Page(make_page(run_of(evaluated), evaluated, HISTORY))
    titles = found.texts("title")[1:]
    assert titles[0] == "Loss on valid over the epochs: from 0.5000 to 0.2500"
    for said in ("valid, 2: 0.2500", "valid, head: 50.00%", "valid, 1: 75.00%"):
        assert said in titles
    assert (
        "Reliability diagram, correct by probability: 75.0% of 8 with 88.6% on average"
    ) in titles
    head = Page(make_page(run_of(evaluated), evaluated, HISTORY[:1]))
    assert "While it learned" not in head.texts("h2")


def test_a_run_says_how_it_was_made(evaluated):
    found = Page(make_page(run_of(evaluated), evaluated, HISTORY))
    terms = found.texts("dt")[4:]
    assert terms == [
        "Command of this report",
        "Data",
        "Network",
        "Trained",
        "Command of the training",
        "Settings",
        "Versions",
    ]
    said = found.texts("dd")
    assert "my flowers (train: 48, valid: 16, test: 8 photographs)" in said
    assert "cnn, 64 x 64 pixels" in said
    assert "2026-01-01T00:00:00+00:00, seed 7" in said
    assert "75.00% correct of 40 photographs of valid after fitting the head" in said
    assert "arch: cnn, epochs: 2, seed: 0" in said
    assert "python 3.11, numpy 2" in said
    own = Page(make_page({**run_of(evaluated), "command": NETWORK["command"]}, evaluated, HISTORY))
    assert "Command of the training" not in own.texts("dt")


@pytest.mark.parametrize(
    ("report_for", "split", "words"),
    [
        (run_of, "test", "were looked at once, at the end"),
        (run_of, "valid", "has not learned from these photographs"),
        (run_of, "cross-validation", "judged by one of 0 networks"),
        (report_of, "valid", "photographs that the network learned from"),
    ],
)
def test_a_page_says_what_its_figures_do_not(evaluated, report_for, split, words):
    report = report_for(evaluated, split)
    found = Page(make_page(report, evaluated, HISTORY if report_for is run_of else ()))
    assert found.texts("h3")[-1] == "What the figures do not say"
    assert sum(words in text for text in found.texts("p")) == 1
    assert ("While it learned" in found.texts("h2")) == (report_for is run_of)


def test_every_class_of_a_page_has_its_rule(evaluated):
    found = Page(make_page(run_of(evaluated), evaluated, HISTORY))
    used = {name for each in found.elements for name in (each.get("class") or "").split()}
    assert used - {*re.findall(r"\.([a-z]+)", STYLE.read_text())} == set()
    assert {"large", "facts", "box", "gallery", "line", "other"} <= used
