"""Folders named as categories tell how good the names are."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from conftest import small_info
from pages import Page

from formats.schema import Prediction
from images.decode import Preprocessing
from prediction.answers import Answers
from prediction.score import Score
from reporting.metrics import wilson_interval

NAMES = ["daisy", "fire lily"]
INFO = small_info(
    Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3), categories=["1", "21"], names=NAMES
)


def score_of(
    *files: tuple[str, list[float]], keeps: bool = False, inputs: Sequence[str] = (), **options
) -> Score:
    answers = Answers(INFO, NAMES, **options)
    score = Score(answers, inputs, keeps)
    for file, probabilities in files:
        result = Prediction(np.array(probabilities, np.float32), 0.5)
        score.add(answers.record(file, result), result)
    return score


def test_accuracy_of_labelled_folders():
    score = score_of(
        ("flowers/1/a.jpg", [0.9, 0.1]),
        ("flowers/21/a.jpg", [0.4, 0.6]),
        ("flowers/21/b.jpg", [0.7, 0.3]),
    )
    assert [*score.lines()] == [
        "accuracy: 66.67% (2 of 3)",
        "top-5: 100.00% (3 of 3); mean per-class accuracy: 75.00%",
        "hardest: fire lily (1 of 2 correct)",
    ]


def test_what_reject_and_only_did_is_said():
    files = [("flowers/1/a.jpg", [0.9, 0.1])] * 3 + [("flowers/21/a.jpg", [0.9, 0.1])]
    said = [*score_of(*files, keep=0.95).lines()]
    low, high = wilson_interval(3, 4)
    interval = f"95 % interval: {low:.2%} to {high:.2%}"
    assert said[-1] == f"4 of 4 were answered, 1 wrongly: 75.00% correct ({interval})"
    said = [*score_of(*files, only=np.array([True, False])).lines()]
    assert said[-1] == "--only leaves out the categories of 1 of these"


def test_other_folders_do_not_count():
    score = score_of(("x/a.jpg", [0.9, 0.1]), ("flowers/1/a.jpg", [0.9, 0.1]))
    first, second, *_ = score.lines()
    assert first.startswith("1 photograph is not")
    assert second == "accuracy: 100.00% (1 of 1)"
    assert not [*score_of().lines()]


@pytest.mark.parametrize(
    ("place", "inputs", "label"),
    [
        ("data/test/1/2024/a.jpg", [], 0),
        ("data/test/1/21/a.jpg", [], 0),  # as train.py sees it
        ("data/Val/21/1/a.jpg", ["data"], 1),
        ("1/photographs/21/more/a.jpg", ["1/photographs"], 1),
        ("1/photographs/21/1/a.jpg", ["1", "1/photographs"], 1),
        ("1/more/a.jpg", ["1/more"], 0),
        ("1/21/a.jpg", [], 1),
        ("data/1/test/a.jpg", [], 0),
        ("data/2/a.jpg", ["data"], None),
        ("flat/21/1/a.jpg", ["flat/21", "flat/1"], 1),
        ("flat/21/1/a.jpg", ["flat"], 1),
        ("flat/21/1/a.jpg", [], 1),  # of a list
    ],
)
def test_the_outermost_category_is_the_one_that_train_py_sees(
    tmp_path, monkeypatch, place, inputs, label
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / "flat/1").mkdir(parents=True, exist_ok=True)
    assert score_of((place, [0.9, 0.1]), inputs=inputs).labels == [label] * (label is not None)


def test_a_job_of_any_length_keeps_no_probabilities_without_a_report():
    assert not score_of(("flowers/1/a.jpg", [0.9, 0.1])).probabilities


def test_a_report_has_the_probabilities_as_they_are(tmp_path):
    almost = np.nextafter(np.float32(0.5), np.float32(1))
    score = score_of(
        ("flowers/1/a.jpg", [1.0, 0.0]),
        ("flowers/21/b.jpg", [almost, 1 - almost]),  # by the last digit alone
        ("elsewhere/c.jpg", [0.0, 1.0]),
        keeps=True,
    )
    page, figures = tmp_path / "a.html", tmp_path / "a.json"
    more = {"command": "python predict.py", "versions": {}, "network": INFO.summary()}
    asked = []

    def light(path: str, index: int) -> None:
        asked.append((path, index))

    score.write_report(str(page), str(figures), "flowers", more, light)
    assert asked == [("flowers/21/b.jpg", 0)]
    report = json.loads(figures.read_text())
    assert report["top1"]["right"] == 1
    (misnamed,) = report["misnamed"]
    assert (misnamed["file"], misnamed["taken_for"]) == ("flowers/21/b.jpg", "daisy")
    assert misnamed["probability"] == pytest.approx(0.5)
    likelihood = report["calibration"]["flowers"]["negative_log_likelihood"]
    assert likelihood == pytest.approx(np.log(2) / 2)
    assert Page(page.read_bytes()).texts("h1") == ["50 of 100 photographs are named correctly"]
