"""Runs that break off: what they leave, what they say, and that they go on as if nothing was."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from conftest import ROOT, file_size_limit, history_of
from kill import EXIT_CODES, NETWORKS, kill, result_of, start

import learning.evaluation
import learning.run
import model_utils
import running.files
import train
from formats.pth import read_archive
from learning.run import resume_run
from reporting.report import HEADER
from running.errors import InputError
from running.files import lock_folder
from running.run_folder import RunFolder
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
def test_a_run_that_goes_on_is_the_run_left_in_peace(
    run_script, drawn, tmp_path, monkeypatch, case, options
):
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
def test_a_run_that_is_sent_a_signal_goes_on(run_script, drawn, finished, tmp_path, number):
    folder = tmp_path / "run"
    process = start(drawn, folder, CNN)
    log = folder.with_suffix(".log")
    try:
        deadline = time.monotonic() + LIMIT
        while not (folder / "last.pth").exists():
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


def test_names_stay_unless_others_are_given(run_script, drawn, copied, tmp_path):
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


@pytest.mark.slow
def test_the_solved_head_goes_on_with_epochs(run_script, drawn, tmp_path):
    options = ["--image_size", "64", "--batch_size", "8"]
    for folder, epochs in (("at once", [2]), ("in turn", [0, 2])):
        for i, number in enumerate(epochs):
            more = ["--epochs", number, *["--resume"][:i]]
            run = run_script("train", drawn, *options, *more, "--save_dir", tmp_path / folder)
            assert run.code == 0
    assert result_of(tmp_path / "at once") == result_of(tmp_path / "in turn")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("arch", "resnet18"),
        ("hidden_units", "7"),
        ("epochs", "3"),
        ("lr", "0.5"),
        ("batch_size", "9"),
        ("image_size", "64"),
        ("seed", "5"),
        ("weights", "none"),
        ("tune", "tail"),
    ],
)
def test_other_settings_are_another_run(run_script, drawn, finished, option, value):
    run = run_script("train", drawn, "--save_dir", finished, "--resume", f"--{option}", value)
    assert run.code == 2
    assert f"--{option} {value}: the run that --resume continues has " in run.err
    assert ". Leave it out, or start a new run without --resume\n" in run.err


def test_settings_that_change_no_result_are_accepted(run_script, drawn, copied):
    result = result_of(copied)
    more = ["--resume", "--workers", 1, "--min_accuracy", 0]
    assert run_script("train", drawn, *CNN, *more, "--save_dir", copied).code == 0
    assert result_of(copied) == result


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


@pytest.fixture
def known(finished):
    """What the resume file of a finished run has, and what its checkpoint knows."""
    _, info = model_utils.load_checkpoint(finished / "checkpoint.pth")
    return read_archive(finished / "last.pth"), info


def change(entries: dict, place: str, value) -> None:
    """Put a value where a path of keys leads."""
    *way, last = [int(key) if key.isdecimal() else key for key in place.split(".")]
    for key in way:
        entries = entries[key]
    entries[last] = value


def test_the_whole_resume_file_is_believed(known, finished):
    """Which the changes of the next test are made to."""
    _, info = known
    start = resume_run(RunFolder(finished), info, {}, torch.device("cpu"))
    assert start.epoch == 4


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format_version", 1),
        ("epoch", -1),
        ("epoch", 3),
        ("epoch", "4"),
        ("model", {}),
        ("averaged", {}),
        ("random", torch.zeros(9, dtype=torch.uint8)),
        ("random", None),
        ("optimizer", []),
        ("run", {}),
        ("run.settings", {}),
        ("run.settings.lr", "x"),
        ("run.settings.lr", float("nan")),
        ("run.settings.epochs", 10**9),
        ("run.settings.seed", -1),
        ("run.seen", []),
        ("run.seen.categories", ["1", "2"]),
        ("run.seen.categories", [1, 2, 3, 4]),
        ("run.seen.splits.train.digests", torch.zeros(2, 16, dtype=torch.uint8)),
        ("run.seen.splits.train.labels", torch.full((48,), 4)),
        ("run.tuned", [1]),
        ("run.penalty", [0.1, 2]),
        ("run.penalty", [2.0, 2, 2]),
        ("run.settings.batch_size", 0),
        ("run.settings.arch", "vgg99"),
        ("run.photographs", 5),
        ("run.history", []),
        ("run.history", [{}]),
        (
            "run.history",
            [
                {
                    "epoch": 4,
                    "train_loss": 1.0,
                    "valid_loss": 1.0,
                    "calibrated_loss": 1.0,
                    "valid_accuracy": 1.0,
                    "seconds": 1.0,
                    "saved": 0,
                }
            ],
        ),
        ("run.best", {}),
        ("run.best.loss", None),
        ("run.best.loss", 0.0),
        ("run.best.logits", torch.zeros(16, 3)),
        ("run.source", 7),
        ("head.in_features", 10**9),
        ("preprocessing.crop", 10**6),
    ],
)
def test_a_resume_file_is_not_believed(known, tmp_path, place, value):
    entries, info = known
    change(entries, place, value)
    torch.save(entries, tmp_path / "last.pth")
    with pytest.raises(InputError, match=str(tmp_path)):
        resume_run(RunFolder(tmp_path), info, {}, torch.device("cpu"))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        # What is seen when the optimizer is there.
        (
            "optimizer.0",
            {"step": torch.tensor(1.0)},
            "the optimizer's state in last.pth is damaged",
        ),
        ("optimizer.1.exp_avg", torch.zeros(1), "the optimizer's state in last.pth is damaged"),
        ("optimizer.1.exp_avg_sq", None, "the optimizer's state in last.pth is damaged"),
        ("run.best.logits", torch.zeros(15, 4), "are not those of the run"),
    ],
)
def test_what_a_run_finds_out_later_is_not_believed_either(
    run_script, drawn, copied, known, place, value, message
):
    entries, _ = known
    change(entries, place, value)
    torch.save(entries, copied / "last.pth")
    run = run_script("train", drawn, "--resume", "--epochs", 5, "--save_dir", copied)
    assert run.code == 2
    assert message in run.err


# --- What is left when a run fails ----------------------------------------------------


def test_two_demos_at_a_time(run_script, tmp_path, monkeypatch):
    """The second one is refused while the first one draws; what a killed one drew is cleared."""
    (tmp_path / ".drawn_flowers.123.tmp" / "train").mkdir(parents=True)
    command = ["train", "--demo", "--save_dir", tmp_path]

    def draw(folder, progress):
        assert os.listdir(tmp_path) == [".train.lock"]
        second = run_script(*command)
        assert second.code == 2
        assert second.err == (
            f"train.py: another train.py is at work in {tmp_path}; wait for its end, or give "
            "another folder\n"
        )
        raise InputError("that is enough")

    monkeypatch.setattr(train, "draw_data", draw)
    assert run_script(*command).err == "train.py: that is enough\n"


def test_one_run_at_a_time(run_script, drawn, tmp_path):
    half = tmp_path / ".last.pth.123.tmp"
    half.write_bytes(b"?")
    with lock_folder(tmp_path, ["last.pth"]):
        run = run_script("train", drawn, *CNN, "--save_dir", tmp_path)
        assert run.code == 2
        assert f"another train.py is at work in {tmp_path}" in run.err
        assert not half.exists()  # nobody goes on with that
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_best_network(run_script, drawn, finished, tmp_path):
    size = (finished / "checkpoint.pth").stat().st_size
    assert (finished / "last.pth").stat().st_size > size + 10_000
    with file_size_limit(size + 10_000):
        run = run_script("train", drawn, *CNN, "--save_dir", tmp_path)
    assert run.code == 1
    assert "last.pth cannot be written: File too large" in run.err
    assert f"the best network so far is in {tmp_path / 'checkpoint.pth'} (epoch 1, " in run.err
    assert "go on with" not in run.err
    assert os.listdir(tmp_path) == ["checkpoint.pth"]
    model_utils.load_checkpoint(tmp_path / "checkpoint.pth")


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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_output_is_one_sentence(run_script, drawn, tmp_path, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        run = run_script("train", drawn, *CNN, "--save_dir", tmp_path)
        monkeypatch.undo()
    assert run.code == 1
    assert "standard output cannot be written: No space left on device" in run.err


def test_a_closed_output_is_one_sentence(drawn):
    """Of `--check_data`, which says something at once."""
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(
        [sys.executable, ROOT / "train.py", drawn, "--check_data", "files"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
    )
    os.close(write)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "train.py: standard output cannot be written: Broken pipe"
    )


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


def test_a_loss_that_is_no_number_ends_the_epoch(run_script, drawn, tmp_path, monkeypatch):
    step, steps = torch.optim.Adam.step, []

    def spoil(optimizer):
        step(optimizer)
        steps.append(1)
        if len(steps) == 7:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(torch.nan)

    monkeypatch.setattr(torch.optim.Adam, "step", spoil)
    run = run_script("train", drawn, *CNN, "--save_dir", tmp_path)
    assert run.code == 1
    assert len(steps) == 8
    *_, wrong, best = run.err.splitlines()
    assert wrong == "train.py: the loss of epoch 2 is not a finite number; try a lower --lr"
    assert best.startswith("the best network so far is in ")  # and no word of --resume


def test_the_second_ctrl_c_leaves_at_once():
    script = """
import time
from running.signals import stoppable
with stoppable():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("stopping", flush=True)
        time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    limit = threading.Timer(30, process.kill)  # readline would wait for ever
    limit.start()
    try:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        limit.cancel()
        process.kill()
        process.wait(10)
        process.stdout.close()


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
