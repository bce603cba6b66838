"""The check of a folder's images: what was planted is what it finds, and says."""

import csv
import os
import shutil

import numpy as np
import pytest
from pages import Page
from PIL import Image, ImageOps

from checking.check import _find_outliers
from checking.issues import read_accepted


@pytest.mark.slow
def test_check_data_finds_what_was_planted_and_apply_corrects_it(run_script, drawn, tmp_path):
    """A wrong label, a mirrored copy in another split, a smaller one in one, a blank picture."""
    folder = shutil.copytree(drawn, tmp_path / "data")
    first, twin, blank, large = sorted((folder / "train" / "1").iterdir())[:4]
    wrong = folder / "train" / "2" / "wrong.png"
    os.replace(first, wrong)
    with Image.open(twin) as image:
        ImageOps.mirror(image).save(folder / "valid" / "1" / "copy.jpg", quality=60)
    small = folder / "train" / "1" / "a_small.png"
    with Image.open(large) as image:
        image.resize((image.width // 2, image.height // 2)).save(small)
    Image.new("RGB", (200, 200), (10, 90, 10)).save(blank)

    def run_check():
        return run_script("train", "--check_data", folder, "--save_dir", tmp_path)

    run = run_check()
    assert run.code == 0  # the files are in order
    assert f"{wrong}: looks like" in run.out
    same = f"nearly the same picture as train/1/{twin.name}, whose file is larger"
    assert f"{folder}/valid/1/copy.jpg: {same}" in run.out
    same = f"nearly the same picture as train/1/{large.name}, which has no such flaw"
    assert f"{small}: {same}; " in run.out
    assert f"{blank}: all pixels are within 0 of 255 grey values" in run.out
    report = tmp_path / "data_report.csv"
    page = tmp_path / "data_report.html"
    where, then = run.out.splitlines()[-2:]
    assert where == f"report: {page}, {report}"
    assert then == f"next: open {page} in a browser, and decide there"
    page = Page((tmp_path / "data_report.html").read_bytes(), active=True)
    [asked] = [caption for caption in page.texts("figcaption") if wrong.name in caption]
    assert asked.startswith("Is this drawn daisy, and not drawn poppy?")
    shown = page.texts("small")
    i = shown.index("in the folder of drawn poppy")
    assert shown[i + 1 : i + 3] == ["drawn poppy", "drawn daisy"]  # one of each beside it
    with open(report, newline="", encoding="utf-8-sig") as file:
        assert len(page.all("figure")) == len([*csv.DictReader(file)])  # all of them
    assert f"--apply data_report.csv --to {folder}_corrected" in page.texts("script")[0]

    places = tuple(
        f"{path.relative_to(folder)},"
        for path in (wrong, folder / "valid" / "1" / "copy.jpg", blank)
    )
    header, *rows = report.read_text().splitlines()
    rows = [row + "yes" for row in rows if row.startswith(places)]
    report.write_text("\n".join([header, *rows]))
    new = tmp_path / "corrected"
    run = run_script("train", folder, "--apply", report, "--to", new)
    assert run.code == 0
    assert run.out.splitlines()[0] == f"{new}: 80 linked, 1 of these moved, 2 left out"
    assert (new / "train" / "1" / "wrong.png").exists()

    # What the user has written is not lost, however often it is checked again.
    for _ in range(2):
        assert run_check().code == 0
    assert len(read_accepted(tmp_path / "data_report.previous.csv")) == 3


@pytest.mark.slow
def test_of_two_copies_the_better_one_stays_with_one_decision_each(run_script, drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "data")
    sharp, right = sorted((folder / "train" / "1").iterdir())[:2]
    dark = sharp.with_name("a_dark.png")
    with Image.open(sharp) as image:
        image.point(lambda value: value // 8).save(dark)
    shutil.copy(right, folder / "train" / "2" / "a.jpg")  # with a wrong label
    run = run_script("train", "--check_data", folder, "--save_dir", tmp_path)
    assert run.code == 1  # the same file in two categories
    with open(tmp_path / "data_report.csv", newline="", encoding="utf-8-sig") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for good in (sharp, right):
        assert str(good.relative_to(folder)) not in rows
    row = rows["train/1/a_dark.png"]
    assert row["suggestion"] == "leave out"
    assert (
        f"nearly the same picture as train/1/{sharp.name}, which has no such flaw" in row["reason"]
    )
    row = rows["train/2/a.jpg"]
    assert (row["kind"], row["suggestion"]) == ("near duplicate", "leave out")
    assert "whose label is more plausible; that is in category 1" in row["reason"]


def test_what_looks_like_nothing_else_is_of_no_other_category():
    """It would be moved there: a receipt among flowers, whose label is suspicious, too."""
    rng = np.random.default_rng(0)
    distances, logits = 0.5 + 0.05 * rng.normal(size=200), 5 * np.eye(4)[np.arange(200) % 4]
    logits = logits + 0.3 * rng.normal(size=(200, 4))
    distances[[7, 8, 9]], logits[[7, 8, 9]] = 0.78, 0.5
    suspicious = np.zeros(200, bool)
    suspicious[[7, 8, 9, 20]] = True
    assert sorted(_find_outliers(distances, logits, suspicious)) == [7, 8, 9]
    few = _find_outliers(distances, logits, np.zeros(200, bool))
    assert len(few) <= 2 and {*few} <= {7, 8, 9}  # one in a hundred


def test_what_cannot_be_done_is_said_before_photographs_are_read(run_script, drawn, monkeypatch):
    monkeypatch.setattr("train.digest_each", None)
    for flags in (
        ["--check_data", "--arch", "nonsense"],
        ["--check_data", "--save_dir", "/proc/nowhere"],
        ["--apply", "data_report.csv"],
        ["--to", "new"],
    ):
        run = run_script("train", drawn, *flags)
        assert run.code == 2
        assert run.out == ""


def test_a_network_that_has_learned_nothing_cannot_look(run_script, drawn, tmp_path):
    run = run_script("train", drawn, "--check_data", "--arch", "cnn", "--save_dir", tmp_path)
    assert run.code == 2
    assert "--check_data files" in run.err
