"""The page of a report says what report.json says, and shows the photographs."""

import base64
import io
import json
import os
import re

import numpy as np
import pytest
from pages import Page
from PIL import Image

from reporting.calibration import calibration_report
from reporting.page import STYLE
from reporting.report import EvaluatedSplit
from reporting.report_page import make_page, order_by_confusion, write_progress
from reporting.review import FIX_COLUMNS

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
    return EvaluatedSplit(paths, LABELS, LOGITS, np.ones(8), list("0123"), NAMES)


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
    assert found.texts("h1") == ["75 of 100 photographs are named correctly"]
    low, high = report["top1"]["interval"]
    first = found.texts("p")[0]
    assert first.startswith("6 of 8 photographs of test: 75.00%")
    assert f"95 % interval: {low:.2%} to {high:.2%}" in first
    assert f"it is {report['mean_category_accuracy']:.2%}" in first
    calibration = report["calibration"]["test"]
    assert f"{calibration['expected_calibration_error']:.2%} away" in found.source
    header, *rows = found.rows()
    assert header == ["category", "correct", "others called so", "each photograph"]
    assert rows == [
        ["rose", "3 of 4", "1", "\u25cf\u25cf\u25cf\u25cb"],
        ["iris", "1 of 2", "", "\u25cf\u25cb"],
        ["<b>&lily", "2 of 2", "1", "\u25cf\u25cf"],
    ]
    assert "Not judged, for lack of photographs: never there." in found.texts("p")


@pytest.mark.parametrize(
    ("share", "words"),
    [(1, "All"), (0.9999, "99.9 of 100"), (0.9851, "98.5 of 100"), (0.98, "98 of 100")],
)
def test_the_title_is_no_better_than_the_figures(evaluated, share, words):
    report = report_of(evaluated)
    report["top1"] = {**report["top1"], "share": share}
    [title] = Page(make_page(report, evaluated)).texts("h1")
    assert title.startswith(f"{words} photographs are")


def test_a_promise_is_a_point_of_the_curve(evaluated):
    promises = [
        {"promise": 0.99, "named": 4, "right": 4},
        {"promise": 0.98, "named": 4, "right": 4},
        {"promise": 0.95, "named": 6, "right": 5},
    ]
    found = Page(make_page(report_of(evaluated, promises=promises), evaluated))
    [said] = [text for text in found.texts("p") if "--promise" in text]
    assert "names 4 of 8, and 0 of the names are wrong" in said
    titles = found.texts("title")
    assert "95%: names 75.0%, of which 83.33% are correct" in titles
    assert sum("names 50.0%" in title for title in titles) == 1  # 0.98 would name no more
    none = Page(make_page(report_of(evaluated), evaluated))
    assert "What to do next" not in none.texts("h2")  # where nothing was learned
    assert any("too many mistakes, for a promise" in text for text in none.texts("p"))


def test_mistakes_stand_beside_what_they_were_taken_for_the_most_probable_first(evaluated):
    found = Page(make_page(report_of(evaluated), evaluated))
    first = found.texts("figcaption").index(
        "Taken for <b>&lily, over 99.9% sure; the label may be wrong0/3.png"
    )
    assert found.texts("figcaption")[first + 1] == "Taken for rose, 87.0% sure2/7.png"
    assert found.texts("small")[:3] == ["in the folder of rose", "<b>&lily", "rose"]
    assert [each["href"] for each in found.all("a") if "picture" in each.get("class", "")][:2] == [
        os.path.relpath(evaluated.paths[i]) for i in (3, 4)
    ]


def test_the_mistakes_of_a_run_can_be_answered(evaluated):
    suspect = {"file": "my flowers/train/0/9.png", "name": "rose", "looks_like": "iris"}
    report = run_of(evaluated) | {"suspects": [suspect]}
    found = Page(make_page(report, evaluated, HISTORY), active=True)
    known = json.loads(found.texts("script")[0])
    assert known["columns"] == [*FIX_COLUMNS] and not known["isOpen"]
    assert [row[2:6] for row in known["rows"]] == [
        ["0", "misnamed", "100", "move to 1"],
        ["2", "misnamed", "87", "move to 0"],
        ["0", "suspicious label", "", "move to 2"],
    ]
    assert known["rows"][2][:2] == ["train/0/9.png", "train"]
    assert known["words"][0] == ["Move to <b>&lily", "Keep as rose"]
    assert known["command"].endswith("--apply mistakes.csv --to 'my flowers_corrected'")


def test_only_the_most_certain_mistakes_are_shown(evaluated, monkeypatch):
    monkeypatch.setattr("reporting.report_page.SHOWN", 1)
    found = Page(make_page(run_of(evaluated), evaluated, HISTORY), active=True)
    assert len(json.loads(found.texts("script")[0])["rows"]) == 1
    assert "1 more are listed in the JSON file beside this page." in found.texts("p")


def test_beside_a_mistake_is_where_the_network_looked(evaluated):
    asked = []

    def light(path: str, index: int) -> np.ndarray | None:
        asked.append((path, NAMES[index]))
        return np.full((30, 30, 3), (0, 0, 255), np.uint8) if len(asked) == 1 else None

    suspect = {"file": evaluated.paths[0], "name": "rose", "looks_like": "iris"}
    report = {**run_of(evaluated), "suspects": [suspect]}
    found = Page(make_page(report, evaluated, HISTORY, light=light), active=True)
    wrong = [(evaluated.paths[3], "<b>&lily"), (evaluated.paths[7], "rose")]
    assert asked == wrong  # the network has learned from those of train
    first, second, suspected = (figure["text"] for figure in found.all("figure")[:3])
    assert "evidence for <b>&lily" in first
    assert "evidence" not in second + suspected
    place = [a["text"] for a in found.all("a") if a.get("class") == "picture"].index(
        "evidence for <b>&lily"
    )
    data = found.all("img")[place]["src"].partition(",")[2]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), int)
    assert abs(pixels - (0, 0, 255)).max() < 9
    without = Page(make_page(report, evaluated, HISTORY), active=True)
    assert not [text for text in without.texts("p", "small") if "evidence" in text]


def test_where_all_is_correct_no_mistakes_are_shown(evaluated):
    right = evaluated._replace(logits=3.0 * np.eye(4)[LABELS])
    found = Page(make_page(report_of(right), right))
    assert "Nothing: every name is correct." in found.texts("p")
    assert not found.all("img", "table")
    assert found.texts("summary") == ["3 categories without a mistake"]


def test_many_mistakes_are_a_matrix(evaluated, monkeypatch):
    monkeypatch.setattr("reporting.report_page.FEWEST_MISTAKES", 2)
    found = Page(make_page(report_of(evaluated), evaluated))
    assert {"rose, taken for <b>&lily: 1", "iris, taken for rose: 1"} <= {*found.texts("title")}
    assert "matrix" in found.source


def test_categories_that_are_confused_are_neighbours():
    both = np.zeros((6, 6), int)
    for i, j, times in ((0, 4, 1), (1, 3, 5), (3, 5, 2)):
        both[i, j] = both[j, i] = times
    assert order_by_confusion(both) == [3, 1, 5, 0, 4]


def test_a_run_that_goes_on_has_a_page(tmp_path):
    rows = [{**row, "seconds": 2.0} for row in HISTORY]
    write_progress(tmp_path / "report.html", rows[:2], 5, 0)
    found = Page((tmp_path / "report.html").read_bytes(), active=True)
    assert found.texts("h1") == ["After epoch 1: 75.00% of valid correct"]
    assert found.rows()[1:] == [["fitting the head", "50.00%", "2 s"], ["epoch 1", "75.00%", "2 s"]]


def test_charts_have_the_reports_numbers(evaluated):
    found = Page(make_page(run_of(evaluated), evaluated, HISTORY), active=True)
    titles = found.texts("title")[1:]
    assert "Loss on valid over the epochs: from 0.5000 to 0.2500" in titles
    for said in ("valid, 2: 0.2500", "valid, head: 50.00%", "valid, 1: 75.00%"):
        assert said in titles
    assert (
        "Reliability diagram, correct by probability: 75.0% of 8 with 88.6% on average"
    ) in titles
    head = Page(make_page(run_of(evaluated), evaluated, HISTORY[:1]), active=True)
    assert "Training" not in head.texts("h2")


def test_a_run_says_how_it_was_made(evaluated):
    found = Page(make_page(run_of(evaluated), evaluated, HISTORY), active=True)
    terms = found.texts("dt")
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
    report = {**run_of(evaluated), "command": NETWORK["command"]}
    own = Page(make_page(report, evaluated, HISTORY), active=True)
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
    history = HISTORY if report_for is run_of else ()
    found = Page(make_page(report, evaluated, history), active=True)
    assert found.texts("h3")[-1] == "What the figures do not say"
    assert sum(words in text for text in found.texts("p")) == 1
    assert ("Training" in found.texts("h2")) == (report_for is run_of)


def test_every_class_of_a_page_has_its_rule(evaluated):
    found = Page(make_page(run_of(evaluated), evaluated, HISTORY), active=True)
    used = {name for each in found.elements for name in (each.get("class") or "").split()}
    assert used - {*re.findall(r"\.([a-z]+)", STYLE.read_text())} == set()
    assert {"facts", "box", "gallery", "line", "other", "beside", "picture"} <= used
