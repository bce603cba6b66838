"""Folders named as categories tell how good the names are."""

import json
import os

import numpy as np
import pytest
from conftest import small_info
from pages import Page

from images.decode import Preprocessing
from prediction.score import Score


def score_of(*files: tuple[str, list[float]]) -> Score:
    score = Score(["1", "21"])
    for file, probabilities in files:
        score.add(file, np.array(probabilities, np.float32))
    return score


def test_accuracy_of_labelled_folders():
    score = score_of(
        ("flowers/1/a.jpg", [0.9, 0.1]),
        ("flowers/21/a.jpg", [0.4, 0.6]),
        ("flowers/21/b.jpg", [0.7, 0.3]),
    )
    assert [*score.lines(["daisy", "fire lily"])] == [
        "accuracy: 66.67% (2 of 3)",
        "top-5: 100.00% (3 of 3); mean per-class accuracy: 75.00%",
        "hardest: fire lily (1 of 2 correct)",
        "most confused: daisy and fire lily (once)",
    ]


def test_the_folder_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "21").mkdir()
    monkeypatch.chdir(tmp_path / "21")
    score = score_of(("a.jpg", [0.1, 0.9]), (os.path.join("..", "1", "b.jpg"), [0.9, 0.1]))
    first, *_ = score.lines(["daisy", "fire lily"])
    assert first == "accuracy: 100.00% (2 of 2)"


def test_other_folders_do_not_count():
    one = score_of(("other/a.jpg", [0.9, 0.1]))
    assert [*one.lines(["a", "b"])] == ["1 photograph is not in a folder named as a category"]
    two = score_of(
        ("x/a.jpg", [0.9, 0.1]), ("y/a.jpg", [0.9, 0.1]), ("flowers/1/a.jpg", [0.9, 0.1])
    )
    first, second, *_ = two.lines(["a", "b"])
    assert first == "2 photographs are not in a folder named as a category"
    assert second == "accuracy: 100.00% (1 of 1)"


def test_nothing_to_score_says_nothing():
    assert [*score_of().lines(["a", "b"])] == []


def test_a_report_has_the_probabilities_as_they_are(tmp_path):
    score = Score(["1", "21"], keeps=True)
    almost = np.nextafter(np.float32(0.5), np.float32(1))
    for file, probabilities in (
        ("flowers/1/a.jpg", [1.0, 0.0]),
        ("flowers/21/b.jpg", [almost, 1 - almost]),  # by the last digit alone
        ("elsewhere/c.jpg", [0.0, 1.0]),
    ):
        score.add(file, np.array(probabilities, np.float32))
    page, figures = str(tmp_path / "a.html"), str(tmp_path / "a.json")
    network = small_info(Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)).summary()
    more = {"command": "python predict.py", "versions": {}, "network": network}
    score.write_report(page, figures, "flowers", ["daisy", "fire lily"], more)
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["top1"]["right"] == 1
    assert report["misnamed"] == [
        {
            "file": "flowers/21/b.jpg",
            "name": "fire lily",
            "taken_for": "daisy",
            "probability": pytest.approx(0.5),
        }
    ]
    likelihood = report["calibration"]["flowers"]["negative_log_likelihood"]
    assert likelihood == pytest.approx(np.log(2) / 2)
    found = Page((tmp_path / "a.html").read_bytes())
    assert found.texts("h1") == ["50.00% of 2 photographs named correctly"]
