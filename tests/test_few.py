"""Folders of few photographs: they train, say what to expect, and name photographs."""

import json

import numpy as np
import pytest
from conftest import CNN, Killed, die, history_of
from PIL import Image

import data_utils
import learning.fit
import train
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
    assert "valid has 16 photographs, too few to judge by: they are learned from" in joined.notes[0]
    many = Split(data.splits["train"].paths * 50, np.tile(data.splits["train"].labels, 50))
    rich = data._replace(splits={**data.splits, "train": many})
    assert join_valid(rich) is rich
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
    folds, are_copies = deal_folds(inspected.data, inspected.digests)
    assert not are_copies
    paths, labels = inspected.data.splits["train"]
    fold_of = {path.rsplit("/", 1)[1]: fold for path, fold in zip(paths, folds.tolist())}
    assert fold_of["copy.jpg"] == fold_of["a3.jpg"]
    assert fold_of["b0.jpg"] == fold_of["b1.jpg"]
    assert sorted(np.bincount(folds[labels == 0], minlength=FOLDS)) in ([3, 3, 4], [2, 4, 4])
    assert (np.bincount(folds[labels == 1], minlength=FOLDS) > 0).all()


def test_where_each_category_is_copies_these_part(draw):
    folder = draw(a=3, b=3)
    for category in "ab":
        for path in [*(folder / category).iterdir()]:
            path.write_bytes((folder / category / f"{category}0.jpg").read_bytes())
    inspected = inspect_all(folder)
    folds, are_copies = deal_folds(inspected.data, inspected.digests)
    assert are_copies
    assert len({*folds}) > 1


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
    assert "is small: valid and test are not split off" in run.out
    assert "not judged, for lack of photographs: tulip" in run.out
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


def test_a_killed_run_goes_on_with_its_cross_validation(run_script, ran, tmp_path, monkeypatch):
    folder, save_dir, _ = ran
    learn = learning.fit.train_one_epoch

    def die_in_epoch_2(learner, epoch, *rest):
        return die() if epoch == 2 else learn(learner, epoch, *rest)

    monkeypatch.setattr(learning.fit, "train_one_epoch", die_in_epoch_2)
    with pytest.raises(Killed):
        train.main([*map(str, (folder, *QUICK, "--save_dir", tmp_path / "killed"))])
    monkeypatch.undo()
    again = run_script("train", folder, "--resume", "--save_dir", tmp_path / "killed")
    assert again.code == 0, again.err
    assert "in a cross-validation" not in again.err
    reports = [
        json.loads((place / "report.json").read_text()) for place in (save_dir, tmp_path / "killed")
    ]
    for report in reports:
        for key in ("seconds", "peak_memory_mib", "command", "network"):
            del report[key]
    assert reports[0] == reports[1]


def test_more_epochs_than_were_judged_are_refused(run_script, ran):
    folder, save_dir, _ = ran
    again = run_script("train", folder, "--resume", "--epochs", 3, "--save_dir", save_dir)
    assert again.code == 2
    assert "the cross-validation of this run has 2 epochs, and more cannot be judged" in again.err


def test_an_update_is_not_judged_by_what_its_body_has_learned_from(run_script, ran):
    """It learns anew from where the run began, as long, and keeps the names."""
    folder, save_dir, _ = ran
    before = Run.load(save_dir / "last.pth")
    rng = np.random.default_rng(9)
    draw_flower(FLOWERS[2], rng).save(folder / "tulip" / "another.jpg")
    run = run_script("train", folder, "--update", "--save_dir", save_dir)
    assert run.code == 0, run.err
    report = json.loads((save_dir / "report.json").read_text())
    assert (report["split"], report["photographs"]) == ("cross-validation", 11)
    last = Run.load(save_dir / "last.pth")
    assert (last.epoch, len(last.folds), len(last.tuned_on)) == (2, 3, 0)
    assert last.preprocessing == before.preprocessing
    assert last.is_update
    assert "1 added" in run.out


def test_a_body_that_has_learned_keeps_its_valid(run_script, drawn, tmp_path, monkeypatch):
    """From scratch there is no cross-validation; an update of such a run has none either."""
    scratch = [drawn, *CNN, "--epochs", 1, "--save_dir", tmp_path]
    assert run_script("train", *scratch).code == 0
    run = run_script("train", drawn, "--update", "--epochs", 1, "--save_dir", tmp_path)
    assert run.code == 0, run.err
    assert json.loads((tmp_path / "report.json").read_text())["data"]["photographs"] == {
        "train": 48,
        "valid": 16,
        "test": 16,
    }


def test_pictures_of_one_colour_train(run_script, tmp_path):
    for i, category in enumerate(("black", "white")):
        (tmp_path / "data" / category).mkdir(parents=True)
        for j in range(4):
            picture = Image.new("RGB", (80, 80), (255 * i - 2 * i * j + j,) * 3)
            picture.save(tmp_path / "data" / category / f"{j}.png")
    run = run_script("train", tmp_path / "data", *QUICK, "--save_dir", tmp_path / "run")
    assert run.code == 0, run.err
    assert "cross-validation accuracy: " in run.out
    assert "all photographs of a category are copies" in run.err


def test_one_photograph_of_each_category_is_one_sentence(run_script, draw, tmp_path):
    run = run_script("train", draw(a=1, b=1), *QUICK, "--save_dir", tmp_path / "run")
    assert run.code == 2
    assert "to validate with, and train can spare none" in run.err
