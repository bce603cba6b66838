"""Runs whose photographs have changed: `train.py --update`."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, history_of

import learning.run
from formats.pth import read_archive
from images.manifest import DIGEST
from running.errors import RunError
from running.settings import FINE_TUNING


class Killed(BaseException):
    """The machine is gone."""


def die(*_, **__):
    raise Killed


@pytest.fixture
def head_alone(cnn) -> list:
    """The flags of a run whose head alone learns, on a body that comes from a checkpoint."""
    options = ["--arch", "cnn", "--image_size", 32, "--epochs", 0]
    return [*options, "--weights", cnn / "checkpoint.pth"]


@pytest.fixture
def data(drawn, tmp_path):
    """A folder of three categories; the fourth one comes later."""
    folder = shutil.copytree(drawn, tmp_path / "data")
    for split in ("train", "valid", "test"):
        shutil.move(folder / split / "4", tmp_path / f"4 {split}")
    return folder


def bring(data, tmp_path):
    """Put the fourth category into the folder."""
    for split in ("train", "valid", "test"):
        shutil.copytree(tmp_path / f"4 {split}", data / split / "4")


@pytest.fixture
def ran(run_script, data, head_alone, tmp_path):
    """The folder of a run on three categories."""
    assert run_script("train", data, *head_alone, "--save_dir", tmp_path / "run").code == 0
    return tmp_path / "run"


def weights_of(folder):
    return read_archive(folder / "checkpoint.pth")["state_dict"]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


# --- The result -----------------------------------------------------------------------


def test_an_update_has_the_head_of_a_run_from_scratch(run_script, data, ran, head_alone, tmp_path):
    first = weights_of(ran)
    shutil.copytree(ran, tmp_path / "before")
    bring(data, tmp_path)
    nothing = run_script("train", data, *head_alone, "--save_dir", tmp_path / "nothing")
    update = run_script("train", data, "--update", "--save_dir", ran)
    assert update.code == nothing.code == 0
    assert f"since the run in {ran}/checkpoint.pth: 20 added, 1 new category (4)" in update.out
    assert "features: 20 of 80 photographs have to be computed\n" in update.out
    assert same(weights_of(ran), weights_of(tmp_path / "nothing"))
    report, other = report_of(ran), report_of(tmp_path / "nothing")
    for key in ("top1", "temperature", "calibration", "accepted_share", "suspects"):
        assert report[key] == other[key]
    for name in ("checkpoint", "last"):
        kept = (ran / f"{name}.previous.pth").read_bytes()
        assert kept == (tmp_path / "before" / f"{name}.pth").read_bytes()

    compared = report["update"]
    assert compared["changes"]["added"] == 20
    assert compared["changes"]["new"] == ["4"]
    assert compared["of_new_categories"] == 4
    assert compared["after"]["right"] - compared["before"]["right"] == sum(
        row["more_right"] for row in compared["categories"]
    )
    assert f"({compared['before']['right']} of 16) with the earlier network" in update.out
    assert "better: drawn cornflower (+" in update.out
    assert "better: drawn cornflower (+" in (ran / "report.html").read_text()

    for split in ("train", "valid", "test"):
        shutil.rmtree(data / split / "4")
    back = run_script("train", data, "--update", "--save_dir", ran)
    assert ": 20 removed, 1 removed category (4)" in back.out
    assert same(weights_of(ran), first)


def test_an_update_without_changes_leaves_the_network_as_it_is(run_script, data, ran):
    before = (ran / "checkpoint.pth").read_bytes()
    update = run_script("train", data, "--update", "--save_dir", ran)
    assert update.code == 0
    assert "nothing has changed: the network stays as it is\n" in update.out
    assert (ran / "checkpoint.pth").read_bytes() == before
    assert not (ran / "checkpoint.previous.pth").exists()


def change_settings(folder, **settings):
    entries = read_archive(folder / "last.pth")
    entries["run"]["settings"].update(settings)
    torch.save(entries, folder / "last.pth")


def test_an_update_without_changes_trains_no_epoch_that_minutes_broke_off(
    run_script, drawn, cnn, tmp_path
):
    """Its last epoch was broken off."""
    folder = shutil.copytree(cnn, tmp_path / "run")
    change_settings(folder, minutes=1.0, epochs=5)
    files = {name: (folder / name).read_bytes() for name in ("checkpoint.pth", "last.pth")}
    update = run_script("train", drawn, "--update", "--save_dir", folder)
    assert update.code == 0
    assert "nothing has changed: the network stays as it is\n" in update.out
    assert "the head alone" not in update.out
    assert [row["epoch"] for row in history_of(folder)] == ["1", "2", "3", "4"]
    assert {name: (folder / name).read_bytes() for name in files} == files


@pytest.mark.slow
def test_epochs_are_trained_again_only_where_they_are_typed(run_script, drawn, cnn, tmp_path):
    """The basic CNN has learned all its layers: its head is solved on them."""
    folder = shutil.copytree(cnn, tmp_path / "run")
    data = shutil.copytree(drawn, tmp_path / "data")
    for split in ("train", "valid", "test"):
        shutil.rmtree(data / split / "4")
    update = run_script("train", data, "--update", "--save_dir", folder)
    assert update.code == 0
    assert ": 20 removed, 1 removed category (4)" in update.out
    assert "--update --epochs 4 runs them\n" in update.out
    assert "the head has forgotten category 4 exactly;" in update.out
    assert [row["epoch"] for row in history_of(folder)] == ["0"]
    assert read_archive(folder / "last.pth")["run"]["tuned_on"].shape == (48, DIGEST)
    body = weights_of(cnn)
    after = weights_of(folder)
    assert all(after[key].equal(body[key]) for key in body if key.startswith("body."))

    more = run_script("train", data, "--update", "--epochs", 1, "--save_dir", folder)
    assert more.code == 0
    assert "were not run again" not in more.out
    settings = report_of(folder)["settings"]
    assert (settings["lr"], settings["batch_size"]) == (FINE_TUNING.lr, FINE_TUNING.batch_size)
    assert [row["epoch"] for row in history_of(folder)] == ["0", "1"]


@pytest.mark.slow
def test_photographs_keep_the_splits_that_they_had(run_script, drawn, head_alone, tmp_path):
    data = shutil.copytree(drawn / "train", tmp_path / "data")
    folder = tmp_path / "run"
    assert run_script("train", data, *head_alone, "--save_dir", folder).code == 0
    before = learning_splits(folder)
    for path in [*data.glob("*/*.jpg")]:
        path.rename(path.with_name(f"renamed {path.name}"))
    moved = next((data / "1").iterdir())
    moved.rename(data / "2" / "moved.jpg")
    update = run_script("train", data, "--update", "--save_dir", folder)
    assert update.code == 0
    assert ": 1 moved\n" in update.out
    # Where it broke off, too, they stay.
    broken = shutil.copytree(folder, tmp_path / "broken")
    change_settings(broken, epochs=1)
    resumed = run_script("train", data, "--resume", "--save_dir", broken)
    assert resumed.code == 0
    assert resumed.out.splitlines()[1] in update.out
    after = learning_splits(folder)
    assert after == before
    counts = [len(after[name]) for name in ("train", "valid", "test")]
    assert "{} train, {} valid, {} test photographs".format(*counts) in update.out
    line = "photographs are for training, {} for validation and {} for the test, as in the earlier"
    assert line.format(*counts[1:]) in update.out
    assert "by a hash" not in update.out


def learning_splits(folder) -> dict[str, set[bytes]]:
    splits = read_archive(folder / "last.pth")["run"]["seen"]["splits"]
    return {
        name: {row.numpy().tobytes() for row in split["digests"]} for name, split in splits.items()
    }


def test_a_renamed_category_keeps_its_name_and_figures(run_script, data, ran):
    before = weights_of(ran)
    for split in ("train", "valid", "test"):
        (data / split / "1").rename(data / split / "10")  # in another place among the others
    update = run_script("train", data, "--update", "--save_dir", ran)
    assert update.code == 0
    assert ": 1 renamed category (1 is 10 now)\n" in update.out
    compared = report_of(ran)["update"]
    assert compared["changes"]["renamed"] == {"1": "10"}
    assert compared["before"] == compared["after"]
    assert (compared["of_new_categories"], compared["categories"]) == (0, [])
    after = read_archive(ran / "checkpoint.pth")
    assert after["categories"] == ["2", "3", "10"]
    assert after["names"][2] == "drawn daisy"
    assert not before["head.weight"].equal(after["state_dict"]["head.weight"])


def test_categories_keep_the_names_of_the_checkpoint(run_script, data, ran, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "one", "2": "two", "3": "three"}))
    run_script("train", data, "--resume", "--category_names", names, "--save_dir", ran)
    bring(data, tmp_path)
    update = run_script("train", data, "--update", "--save_dir", ran)
    assert update.code == 0
    after = read_archive(ran / "checkpoint.pth")["names"]
    assert after == ["one", "two", "three", "drawn cornflower"]
    folders = data / "cat_to_name.json"
    assert f"names: {ran}/checkpoint.pth, and of 1 category {folders}\n3 of them" in update.out
    command = ["train", data, "--update", "--save_dir", ran, "--category_names", folders]
    assert f"names: {folders}\n" in run_script(*command).out
    assert read_archive(ran / "checkpoint.pth")["names"][0] == "drawn daisy"


# --- Features that are kept -------------------------------------------------------------


# --- What is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "name"),
    [(["--resume"], "--resume"), (["--lr", "0.1"], "--lr"), (["--minutes", "3"], "--minutes")],
)
def test_flags_that_do_not_go_with_it_are_refused(run_script, drawn, tmp_path, flags, name):
    run = run_script("train", drawn, "--update", *flags, "--save_dir", tmp_path)
    assert run.code == 2
    assert name in run.err


def test_there_has_to_be_a_finished_run(run_script, drawn, cnn, tmp_path):
    run = run_script("train", drawn, "--update", "--save_dir", tmp_path)
    assert run.code == 2
    assert f"{tmp_path}/last.pth" in run.err

    folder = shutil.copytree(cnn, tmp_path / "run")
    change_settings(folder, epochs=9)
    run = run_script("train", drawn, "--update", "--save_dir", folder)
    assert run.code == 2
    assert "--resume" in run.err


# --- Killed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("learning.evaluation.evaluate", marks=pytest.mark.slow),
        "model_utils.save_checkpoint",
        pytest.param("learning.fit.train", marks=pytest.mark.slow),
    ],
)
def test_a_killed_update_given_again_has_the_same_weights(
    run_script, data, ran, tmp_path, monkeypatch, moment
):
    """Before its first file, between its two files, and, twice, in an epoch."""
    bring(data, tmp_path)
    command = ["train", data, "--update", "--save_dir", ran]
    if moment == "learning.fit.train":
        command += ["--epochs", 1]
    peace = shutil.copytree(ran, tmp_path / "peace")
    assert run_script(*[peace if part == ran else part for part in command]).code == 0
    before = (ran / "checkpoint.pth").read_bytes()
    with monkeypatch.context() as patch:
        if moment == "model_utils.save_checkpoint":
            patch.setattr("learning.run.Run.save", die)
        else:
            patch.setattr(moment.replace("fit.train", "fit.train_one_epoch"), die)
        for _ in range(2):
            with pytest.raises(Killed):
                run_script(*command)
    if moment == "model_utils.save_checkpoint":  # its two files are of two runs
        resumed = run_script("train", data, "--resume", "--save_dir", ran)
        assert resumed.code == 2
        assert f"{ran}/checkpoint.pth is not the best network" in resumed.err
    kept = ran / "checkpoint.previous.pth"
    assert (kept if kept.exists() else ran / "checkpoint.pth").read_bytes() == before
    assert run_script(*command).code == 0
    assert same(weights_of(ran), weights_of(peace))


@pytest.fixture
def broken_off(run_script, data, ran, tmp_path, monkeypatch):
    """The folder of an update that was killed behind its head, with epochs to come."""
    bring(data, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("learning.fit.train_one_epoch", die)
        with pytest.raises(Killed):
            run_script("train", data, "--update", "--epochs", 2, "--save_dir", ran)
    return ran


@pytest.mark.slow
def test_an_update_that_broke_off_can_be_resumed(run_script, data, broken_off, tmp_path, ran):
    """It is compared with the run before it, and keeps what the head saw with its layers."""
    peace = shutil.copytree(broken_off, tmp_path / "peace")
    again = run_script("train", data, "--update", "--epochs", 2, "--save_dir", peace)
    assert again.code == 0
    assert f"since the run in {peace}/checkpoint.previous.pth: 20 added" in again.out
    features = (broken_off / "features.bin").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("learning.evaluation.judge", die)  # a second kill, behind the epochs
        with pytest.raises(Killed):
            run_script("train", data, "--resume", "--epochs", 2, "--save_dir", broken_off)
    for flags in (["--resume"], ["--update", "--epochs", 2], ["--update"]):
        folder = shutil.copytree(broken_off, tmp_path / "".join(map(str, flags)))
        resumed = run_script("train", data, *flags, "--save_dir", folder)
        assert resumed.code == 0
        assert same(weights_of(folder), weights_of(peace))
        assert networks_aside(folder) == networks_aside(peace)
        assert report_of(folder)["update"] == report_of(peace)["update"]
        assert (folder / "features.bin").read_bytes().startswith(features)


def test_a_stopped_update_says_how_to_go_on(run_script, data, ran, tmp_path, monkeypatch):
    bring(data, tmp_path)
    command = ["train", data, "--update", "--epochs", 1, "--save_dir", ran]

    def fill_the_disk(*_):
        raise RunError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("model_utils.save_checkpoint", fill_the_disk)
        full = run_script(*command)
    assert full.code == 1
    words = shlex.split(full.err.splitlines()[-1])
    assert words[2:] == ["with:", "python", *words[4:5], *map(str, command[1:])]
    with monkeypatch.context() as patch:
        patch.setattr("learning.fit.train_one_epoch", fill_the_disk)
        stopped = run_script(*command)
    assert stopped.err.splitlines()[-1].endswith(f"{data} --resume --epochs 1 --save_dir {ran}")


def networks_aside(folder) -> list[bytes]:
    return [(folder / f"{name}.previous.pth").read_bytes() for name in ("checkpoint", "last")]


@pytest.mark.slow
def test_a_new_run_keeps_the_backups_of_an_unfinished_update(
    run_script, data, broken_off, head_alone, monkeypatch
):
    aside = networks_aside(broken_off)
    command = ["train", data, *head_alone, "--save_dir", broken_off]
    with monkeypatch.context() as patch:
        patch.setattr("learning.run.Run.save", die)
        for _ in range(2):  # the second one finds a checkpoint without a last.pth
            with pytest.raises(Killed):
                run_script(*command)
            assert networks_aside(broken_off) == aside
    assert run_script(*command).code == 0
    assert networks_aside(broken_off) == aside


@pytest.mark.slow
def test_an_extended_update_is_backed_up_like_any_run(
    run_script, data, broken_off, head_alone, monkeypatch
):
    """More epochs were asked for, and broke off."""
    assert run_script("train", data, "--resume", "--save_dir", broken_off).code == 0
    save = learning.run.Run.save

    def save_and_die(*args):
        save(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("learning.run.Run.save", save_and_die)
        with pytest.raises(Killed):
            run_script("train", data, "--resume", "--epochs", 4, "--save_dir", broken_off)
    network = (broken_off / "checkpoint.pth").read_bytes()
    update = run_script("train", data, "--update", "--save_dir", broken_off)
    assert update.code == 2
    assert "--resume" in update.err
    run = run_script("train", data, *head_alone, "--save_dir", broken_off)
    assert run.code == 0
    assert "kept the earlier run as" in run.out
    assert networks_aside(broken_off)[0] == network


def test_a_network_whose_last_pth_is_gone_is_not_overwritten(run_script, data, ran, tmp_path):
    bring(data, tmp_path)
    assert run_script("train", data, "--update", "--save_dir", ran).code == 0
    (ran / "last.pth").unlink()
    network = (ran / "checkpoint.pth").read_bytes()
    update = run_script("train", data, "--update", "--save_dir", ran)
    assert update.code == 2
    assert f"{ran}/last.pth, which does not exist" in update.err
    assert (ran / "checkpoint.pth").read_bytes() == network


@pytest.mark.slow
def test_an_update_that_is_sent_sigkill_can_be_given_again(run_script, data, ran, tmp_path):
    bring(data, tmp_path)
    peace = shutil.copytree(ran, tmp_path / "peace")
    started = time.perf_counter()
    command = [sys.executable, ROOT / "train.py", data, "--update", "--save_dir"]
    subprocess.run([*command, peace], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    rng = random.Random(0)
    for i in range(6):
        folder = shutil.copytree(ran, tmp_path / f"killed {i}")
        process = subprocess.Popen([*command, folder], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        read_archive(folder / "checkpoint.pth")
        assert run_script("train", data, "--update", "--save_dir", folder).code == 0
        assert same(weights_of(folder), weights_of(peace))
        assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
