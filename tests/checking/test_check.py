"""The check of a folder's pictures: what was planted is what it finds, and says."""

import os
import shutil

import numpy as np
import pytest
from pages import Page
from PIL import Image

from checking import check
from checking.check import Checked
from checking.copies import Copies
from checking.issues import read_accepted_fixes
from images.statistics import ImageStatistics


def checked(splits, labels, pairs, sides=None):
    """Photographs 0.jpg, 1.jpg ... of two categories, with some pairs of copies."""
    count = len(labels)
    statistics = [ImageStatistics(0, 255, 1, side, np.empty(0)) for side in sides or [300] * count]
    copies = Copies(np.array(pairs), np.linspace(1, 0.98, len(pairs)), 0.97)
    paths = [f"{i}.jpg" for i in range(count)]
    return Checked(paths, np.array(labels), ["one", "two"], splits, statistics, copies)


def near_duplicates(*arguments):
    found = checked(*arguments)
    groups = found.copies.groups(len(found.paths))
    return [*check._near_duplicates(found, groups)]


def test_of_copies_in_two_splits_the_one_in_train_would_go():
    (found,) = near_duplicates(["train", "valid"], [0, 0], [[0, 1]], [900, 300])
    assert found.file == "0.jpg"
    assert found.other == "1.jpg"
    assert found.suggestion == "leave out"
    assert found.reason.endswith("1.jpg, which is in valid")


def test_of_copies_in_one_split_the_larger_one_stays():
    (found,) = near_duplicates(["train", "train"], [0, 1], [[0, 1]], [900, 300])
    assert found.file == "1.jpg"
    assert found.reason.endswith("0.jpg, which is in category one")


@pytest.fixture(scope="module")
def odd(drawn, tmp_path_factory):
    """Drawn flowers with a wrong label, a mirrored copy in another split and a blank picture."""
    folder = shutil.copytree(drawn, tmp_path_factory.mktemp("odd") / "data")
    first, second, third = sorted((folder / "train" / "1").iterdir())[:3]
    wrong = folder / "train" / "2" / "wrong.png"
    os.replace(first, wrong)
    with Image.open(second) as image:
        copy = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    copy.save(folder / "valid" / "1" / "copy.jpg", quality=60)
    Image.new("RGB", (200, 200), (10, 90, 10)).save(third)
    return folder, wrong, second, third


@pytest.mark.slow
def test_check_data_finds_what_was_planted_and_apply_mends_it(run_script, odd, tmp_path):
    folder, wrong, twin, blank = odd
    run = run_script("train", "--check_data", folder, "--save_dir", tmp_path)
    assert run.code == 0  # the files are in order
    assert f"{wrong}: looks like" in run.out
    assert (
        f"{twin}: nearly the same picture as {folder}/valid/1/copy.jpg, which is in valid"
        in run.out
    )
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
    assert len(read_accepted_fixes(report)) == 3
    new = tmp_path / "mended"
    run = run_script("train", folder, "--apply", report, "--to", new)
    assert run.code == 0
    assert run.out.splitlines()[0] == f"{new}: 79 linked, 1 of these moved, 2 left out"
    assert run.out.splitlines()[1] == f"next: python train.py {new}"
    assert (new / "train" / "1" / "wrong.png").exists()

    # What the user has written is not lost, however often it is checked again.
    for _ in range(2):
        run = run_script("train", folder, "--check_data", "pictures", "--save_dir", tmp_path)
        assert run.code == 0
    assert len(read_accepted_fixes(tmp_path / "data_report.previous.csv")) == 3


def test_what_is_mistyped_need_not_wait(run_script, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("train.digest_each", None)
    for flags in (["--arch", "nonsense"], ["--save_dir", "/proc/nowhere"]):
        run = run_script("train", drawn, "--check_data", *flags)
        assert run.code == 2
        assert run.out == ""


def test_apply_and_to_go_together(run_script, drawn):
    for flags in (["--apply", "data_report.csv"], ["--to", "new"]):
        run = run_script("train", drawn, *flags)
        assert run.code == 2
        assert run.err.splitlines()[-1].endswith("--apply FILE and --to DIR go together")
