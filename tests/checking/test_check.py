"""The check of a folder's images: what was planted is what it finds, and says."""

import os
import shutil

import numpy as np
import pytest
from pages import Page
from PIL import Image

from checking import check
from checking.issues import Photograph, read_accepted


@pytest.mark.parametrize(
    ("places", "gone"),
    [
        ([("train", "1", 900), ("valid", "1", 300)], {"0": "1, which is in valid"}),
        ([("train", "1", 900), ("train", "2", 300)], {"1": "0, which is in category 1"}),
        ([("train", "1", 9), ("valid", "1", 9), ("test", "1", 9)], {"0": "valid", "1": "test"}),
    ],
)
def test_of_copies_one_stays_by_which_networks_are_evaluated_or_else_the_largest(places, gone):
    photographs = [Photograph(str(i), *place) for i, place in enumerate(places)]
    pairs = np.array([(i, i + 1) for i in range(len(places) - 1)])
    groups = np.zeros(len(places), int)
    found = [*check._near_duplicates(photographs, pairs, np.ones(len(pairs)), groups)]
    assert {issue.photograph.path for issue in found} == gone.keys()
    assert {issue.suggestion for issue in found} == {"leave out"}
    assert all(issue.reason.endswith(gone[issue.photograph.path]) for issue in found)


@pytest.mark.slow
def test_check_data_finds_what_was_planted_and_apply_corrects_it(run_script, drawn, tmp_path):
    """A wrong label, a mirrored copy in another split and a blank picture."""
    folder = shutil.copytree(drawn, tmp_path / "data")
    first, twin, blank = sorted((folder / "train" / "1").iterdir())[:3]
    wrong = folder / "train" / "2" / "wrong.png"
    os.replace(first, wrong)
    with Image.open(twin) as image:
        copy = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    copy.save(folder / "valid" / "1" / "copy.jpg", quality=60)
    Image.new("RGB", (200, 200), (10, 90, 10)).save(blank)

    def run_check():
        return run_script("train", "--check_data", folder, "--save_dir", tmp_path)

    run = run_check()
    assert run.code == 0  # the files are in order
    assert f"{wrong}: looks like" in run.out
    same = f"nearly the same picture as {folder}/valid/1/copy.jpg, which is in valid"
    assert f"{twin}: {same}" in run.out
    assert f"{blank}: all within 0 of 255 grey values" in run.out
    report = tmp_path / "data_report.csv"
    assert run.out.splitlines()[-1] == f"report: {tmp_path}/data_report.html, {report}"
    page = Page((tmp_path / "data_report.html").read_bytes())
    assert "Near duplicate: 1" in page.texts("h2")
    assert any(wrong.name in caption for caption in page.texts("figcaption"))

    rows = report.read_text().splitlines()
    chosen = [rows[0]]
    for path, kind in ((wrong, "wrong label"), (twin, "near duplicate"), (blank, "blank")):
        place = str(path.relative_to(folder))
        (row,) = [row for row in rows if row.startswith(f"{place},") and kind in row]
        chosen.append(row + "yes")
    report.write_text("\n".join(chosen))
    new = tmp_path / "corrected"
    run = run_script("train", folder, "--apply", report, "--to", new)
    assert run.code == 0
    assert run.out.splitlines()[0] == f"{new}: 79 linked, 1 of these moved, 2 left out"
    assert run.out.splitlines()[1] == f"next: python train.py {new}"
    assert (new / "train" / "1" / "wrong.png").exists()

    # What the user has written is not lost, however often it is checked again.
    for _ in range(2):
        assert run_check().code == 0
    assert len(read_accepted(tmp_path / "data_report.previous.csv")) == 3


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
