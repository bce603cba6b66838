"""Runs whose photographs have changed: `train.py --update`."""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, Killed, die, history_of

import data_utils
from formats.pth import read_archive
from running.errors import RunError

SPLITS = ("train", "valid", "test")


@pytest.fixture
def head_alone(cnn) -> list:
    """The flags of a run that trains the head alone, on the body of a checkpoint."""
    options = ["--arch", "cnn", "--image_size", 32, "--epochs", 0]
    return [*options, "--weights", cnn / "checkpoint.pth"]


@pytest.fixture
def data(drawn, tmp_path):
    """A folder of three categories; `bring` adds the fourth."""
    folder = shutil.copytree(drawn, tmp_path / "data")
    for split in SPLITS:
        shutil.rmtree(folder / split / "4")
    return folder


@pytest.fixture
def bring(drawn, data):
    def bring():
        for split in SPLITS:
            shutil.copytree(drawn / split / "4", data / split / "4")

    return bring


@pytest.fixture
def ran(run_script, data, head_alone, tmp_path):
    """The folder of a run on three categories."""
    assert run_script("train", data, *head_alone, "--save_dir", tmp_path / "run").code == 0
    return tmp_path / "run"


@pytest.fixture
def update(run_script, data):
    """Update the run in a folder; return what the script did."""
    return lambda folder, *flags, data=data: run_script(
        "train", data, "--update", *flags, "--save_dir", folder
    )


def weights_of(folder):
    return read_archive(folder / "checkpoint.pth")["state_dict"]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def backups_of(folder) -> list[bytes]:
    return [(folder / f"{name}.previous.pth").read_bytes() for name in ("checkpoint", "last")]


# --- The result -----------------------------------------------------------------------


def test_an_update_has_the_head_of_a_run_from_scratch(
    run_script, update, data, bring, ran, head_alone, tmp_path
):
    """It computes the features of new photographs alone, and takes any change back."""
    first, network = weights_of(ran), (ran / "checkpoint.pth").read_bytes()
    bring()
    uncached = shutil.copytree(ran, tmp_path / "uncached")
    scratch = run_script("train", data, *head_alone, "--save_dir", tmp_path / "scratch")
    run = update(ran)
    assert run.code == scratch.code == update(uncached, "--no_cache").code == 0
    assert f"since the run in {ran}/checkpoint.pth: 20 added, 1 new category (4)" in run.out
    assert "features: those of 20 of 80 photographs have to be computed\n" in run.out
    assert same(weights_of(ran), weights_of(tmp_path / "scratch"))
    assert same(weights_of(ran), weights_of(uncached))
    assert (ran / "features.bin").exists() > (uncached / "features.bin").exists()
    report, other = report_of(ran), report_of(tmp_path / "scratch")
    for key in ("top1", "temperature", "calibration", "accepted_share", "suspects"):
        assert report[key] == other[key]
    assert backups_of(ran)[0] == network
    compared = report["update"]
    assert (compared["changes"]["added"], compared["changes"]["new"]) == (20, ["4"])
    assert compared["of_new_categories"] == 4
    more = sum(row["more_right"] for row in compared["categories"])
    assert compared["after"]["right"] - compared["before"]["right"] == more
    assert f"({compared['before']['right']} of 16) with the earlier network" in run.out
    assert "Better: drawn cornflower (+" in (ran / "report.html").read_text()

    for split in SPLITS:
        shutil.rmtree(data / split / "4")
    assert ": 20 removed, 1 removed category (4)" in update(ran).out
    assert same(weights_of(ran), first)
    next((data / "train" / "2").iterdir()).rename(data / "train" / "3" / "other.jpg")
    corrected = update(ran).out
    assert ": 1 moved\n" in corrected
    assert "features: those of 0 of 60" in corrected
    assert run_script("train", data, *head_alone, "--save_dir", tmp_path / "again").code == 0
    assert same(weights_of(ran), weights_of(tmp_path / "again"))


def change_settings(folder, **settings):
    entries = read_archive(folder / "last.pth")
    entries["run"]["settings"].update(settings)
    torch.save(entries, folder / "last.pth")


def test_an_update_of_a_run_with_minutes_that_was_killed_is_refused(update, cnn, tmp_path):
    """Else it would take a network that is half trained for a finished one."""
    folder = shutil.copytree(cnn, tmp_path / "run")
    change_settings(folder, minutes=1.0, epochs=9)
    run = update(folder)
    assert run.code == 2
    assert "is not finished: --resume continues it" in run.err


def test_an_update_without_changes_leaves_the_network_as_it_is(update, drawn, cnn, tmp_path):
    folder = shutil.copytree(cnn, tmp_path / "run")
    files = {name: (folder / name).read_bytes() for name in ("checkpoint.pth", "last.pth")}
    run = update(folder, data=drawn)
    assert run.code == 0
    assert "nothing has changed: the network stays as it is\n" in run.out
    assert [row["epoch"] for row in history_of(folder)] == [*"12345678"]
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert not (folder / "checkpoint.previous.pth").exists()


@pytest.mark.slow
def test_epochs_are_trained_again_only_where_they_are_typed(update, cnn, tmp_path):
    """Without them the body stays, and the user learns what it has not forgotten."""
    folder = shutil.copytree(cnn, tmp_path / "run")
    run = update(folder)
    assert run.code == 0
    assert "--update --epochs 8 runs them\n" in run.out
    assert "the head has forgotten category 4 exactly;" in run.out
    assert [row["epoch"] for row in history_of(folder)] == ["0"]
    body, after = weights_of(cnn), weights_of(folder)
    assert all(after[key].equal(body[key]) for key in body if key.startswith("body."))
    more = update(folder, "--epochs", 1)
    assert more.code == 0
    assert "were not run again" not in more.out
    assert [row["epoch"] for row in history_of(folder)] == ["0", "1"]


@pytest.mark.slow
def test_photographs_keep_the_splits_that_they_had(
    run_script, update, drawn, head_alone, tmp_path, monkeypatch
):
    """Else the network would be tested on what it learned from."""
    monkeypatch.setattr(data_utils, "LEAST_VALID", 1)
    data, folder = shutil.copytree(drawn / "train", tmp_path / "unsplit"), tmp_path / "run"
    assert run_script("train", data, *head_alone, "--save_dir", folder).code == 0

    def splits() -> dict[str, set[bytes]]:
        seen = read_archive(folder / "last.pth")["run"]["seen"]["splits"]
        return {name: {bytes(row) for row in seen[name]["digests"].numpy()} for name in SPLITS}

    before = splits()
    for path in [*data.glob("*/*.jpg")]:
        path.rename(path.with_name(f"renamed {path.name}"))
    next((data / "1").iterdir()).rename(data / "2" / "moved.jpg")
    run = update(folder, data=data)
    assert run.code == 0
    assert ": 1 moved\n" in run.out
    assert splits() == before
    counts = [len(before[name]) for name in SPLITS]
    assert "{} train, {} valid, {} test photographs".format(*counts) in run.out


def test_categories_keep_their_names(run_script, update, data, bring, ran, tmp_path):
    """Where a folder is renamed, and where the user gave the names."""
    for split in SPLITS:
        (data / split / "1").rename(data / split / "10")
    run = update(ran)
    assert run.code == 0
    assert ": 1 renamed category (1 is 10 now)\n" in run.out
    compared = report_of(ran)["update"]
    assert compared["changes"]["renamed"] == {"1": "10"}
    assert compared["before"] == compared["after"]
    after = read_archive(ran / "checkpoint.pth")
    assert after["categories"] == ["2", "3", "10"]
    assert after["names"][2] == "drawn daisy"

    names = tmp_path / "names.json"
    names.write_text(json.dumps({"10": "one", "2": "two", "3": "three"}))
    run_script("train", data, "--resume", "--category_names", names, "--save_dir", ran)
    bring()
    assert update(ran).code == 0
    expected = ["two", "three", "drawn cornflower", "one"]
    assert read_archive(ran / "checkpoint.pth")["names"] == expected


def test_an_update_needs_a_finished_run_and_its_settings(update, drawn, cnn, tmp_path):
    folder = shutil.copytree(cnn, tmp_path / "run")
    for flags in (["--resume"], ["--lr", "0.1"], ["--minutes", "3"]):
        run = update(folder, *flags, data=drawn)
        assert run.code == 2
        assert flags[0] in run.err
    change_settings(folder, epochs=9)
    unfinished = update(folder, data=drawn)
    (folder / "last.pth").unlink()
    gone = update(folder, data=drawn)
    assert unfinished.code == gone.code == 2
    assert "--resume" in unfinished.err
    assert f"{folder}/last.pth, which does not exist" in gone.err
    assert (folder / "checkpoint.pth").read_bytes() == (cnn / "checkpoint.pth").read_bytes()


# --- Killed ---------------------------------------------------------------------------


def test_an_update_that_fails_between_its_two_files_can_be_given_again(
    run_script, update, data, bring, ran, tmp_path, monkeypatch
):
    """It says how, also the second time, and keeps the earlier network."""
    bring()
    peace, before = shutil.copytree(ran, tmp_path / "peace"), (ran / "checkpoint.pth").read_bytes()
    assert update(peace).code == 0

    def fill_the_disk(*_):
        raise RunError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("learning.run.Run.save", fill_the_disk)
        stopped = [update(ran), update(ran)][1]
    assert stopped.code == 1
    assert backups_of(ran)[0] == before
    resumed = run_script("train", data, "--resume", "--save_dir", ran)
    assert resumed.code == 2
    assert f"{ran}/checkpoint.pth is not the network" in resumed.err
    *_, command = stopped.err.splitlines()
    assert run_script("train", *shlex.split(command.partition("train.py ")[2])).code == 0
    assert same(weights_of(ran), weights_of(peace))


@pytest.mark.slow
def test_an_update_that_is_killed_in_its_epochs_can_be_resumed(
    run_script, update, data, bring, ran, head_alone, tmp_path, monkeypatch
):
    """The comparison is with the run before it, whose network no later run overwrites."""
    bring()
    with monkeypatch.context() as patch:
        patch.setattr("learning.fit.train_one_epoch", die)
        with pytest.raises(Killed):
            update(ran, "--epochs", 2)
    peace, new = (shutil.copytree(ran, tmp_path / name) for name in ("peace", "new"))
    again = update(peace, "--epochs", 2)
    assert again.code == 0
    assert f"since the run in {peace}/checkpoint.previous.pth: 20 added" in again.out
    resumed = run_script("train", data, "--resume", "--save_dir", ran)
    assert resumed.code == 0
    assert same(weights_of(ran), weights_of(peace))
    assert report_of(ran)["update"] == report_of(peace)["update"]

    command = ["train", data, *head_alone, "--save_dir", new]
    with monkeypatch.context() as patch:
        patch.setattr("learning.run.Run.save", die)
        for _ in range(2):  # the second one finds a checkpoint without a last.pth
            with pytest.raises(Killed):
                run_script(*command)
    assert run_script(*command).code == 0
    assert backups_of(new) == backups_of(peace) == backups_of(ran)


@pytest.mark.slow
def test_an_update_that_is_sent_sigkill_can_be_given_again(
    update, data, bring, ran, tmp_path, monkeypatch
):
    bring()
    peace, started = shutil.copytree(ran, tmp_path / "peace"), time.perf_counter()
    code = (
        "import sys, conftest, train; sys.exit(train.main(sys.argv[1:]))"  # a small valid will do
    )
    command = [sys.executable, "-c", code, data, "--update", "--save_dir"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests"))))
    subprocess.run([*command, peace], check=True, capture_output=True)
    seconds, rng = time.perf_counter() - started, random.Random(0)
    for i in range(3):
        folder = shutil.copytree(ran, tmp_path / f"killed {i}")
        process = subprocess.Popen([*command, folder], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1) * seconds)
        process.kill()
        process.wait(60)
        read_archive(folder / "checkpoint.pth")
        assert update(folder).code == 0
        assert same(weights_of(folder), weights_of(peace))
        assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
