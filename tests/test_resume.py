"""Runs that break off: what they leave, what they say, and that they resume bit for bit."""

import json
import os
import shlex
import shutil
import signal
import time

import pytest
from conftest import Killed, file_size_limit
from kill import EXIT_CODES, NETWORKS, kill, result_of, start

import learning.run
import model_utils
import train
from reporting.report import HEADER

CNN = NETWORKS["cnn, with dropout"]
TAIL = NETWORKS["tail of the default network"]


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    """The folder of a finished run of the basic CNN."""
    folder = tmp_path_factory.mktemp("finished")
    assert train.main([str(drawn), *CNN, "--save_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


@pytest.fixture
def resume(run_script, drawn):
    """Resume the run in a folder; return what the script did."""
    return lambda folder, *flags, data=drawn: run_script(
        "train", data, "--save_dir", folder, "--resume", *flags
    )


# --- Resumed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(CNN, id="cnn"),
        pytest.param(TAIL, id="tail", marks=pytest.mark.slow),
        pytest.param([*TAIL, "--tune", "all"], id="all", marks=pytest.mark.slow),
        pytest.param([*TAIL, "file"], id="activations in a file", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(
    run_script, resume, drawn, tmp_path, monkeypatch, options
):
    """It is killed after its first epoch, and again between the next two files."""
    if options[-1] == "file":
        options = options[:-1]
        monkeypatch.setattr("learning.resources.CACHE_MEMORY", 0)
    peace, folder = tmp_path / "peace", tmp_path / "killed"
    assert run_script("train", drawn, *options, "--save_dir", peace).code == 0
    save, moments = learning.run.Run.save, iter(["after", "before"])

    def save_and_die(run, path):
        moment = next(moments, None) if run.epoch > 0 else None
        if moment == "before":
            raise Killed
        save(run, path)
        if moment == "after":
            raise Killed

    monkeypatch.setattr("learning.run.Run.save", save_and_die)
    with pytest.raises(Killed):
        run_script("train", drawn, *options, "--save_dir", folder)
    with pytest.raises(Killed):
        resume(folder)
    assert resume(folder).code == 0  # with the settings in the file
    assert result_of(folder) == result_of(peace)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
def test_a_run_that_was_sent_a_signal_resumes(
    run_script, resume, drawn, finished, tmp_path, number
):
    folder, log = tmp_path / "run", tmp_path / "run.log"
    process = start(drawn, folder, CNN)
    try:
        while "\n    1  " not in log.read_text():  # the line of an epoch, after last.pth
            assert process.poll() is None, log.read_text()
            time.sleep(0.005)
        assert kill(process, number, 0.01, log) is not None  # else it was too quick
    finally:
        process.kill()
        process.wait(60)
    said = log.read_text()
    assert "Traceback" not in said
    if number == signal.SIGKILL:
        assert resume(folder).code == 0
    else:
        assert "train.py: stopped by " in said
        *_, best, following = said.splitlines()
        assert best.startswith(f"the network so far is in {folder}/checkpoint.pth (epoch ")
        _, _, *words = shlex.split(following.removeprefix("go on with: "))
        assert run_script("train", *words).code == 0
    assert result_of(folder) == result_of(finished)


def test_more_epochs_extend_a_finished_run(resume, copied):
    before = (copied / "history.csv").read_text()
    run = resume(copied, "--epochs", 6)
    assert run.code == 0
    after = (copied / "history.csv").read_text()
    assert after.startswith(before)
    assert after.count("\n") == before.count("\n") + 2
    table = run.out.splitlines()[run.out.splitlines().index(HEADER) + 1 :]
    assert [line.split()[0] for line in table[:6]] == [*"123456"]


def test_a_resumed_run_keeps_its_names_unless_others_are_given(resume, copied, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "one", "2": "two", "3": "three", "4": "four"}))
    before = model_utils.load_checkpoint(copied / "checkpoint.pth")[0].state_dict()
    for flags in (["--category_names", names], []):
        assert resume(copied, *flags).code == 0
        model, info = model_utils.load_checkpoint(copied / "checkpoint.pth")
        assert info.names == ["one", "two", "three", "four"]
        assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_other_settings_and_photographs_are_another_run(resume, drawn, copied, tmp_path):
    other = resume(copied, "--lr", "0.5")
    assert other.code == 2
    assert "--lr 0.5" in other.err
    data = shutil.copytree(drawn, tmp_path / "data")
    assert resume(copied, data=data).code == 0  # only moved
    next((data / "train" / "2").iterdir()).unlink()
    changed = resume(copied, data=data)
    assert changed.code == 2
    assert f"the photographs in {data} are not those of the run" in changed.err
    assert "go on with" not in changed.err  # it would be refused again


@pytest.mark.parametrize("file", ["last.pth", "checkpoint.pth"])
def test_a_file_that_is_missing_damaged_or_anothers_is_no_silent_start(
    resume, trained, copied, file
):
    path = copied / file
    for damage in (
        path.unlink,
        lambda: path.write_bytes(b"hello"),
        lambda: shutil.copy(trained / file, path),
    ):
        damage()
        run = resume(copied)
        assert (run.code, run.out) == (2, "")
        assert str(path) in run.err


# --- What is left when a run fails ----------------------------------------------------


def test_a_full_disk_leaves_the_network(run_script, drawn, finished, tmp_path):
    size = (finished / "checkpoint.pth").stat().st_size
    with file_size_limit(size + 10_000):  # last.pth is larger
        run = run_script("train", drawn, *CNN, "--save_dir", tmp_path)
    assert run.code == 1
    assert "last.pth cannot be written: File too large" in run.err
    assert f"the network so far is in {tmp_path / 'checkpoint.pth'} (epoch 1, " in run.err
    assert "go on with" not in run.err
    assert os.listdir(tmp_path) == ["checkpoint.pth"]
    model_utils.load_checkpoint(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_photograph_that_vanishes_during_a_run_costs_itself_alone(
    run_script, drawn, tmp_path, monkeypatch, split
):
    data, evaluate = shutil.copytree(drawn, tmp_path / "data"), learning.evaluation.evaluate
    gone = sorted((data / split / "3").iterdir())[1]
    if split == "valid":
        shutil.rmtree(data / "test")

    def vanish_and_evaluate(*arguments):
        gone.unlink(missing_ok=True)
        return evaluate(*arguments)

    monkeypatch.setattr("learning.evaluation.evaluate", vanish_and_evaluate)
    run = run_script("train", data, *CNN, "--epochs", 1, "--save_dir", tmp_path / "run")
    assert run.code == 0
    assert f"warning: {gone}: no such file; the run goes on without it\n" in run.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["photographs"] == 15
    assert {row["category"]: row["photographs"] for row in report["categories"]}["3"] == 3


def test_photographs_that_vanish_during_a_run_are_one_sentence(
    run_script, resume, drawn, tmp_path, monkeypatch
):
    data, save = shutil.copytree(drawn, tmp_path / "data"), learning.run.Run.save

    def save_and_vanish(run, path):
        save(run, path)
        shutil.rmtree(data / "train" / "1")

    with monkeypatch.context() as patch:
        patch.setattr("learning.run.Run.save", save_and_vanish)
        patch.setattr("learning.resources.CACHE_MEMORY", 0)  # what is decoded cannot vanish
        run = run_script("train", data, *CNN, "--save_dir", tmp_path / "run")
    assert run.code == 1
    assert run.err.count("no such file") == 2  # a warning of the first one, and the end
    shutil.copytree(drawn / "train" / "1", data / "train" / "1")
    assert resume(tmp_path / "run", data=data).code == 0
