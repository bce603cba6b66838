"""What a script prints where, how it shows progress, and how errors become exit codes."""

import io
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from running.console import Console, ExitNotes, Parser, printable
from running.environment import Launch
from running.errors import FlowersError, ImageError, InputError, RunError
from running.signals import Stopped

RANK_0, RANK_1 = Launch(0, 2), Launch(1, 2)


@pytest.fixture
def sleeps(monkeypatch) -> list[float]:
    """Record how long a process would wait."""
    seconds = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


@pytest.fixture
def watch(monkeypatch):
    """Return a function that makes stderr a terminal."""

    def watch() -> io.StringIO:
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
        return terminal

    return watch


class Full(io.StringIO):
    """What a full disk or a closed pipe makes of an output."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


# --- What is printed --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fire lily, Blüte, 花", "fire lily, Blüte, 花"),
        ("a\x1b[31m\nb\tc", "a\\x1b[31m\\nb\\tc"),
        ("a\udcff\u202e", "a\\udcff\\u202e"),
    ],
)
def test_a_file_name_cannot_control_the_terminal(text, expected):
    assert printable(text) == expected


@pytest.mark.parametrize("launch", [Launch(), RANK_0, RANK_1])
def test_results_go_to_stdout_all_else_to_stderr_and_only_from_rank_0(capsys, launch):
    console = Console("train.py", launch)
    console.print_result("one", "two\x1b")
    console.print_note("three", "four\x1b")
    console.print_note()
    console.print_message("five", "six\x1b")
    out = "one\ntwo\\x1b\n", "three\nfour\\x1b\ntrain.py: five\ntrain.py: six\\x1b\n"
    assert capsys.readouterr() == (("", "") if launch is RANK_1 else out)
    console.print_message("seven", everybody=True)
    assert capsys.readouterr().err == "train.py: seven\n"


def test_results_that_nobody_can_read_are_an_error_and_notes_are_not(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(RunError, match="standard output"):
        Console("train.py").print_result("a")
    Console("train.py", RANK_1).print_result("a")
    Console("train.py").print_note("a")
    Console("train.py").print_message("a")


# --- Progress ---------------------------------------------------------------------------

BATCHES = [[1, 2, 3], [4, 5], [], [6]]


def test_a_terminal_shows_how_many_photographs_have_passed(watch):
    terminal = watch()
    console, counts = Console("train.py"), []
    for _ in console.progress(iter(BATCHES), 6, "reading", done=4):
        counts.append(console.bars[-1].n)
    assert counts == [4, 7, 9, 9]
    assert [*console.count(iter("ab"), None, "looking")] == ["a", "b"]
    assert "reading" in terminal.getvalue()
    assert " photos" in terminal.getvalue()


def test_of_nested_bars_the_innermost_is_shown_and_all_count(watch):
    terminal = watch()
    console, counts = Console("train.py"), []

    def inner():
        for batch in console.progress([[1]] * 3, 3, "inner"):
            counts.append([bar.n for bar in console.bars])
            yield batch

    for _ in console.progress(inner(), 3, "outer"):
        assert console.bars[0].desc == "outer"
    assert counts == [[0, 0], [1, 1], [2, 2]]
    assert console.bars == []
    assert "\n" not in terminal.getvalue()  # a second line


def test_the_outer_bar_comes_back_when_the_inner_one_ends(watch):
    watch()
    console = Console("train.py")

    def batches():
        for _ in console.progress([[1]] * 3, 3, "inner"):
            pass
        assert [bar.desc for bar in console.bars] == ["outer"]
        yield [1, 2]

    for _ in console.progress(batches(), 2, "outer"):
        assert console.bars[0].n == 0
    assert console.bars == []


# --- How a script ends ------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As PyTorch names that of an accelerator."""


class DistBackendError(RuntimeError):
    """As torch.distributed names what it raises."""


def run(error: BaseException | None, launch: Launch = Launch()) -> int:
    """Run work that ends with an error, or well with 3; return the exit code."""
    notes = ExitNotes(["python", "train.py", "a"], "try less")
    notes.network, notes.resume_files = "the network is in b", [Path(__file__)]

    def work() -> int:
        if error:
            raise error
        return 3

    return Console("train.py", launch).run_guarded(work, notes)


BEST = "the network is in b\n"
REST = BEST + "go on with: python train.py a --resume\n"


@pytest.mark.parametrize("launch", [Launch(), RANK_0])
@pytest.mark.parametrize(
    ("error", "code", "sentence", "rest"),
    [
        (FlowersError("a is wrong"), 1, "a is wrong", REST),
        (InputError("a is wrong"), 2, "a is wrong", REST),
        (ImageError("a is wrong\x1b"), 1, r"a is wrong\\x1b", REST),
        (RunError("a is wrong", can_go_on=False), 1, "a is wrong", BEST),
        (Stopped(signal.SIGINT), 130, "stopped by Ctrl-C", REST),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM", REST),
        (
            ModuleNotFoundError(name="torch"),
            2,
            "torch is not installed: .*requirements.txt.*",
            REST,
        ),
        # A resumed run would need as much memory again.
        (MemoryError(), 1, "out of memory; try less", BEST),
        (OutOfMemoryError("CUDA"), 1, "out of memory; try less", BEST),
        (RuntimeError("can't allocate memory"), 1, "out of memory; try less", BEST),
        (RuntimeError("CUDA error: out of memory"), 1, "out of memory; try less", BEST),
    ],
)
def test_what_the_user_can_correct_is_one_sentence(
    capsys, sleeps, launch, error, code, sentence, rest
):
    assert run(error, launch) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"train.py: {sentence}\n{rest}", err)
    assert sleeps == []


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:525] Read error\nmore"),
        RuntimeError("Connection closed by peer\nmore"),
        DistBackendError("NCCL\nmore"),
    ],
)
def test_a_lost_process_is_one_sentence_where_there_are_several(capsys, error):
    assert run(error, RANK_0) == 1
    err = capsys.readouterr().err
    assert str(error).splitlines()[0] in err.splitlines()[0]
    assert err.endswith(REST)
    with pytest.raises(RuntimeError):  # alone it would be a bug
        run(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        ValueError("a"),
        KeyboardInterrupt(),
        ModuleNotFoundError(name="rooms"),
    ],
)
def test_a_bug_keeps_its_traceback(capsys, error):
    with pytest.raises(type(error)) as caught:
        run(error)
    assert caught.value is error
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("a is wrong"), 2, ""),
        (ImageError("a is gone"), 1, "train.py: a is gone\n"),  # perhaps it alone has seen that
        (MemoryError(), 1, "train.py: out of memory; try less\n"),
        (RuntimeError("gloo"), 1, ""),
    ],
)
def test_another_rank_prints_only_what_it_alone_may_know_and_waits_for_rank_0(
    capsys, sleeps, error, code, message
):
    assert run(error, RANK_1) == code
    assert capsys.readouterr() == ("", message)
    assert sleeps == [2]
    assert run(None, RANK_1) == run(None) == 3
    assert sleeps == [2]


@pytest.mark.parametrize("launch", [Launch(), RANK_1])
def test_a_signal_ends_rank_0_with_its_exit_code(capsys, launch):
    before, during = signal.getsignal(signal.SIGTERM), []

    def work() -> int:
        during.append(signal.getsignal(signal.SIGTERM))
        if launch.is_rank_zero:
            signal.raise_signal(signal.SIGTERM)
        return 0

    code = Console("train.py", launch).run_guarded(work, ExitNotes([], ""))
    assert code == (143 if launch.is_rank_zero else 0)
    assert (during == [before]) != launch.is_rank_zero
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("command", "flag", "expected"),
    [
        ("train.py 'my a'", "--resume", "train.py 'my a' --resume"),
        ("train.py a --resume", "--resume", "train.py a --resume"),
        ("train.py 'a --resume'", "--resume", "train.py 'a --resume' --resume"),
        ("train.py a --update --epochs 3", "--update", "train.py a --update --epochs 3"),
        ("train.py a --update --epochs 3", "--resume", "train.py a --resume --epochs 3"),
    ],
)
def test_a_run_that_ends_early_tells_the_command_that_resumes_it(tmp_path, command, flag, expected):
    notes = ExitNotes(shlex.split(command), "", flag, "--update")
    assert [*notes.lines()] == []
    notes.resume_files = [tmp_path / "last.pth", tmp_path / "last.previous.pth"]
    assert [*notes.lines()] == []  # neither is written yet
    notes.resume_files[1].touch()
    assert [*notes.lines()] == [f"go on with: {expected}"]


# --- The parser -------------------------------------------------------------------------


@pytest.mark.parametrize("launch", [Launch(), RANK_1])
def test_a_mistyped_command_is_one_printable_sentence_of_rank_0(capsys, sleeps, launch):
    parser = Parser(Console("train.py", launch), description="Train.")
    parser.add_argument("--epochs", type=int)
    assert parser.parse_args(["--epochs", "3"]).epochs == 3
    for words in (["--epochs", "\x1b[31m"], ["--epoch", "3"]):  # flags are typed in full
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(words)
        assert stop.value.code == 2
        err = capsys.readouterr().err
        assert "\x1b" not in err
        assert ("train.py: error: " in err) == (launch is not RANK_1)
        assert launch is not RANK_1 or err == ""
    assert sleeps == [2, 2] * (launch is RANK_1)
