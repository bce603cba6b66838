"""Runs that break off: what they leave, what they say, and that they go on as if nothing was."""

import json
import os
import shlex
import shutil
import signal
import time
from contextlib import contextmanager

import pytest
from kill import EXIT_CODES, NETWORKS, kill, result_of, start

import learning.evaluation
import learning.run
import model_utils
import running.files
import train
from reporting.report import HEADER
from running.signals import Stopped

CNN = NETWORKS["cnn, with dropout"]
TAIL = NETWORKS["tail of the default network"]
LIMIT = 120  # seconds that a process may take


class Killed(BaseException):
    """The machine is gone."""


def die(*_):
    raise Killed


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    """The folder of a finished run of the basic CNN."""
    folder = tmp_path_factory.mktemp("finished")
    assert train.main([str(drawn), *CNN, "--save_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


# --- Going on -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("cnn", CNN),
        pytest.param("tail", TAIL, marks=pytest.mark.slow),
        pytest.param("activations in a file", TAIL, marks=pytest.mark.slow),
        pytest.param(
            "all",
            [*TAIL, "--tune", "all", "--hidden_units", "8", "--epochs", "1"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(run_script, drawn, tmp_path, monkeypatch, case, options):
    """It is killed between its two files, after both, and after the last epoch."""
    if case == "activations in a file":
        monkeypatch.setattr("learning.resources.CACHE_MEMORY", 0)
    peace = run_script("train", drawn, *options, "--save_dir", tmp_path / "peace")
    assert peace.code == 0
    assert ("are cached in a file in" in peace.out) == (case == "activations in a file")
    save, judge = learning.run.Run.save, learning.evaluation.judge
    moments = iter(["before", "after"])
    folder = tmp_path / "killed"

    def save_and_die(run, path):
        moment = next(moments, None) if (folder / "last.pth").exists() else None
        if moment == "before":
            raise Killed
        save(run, path)
        if moment == "after":
            raise Killed

    monkeypatch.setattr("learning.run.Run.save", save_and_die)
    monkeypatch.setattr("learning.evaluation.judge", die)
    for _ in range(3):
        resume = ["--resume"] if (folder / "last.pth").exists() else []
        with pytest.raises(Killed):
            run_script("train", drawn, *options, "--save_dir", folder, *resume)
    assert next(moments, None) is None
    monkeypatch.setattr("learning.evaluation.judge", judge)
    kept = [name for name in os.listdir(folder) if name.startswith(".activations.")]
    assert len(kept) == (4 if case == "activations in a file" else 0)
    # The settings are in the file.
    assert run_script("train", drawn, "--save_dir", folder, "--resume").code == 0
    assert result_of(folder) == result_of(tmp_path / "peace")
    assert not [name for name in os.listdir(folder) if name.startswith(".activations.")]


@pytest.mark.slow
@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
def test_a_run_that_was_sent_a_signal_resumes(run_script, drawn, finished, tmp_path, number):
    folder = tmp_path / "run"
    process = start(drawn, folder, CNN)
    log = folder.with_suffix(".log")
    try:
        deadline = time.monotonic() + LIMIT
        while "saved" not in log.read_text():  # the line of an epoch, behind last.pth
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert kill(process, number, 0.01, log) is not None  # else it was too quick
    finally:
        process.kill()
        process.wait(LIMIT)
    said = log.read_text()
    assert "Traceback" not in said
    if number == signal.SIGKILL:
        assert run_script("train", drawn, "--save_dir", folder, "--resume").code == 0
    else:
        assert "train.py: stopped by " in said
        *_, best, following = said.splitlines()
        assert best.startswith(f"the best network so far is in {folder}/checkpoint.pth (epoch ")
        command = shlex.split(following.removeprefix("go on with: "))
        assert command[0] == "python"
        assert command[1].endswith("train.py")
        assert command[-1] == "--resume"
        assert run_script("train", *command[2:]).code == 0
    assert result_of(folder) == result_of(finished)


def test_more_epochs_extend_a_finished_run(run_script, drawn, copied):
    before = (copied / "history.csv").read_text()
    run = run_script("train", drawn, "--save_dir", copied, "--resume", "--epochs", 6)
    assert run.code == 0
    assert "kept the earlier run" not in run.out
    after = (copied / "history.csv").read_text()
    assert after.startswith(before)
    assert after.count("\n") == before.count("\n") + 2
    table = run.out.splitlines()[run.out.splitlines().index(HEADER) + 1 :]
    assert [line.split()[0] for line in table[:6]] == [*"123456"]


def test_a_resumed_run_keeps_its_names_unless_others_are_given(run_script, drawn, copied, tmp_path):
    def names_after(*flags) -> list[str]:
        run = run_script("train", drawn, "--save_dir", copied, "--resume", *flags)
        assert run.code == 0
        _, info = model_utils.load_checkpoint(copied / "checkpoint.pth")
        report = json.loads((copied / "report.json").read_text())
        assert {row["name"] for row in report["categories"]} == {*info.names}
        return info.names

    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "one", "2": "two", "3": "three", "4": "four"}))
    ours = ["drawn daisy", "drawn poppy", "drawn sunflower", "drawn cornflower"]
    assert names_after() == ours
    state = model_utils.load_checkpoint(copied / "checkpoint.pth")[0].state_dict()
    assert names_after("--category_names", names) == ["one", "two", "three", "four"]
    renamed = model_utils.load_checkpoint(copied / "checkpoint.pth")[0].state_dict()
    assert all(value.equal(renamed[key]) for key, value in state.items())
    assert names_after() == ["one", "two", "three", "four"]  # those of the checkpoint


def test_other_photographs_are_another_run(run_script, drawn, copied, tmp_path):
    data = shutil.copytree(drawn, tmp_path / "data")
    assert run_script("train", data, "--save_dir", copied, "--resume").code == 0  # only moved
    next((data / "train" / "2").iterdir()).unlink()
    run = run_script("train", data, "--save_dir", copied, "--resume")
    assert run.code == 2
    assert f"the photographs in {data} are not those of the run" in run.err
    assert "go on with" not in run.err  # it would be refused again


@pytest.mark.parametrize("file", ["last.pth", "checkpoint.pth"])
def test_a_file_that_is_missing_damaged_or_anothers_is_no_silent_start(
    run_script, drawn, trained, copied, file
):
    path = copied / file
    for damage in (
        path.unlink,
        lambda: path.write_bytes(b"hello"),
        lambda: shutil.copy(trained / file, path),
    ):
        damage()
        run = run_script("train", drawn, "--save_dir", copied, "--resume")
        assert run.code == 2
        assert str(path) in run.err
        assert run.out == ""


# --- What is left when a run fails ----------------------------------------------------


def test_ctrl_c_while_a_file_is_written_leaves_the_one_before(finished, tmp_path):
    path = tmp_path / "checkpoint.pth"
    shutil.copy(finished / "checkpoint.pth", path)
    before = path.read_bytes()

    write = running.files.atomic_write
    with pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def interrupted(name):
            with write(name) as file:

                class File:
                    def write(self, content):
                        if file.tell() > 10_000:
                            raise Stopped(signal.SIGINT)
                        return file.write(content)

                    def flush(self):
                        file.flush()

                yield File()

        patch.setattr("formats.pth.atomic_write", interrupted)
        with pytest.raises(Stopped):
            model_utils.halve(path, path)
    assert path.read_bytes() == before
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["folder", "photograph"])
def test_what_vanishes_during_a_run_is_one_sentence(run_script, drawn, tmp_path, monkeypatch, what):
    data, folder = shutil.copytree(drawn, tmp_path / "data"), tmp_path / "run"
    options = [*CNN, "--epochs", 3, "--batch_size", 24]
    evaluate = learning.evaluation.evaluate

    def vanish(*arguments):
        result = evaluate(*arguments)
        if (folder / "last.pth").exists():
            shutil.rmtree(folder if what == "folder" else data / "train" / "1")
        return result

    monkeypatch.setattr("learning.evaluation.evaluate", vanish)
    monkeypatch.setattr("learning.resources.CACHE_MEMORY", 0)  # what is decoded cannot vanish
    run = run_script("train", data, *options, "--save_dir", folder)
    assert run.code == 1
    if what == "folder":
        assert f"{folder}/" in run.err
        assert "cannot be written: No such file" in run.err
    else:
        assert "jpg: no such file" in run.err
        assert "go on with: python" in run.err
        shutil.copytree(drawn / "train" / "1", data / "train" / "1")
        monkeypatch.setattr("learning.evaluation.evaluate", evaluate)
        assert run_script("train", data, "--save_dir", folder, "--resume").code == 0


# --- The data's check -----------------------------------------------------------------


def test_check_data_prints_a_table_and_writes_nothing(run_script, drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_script("train", drawn, "--check_data", "files")
    assert run.code == 0
    assert os.listdir(tmp_path) == []
    lines = [line.split() for line in run.out.splitlines()]
    assert lines[1:4] == [
        ["train", "48", "4", "12"],
        ["valid", "16", "4", "4"],
        ["test", "16", "4", "4"],
    ]
    assert [line[0] for line in lines[-5:]] == ["0"] * 5

    data = shutil.copytree(drawn, tmp_path / "data")
    twin = shutil.copy(next((data / "train" / "2").iterdir()), data / "valid" / "2" / "twin.jpg")
    odd = data / "train" / "3" / "\x1b[31m.jpg"
    odd.write_bytes(b"hello")
    run = run_script("train", data, "--check_data", "files")
    assert run.code == 1
    assert "     1  photographs that appear in two splits\n" in run.out
    assert f"  {twin} is {data}/train/2/" in run.out
    assert "\\x1b[31m.jpg is not an image" in run.out
    assert "\x1b" not in run.out
