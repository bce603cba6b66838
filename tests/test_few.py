"""Folders of few photographs: they train, say what to expect, and name photographs."""

import json

import numpy as np
import pytest
from conftest import history_of
from PIL import Image

import data_utils
from data_utils import Split, deal_folds, find_data, inspect, join_valid
from formats.pth import read_archive
from images.decode import digest_each
from images.drawn import FLOWERS, draw_flower
from learning.run import Run
from running.recipe import FOLDS, LEAST_VALID

QUICK = ["--image_size", 64, "--epochs", 2]


@pytest.fixture(autouse=True)
def cross_validated(monkeypatch):
    monkeypatch.setattr(data_utils, "LEAST_VALID", LEAST_VALID)


@pytest.fixture
def draw(tmp_path):
    """Return a function that draws so many flowers of each kind: draw(a=3, b=2)."""

    def draw(**counts: int):
        folder = tmp_path / "data"
        for kind, (category, count) in enumerate(counts.items()):
            (folder / category).mkdir(parents=True)
            for i in range(count):
                rng = np.random.default_rng((kind, i))
                draw_flower(FLOWERS[kind % len(FLOWERS)], rng).save(
                    folder / category / f"{category}{i}.jpg"
                )
        return folder

    return draw


def inspect_all(folder):
    data = find_data(folder)
    return inspect(data, None, [*digest_each(data.paths, 1)], joins=True)


# --- Which photographs are judged by which ----------------------------------------------


def test_a_small_valid_is_learned_from_and_a_test_of_its_own_is_not(drawn):
    data = find_data(drawn)
    joined = join_valid(data)
    assert {name: len(split.labels) for name, split in joined.splits.items()} == {
        "train": 64,
        "test": 16,
    }
    paths, labels = joined.splits["train"]
    assert {*paths} == {*data.splits["train"].paths, *data.splits["valid"].paths}
    assert (np.diff(labels) >= 0).all()
    assert all(data.categories[i] in path.split("/") for path, i in zip(paths, labels.tolist()))
    assert "valid has 16 photographs: all photographs are learned from" in joined.notes[0]
    large = Split(data.splits["valid"].paths * 7, np.tile(data.splits["valid"].labels, 7))
    enough = data._replace(splits={**data.splits, "valid": large})
    assert join_valid(enough) is enough


def test_folds_have_their_share_of_each_category_and_copies_stay_together(draw):
    folder = draw(a=9, b=4, c=1)
    (folder / "a" / "copy.jpg").write_bytes((folder / "a" / "a3.jpg").read_bytes())
    plant = folder / "b" / "plant"
    plant.mkdir()
    for i in (0, 1):
        (folder / "b" / f"b{i}.jpg").rename(plant / f"b{i}.jpg")
    inspected = inspect_all(folder)
    assert [*inspected.data.splits] == ["train"]
    folds = deal_folds(inspected.data, inspected.digests)
    paths, labels = inspected.data.splits["train"]
    fold_of = {path.rsplit("/", 1)[1]: fold for path, fold in zip(paths, folds.tolist())}
    assert fold_of["copy.jpg"] == fold_of["a3.jpg"]
    assert fold_of["b0.jpg"] == fold_of["b1.jpg"]
    assert sorted(np.bincount(folds[labels == 0], minlength=FOLDS)) in ([3, 3, 4], [2, 4, 4])
    assert (np.bincount(folds[labels == 1], minlength=FOLDS) > 0).all()


def test_where_each_category_is_one_plant_its_photographs_part(draw):
    folder = draw(a=3, b=3)
    for category in "ab":
        for path in [*(folder / category).iterdir()]:
            path.write_bytes((folder / category / f"{category}0.jpg").read_bytes())
    inspected = inspect_all(folder)
    assert len({*deal_folds(inspected.data, inspected.digests)}) > 1


# --- Runs -------------------------------------------------------------------------------


@pytest.fixture
def ran(run_script, draw, tmp_path):
    """A folder of a run on three categories of one, four and five photographs, and its output."""
    folder = draw(rose=5, lily=4, tulip=1)
    run = run_script("train", folder, *QUICK, "--save_dir", tmp_path / "run")
    assert run.code == 0, run.err
    return folder, tmp_path / "run", run


def test_all_photographs_are_learned_from_and_the_figures_are_cross_validated(
    run_script, ran, tmp_path
):
    folder, save_dir, run = ran
    assert "10 train photographs; 3 categories of 1 to 5 in train" in run.out
    assert "is small: all photographs are learned from" in run.out
    report = json.loads((save_dir / "report.json").read_text())
    assert report["data"]["photographs"] == {"train": 10}
    assert (report["split"], report["photographs"]) == ("cross-validation", 9)  # without the tulip
    assert f"cross-validation accuracy: {report['top1']['share']:.2%}" in run.out
    last = Run.load(save_dir / "last.pth")
    assert len(last.folds) == 3  # the head, and two epochs
    assert [fold.accuracy for fold in last.folds] == [
        float(row["valid_accuracy"]) for row in history_of(save_dir)
    ]
    assert np.isnan(last.valid.logits).all(1).tolist() == [False] * 9 + [True]
    assert read_archive(save_dir / "checkpoint.pth")["figures"]["valid_images"] == 9
    photo = folder / "tulip" / "tulip0.jpg"
    named = run_script("predict", photo, save_dir / "checkpoint.pth", "--top_k", 3)
    assert named.code == 0
    assert "tulip" in named.out


def test_a_resumed_run_keeps_its_cross_validation(run_script, ran):
    folder, save_dir, _ = ran
    before = Run.load(save_dir / "last.pth")
    again = run_script("train", folder, "--resume", "--epochs", 3, "--save_dir", save_dir)
    assert again.code == 0
    after = Run.load(save_dir / "last.pth")
    assert after.epoch == 3
    for one, other in zip(before.folds, after.folds, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
    np.testing.assert_array_equal(after.valid.logits, before.folds[-1].logits)


def test_an_update_is_cross_validated_too(run_script, ran):
    folder, save_dir, _ = ran
    rng = np.random.default_rng(9)
    draw_flower(FLOWERS[2], rng).save(folder / "tulip" / "another.jpg")
    run = run_script("train", folder, "--update", "--save_dir", save_dir)
    assert run.code == 0, run.err
    report = json.loads((save_dir / "report.json").read_text())
    assert (report["split"], report["photographs"]) == ("cross-validation", 11)


def test_pictures_of_one_colour_train(run_script, tmp_path):
    for i, category in enumerate(("black", "white")):
        (tmp_path / "data" / category).mkdir(parents=True)
        for j in range(4):
            picture = Image.new("RGB", (80, 80), (255 * i - 2 * i * j + j,) * 3)
            picture.save(tmp_path / "data" / category / f"{j}.png")
    run = run_script("train", tmp_path / "data", *QUICK, "--save_dir", tmp_path / "run")
    assert run.code == 0, run.err
    assert "cross-validation accuracy: " in run.out


def test_one_photograph_of_each_category_is_one_sentence(run_script, draw, tmp_path):
    run = run_script("train", draw(a=1, b=1), *QUICK, "--save_dir", tmp_path / "run")
    assert run.code == 2
    assert "to validate with, and train can spare none" in run.err
