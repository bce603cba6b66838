"""The voice of a script: who speaks where, what is shown, and how errors become exit codes."""

import io
import re
import signal
import sys
from pathlib import Path

import pytest

from running.console import Console, ExitNotes, Parser, no_progress, prepare_streams, printable
from running.environment import Launch
from running.errors import FlowersError, ImageError, InputError, RunError
from running.signals import Stopped

PRIMARY, OTHER = Launch(0, 2), Launch(1, 2)


@pytest.fixture
def sleeps(monkeypatch) -> list[float]:
    """Record how long a process would wait."""
    seconds = []
    monkeypatch.setattr("running.console.time.sleep", seconds.append)
    return seconds


class Terminal(io.StringIO):
    """What stderr is where somebody watches."""

    def isatty(self):
        return True


class Full(io.StringIO):
    """What a full disk or a closed pipe makes of an output."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


# --- What is said -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fire lily, Blüte, 花", "fire lily, Blüte, 花"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("a\udcff", "a\\udcff"),
        ("\u202e", "\\u202e"),
    ],
)
def test_a_terminal_is_left_alone(text, expected):
    assert printable(text) == expected


@pytest.mark.parametrize("launch", [Launch(), PRIMARY])
def test_results_go_to_stdout_and_all_else_to_stderr(capsys, launch):
    console = Console("train.py", launch)
    console.print_result("one", "two\x1b")
    assert capsys.readouterr() == ("one\ntwo\\x1b\n", "")
    console.print_note("one", "two\x1b")
    assert capsys.readouterr() == ("", "one\ntwo\\x1b\n")
    console.print_note()
    assert capsys.readouterr() == ("", "")
    console.print_message("one", "two\x1b")
    assert capsys.readouterr() == ("", "train.py: one\ntrain.py: two\\x1b\n")


def test_a_process_that_is_not_the_primary_one_is_silent(capsys):
    console = Console("train.py", OTHER)
    console.print_result("a")
    console.print_note("b")
    console.print_message("c")
    assert capsys.readouterr() == ("", "")
    console.print_message("d", everybody=True)
    assert capsys.readouterr() == ("", "train.py: d\n")


def test_results_that_nobody_reads_are_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(RunError, match="standard output cannot be written: Broken pipe"):
        Console("train.py").print_result("a")
    Console("train.py", OTHER).print_result("a")


def test_notes_that_nobody_reads_are_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Full())
    Console("train.py").print_note("a")
    Console("train.py").print_message("a")


# --- Progress ---------------------------------------------------------------------------

BATCHES = [[1, 2, 3], [4, 5], [], [6]]


def test_where_stderr_is_no_terminal_progress_passes_everything_on_and_shows_nothing(capsys):
    console = Console("train.py")
    assert [*console.progress(iter(BATCHES), 6, "reading")] == BATCHES
    assert [*console.count("abc", 3, "reading")] == [*"abc"]
    assert [*no_progress(iter(BATCHES), 6, "reading")] == BATCHES
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_how_many_photographs_have_passed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    console = Console("train.py")
    passed = []
    for batch in console.progress(iter(BATCHES), 6, "reading"):
        passed.append(batch)
    assert passed == BATCHES
    assert "reading" in terminal.getvalue()
    assert " photos" in terminal.getvalue()


def test_progress_counts_what_the_batches_add_up_to(monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **options):
            self.options, self.counts = options, []
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.counts.append("closed")

        def update(self, count):
            self.counts.append(count)

        def clear(self):
            self.counts.append("cleared")

    monkeypatch.setattr("tqdm.tqdm", Bar)
    monkeypatch.setattr(sys, "stderr", Terminal())
    console = Console("train.py")
    assert [*console.progress(iter(BATCHES), 6, "reading")] == BATCHES
    assert [*console.progress(iter([b"abc", b"d"]), 9, "fetching", "B", 5)] == [b"abc", b"d"]
    assert [*console.count(iter("ab"), None, "looking")] == ["a", "b"]
    reading, fetching, looking = bars
    assert reading.counts == [3, 2, 0, 1, "closed"]
    assert reading.options["total"] == 6
    assert reading.options["desc"] == "reading"
    assert not reading.options["unit_scale"]
    assert fetching.counts == [3, 1, "closed"]
    assert fetching.options["initial"] == 5
    assert fetching.options["unit_scale"]
    assert looking.counts == [1, 1, "closed"]
    assert looking.options["total"] is None


def test_a_process_that_is_not_the_primary_one_shows_no_progress(monkeypatch):
    monkeypatch.setattr("tqdm.tqdm", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    console = Console("train.py", OTHER)
    assert [*console.progress(iter(BATCHES), 6, "reading")] == BATCHES
    assert [*console.count("ab", 2, "reading")] == ["a", "b"]


def test_one_bar_is_shown_at_a_time(monkeypatch):
    """What an outer bar waits for has its own; the outer one goes on counting."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
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


def test_what_is_said_takes_the_place_of_the_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    console = Console("train.py")
    for _ in console.progress([[1]], 1, "reading"):
        console.print_message("hello")
    assert re.search(r"reading: +0%.*\r +\rtrain.py: hello\n", terminal.getvalue())


@pytest.mark.parametrize("held", [False, True])
def test_ctrl_c_leaves_the_bar_on_a_line_of_its_own(monkeypatch, held):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    console, kept = Console("train.py"), []

    def work():
        batches = console.progress([[1]], 1, "reading")
        kept.extend([batches] * held)  # or it would end with this function
        for _ in batches:
            raise Stopped(signal.SIGINT)

    assert console.run_guarded(work, ExitNotes("", "")) == 130
    assert re.search(r"reading: .*\ntrain.py: stopped by Ctrl-C\n", terminal.getvalue())


# --- Streams ----------------------------------------------------------------------------


def test_a_closed_standard_error_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    prepare_streams()
    Console("train.py").print_message("hello")
    sys.stderr.close()
    assert capsys.readouterr().out == ""


def test_a_closed_standard_output_is_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    prepare_streams()
    with pytest.raises(RunError, match="standard output is closed"):
        Console("train.py").print_result("hello")


def test_names_that_an_encoding_lacks_are_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    prepare_streams()
    Console("predict.py").print_result("Bl\u00fcte, \u82b1")
    assert raw.getvalue() == b"Bl\xfcte, \\u82b1\n"


def test_a_package_that_is_missing_is_one_sentence(capsys):
    assert run(ModuleNotFoundError("No module named 'torch'", name="torch"))[0] == 2
    assert capsys.readouterr().err.startswith("train.py: torch is not installed: pip install -r ")
    with pytest.raises(ModuleNotFoundError):  # a bug of ours
        run(ModuleNotFoundError("No module named 'rooms'", name="rooms"))


# --- How a script ends ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "best", "resumable", "expected"),
    [
        ("python train.py a", None, False, []),
        ("python train.py a", "the best is in b", False, ["the best is in b"]),
        ("python train.py a", None, True, ["go on with: python train.py a --resume"]),
        (
            "python train.py a --resume",
            "the best is in b",
            True,
            ["the best is in b", "go on with: python train.py a --resume"],
        ),
        (
            "python train.py 'a --resume'",
            None,
            True,
            ["go on with: python train.py 'a --resume' --resume"],
        ),
    ],
)
def test_what_a_run_that_ends_early_tells(tmp_path, command, best, resumable, expected):
    notes = ExitNotes(command, "")
    assert [*notes.lines()] == []
    notes.best, notes.resume_files = best, [tmp_path / "last.pth"]
    assert [*notes.lines()] == ([best] if best else [])  # it is not written yet
    if resumable:
        notes.resume_files[0].touch()
    assert [*notes.lines()] == expected


def test_a_flag_may_come_in_the_place_of_another_one(tmp_path):
    notes = ExitNotes("python train.py 'my flowers' --update --epochs 3", "", "--update")
    notes.resume_files = [tmp_path / "last.pth", tmp_path / "last.previous.pth"]
    notes.resume_files[1].touch()
    assert [*notes.lines()] == [f"go on with: {notes.command}"]
    notes.flag, notes.replaces = "--resume", "--update"
    expected = "go on with: python train.py 'my flowers' --resume --epochs 3"
    assert [*notes.lines()] == [expected]


class OutOfMemoryError(RuntimeError):
    """As PyTorch names that of an accelerator."""


class DistBackendError(RuntimeError):
    """As torch.distributed names what it raises."""


def run(error: BaseException | None, launch: Launch = Launch()):
    """Run work that ends with an error or well; return the exit code and the notes."""
    notes = ExitNotes("python train.py a", "try less")
    notes.best, notes.resume_files = "the best is in b", [Path(__file__)]

    def work() -> int:
        if error:
            raise error
        return 3

    return Console("train.py", launch).run_guarded(work, notes), notes


REST = "the best is in b\ngo on with: python train.py a --resume\n"


def test_work_that_ends_says_its_own_exit_code(capsys, sleeps):
    assert run(None)[0] == 3
    assert run(None, OTHER)[0] == 3
    assert capsys.readouterr() == ("", "")
    assert sleeps == []


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (FlowersError("a is wrong"), 1, "a is wrong"),
        (InputError("a is wrong"), 2, "a is wrong"),
        (ImageError("a is wrong\x1b"), 1, "a is wrong\\x1b"),
        (RunError("a is wrong"), 1, "a is wrong"),
        (Stopped(signal.SIGINT), 130, "stopped by Ctrl-C"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
@pytest.mark.parametrize("launch", [Launch(), PRIMARY])
def test_what_the_user_can_mend_is_one_sentence(capsys, sleeps, launch, error, code, sentence):
    assert run(error, launch)[0] == code
    assert capsys.readouterr() == ("", f"train.py: {sentence}\n{REST}")
    assert sleeps == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_too_little_memory_is_one_sentence_without_going_on(capsys, error):
    code, notes = run(error)
    assert code == 1
    assert not notes.resume_files  # it would need as much again
    assert capsys.readouterr().err == "train.py: out of memory; try less\nthe best is in b\n"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:525] Read error\nmore"),
        RuntimeError("Connection closed by peer\nmore"),
        DistBackendError("NCCL\nmore"),
    ],
)
def test_a_lost_process_is_one_sentence_where_there_are_several(capsys, error):
    assert run(error, PRIMARY)[0] == 1
    first = str(error).splitlines()[0]
    assert capsys.readouterr().err == (
        f"train.py: another process of this run has ended, or is out of reach: {first}\n{REST}"
    )
    with pytest.raises(RuntimeError) as caught:  # alone it would be a bug
        run(error)
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug of ours"), ValueError("a"), KeyError("a"), KeyboardInterrupt()]
)
def test_a_bug_keeps_its_traceback(capsys, error):
    with pytest.raises(type(error)) as caught:
        run(error)
    assert caught.value is error
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("a is wrong"), 2, ""),
        (ImageError("a is gone"), 1, "train.py: a is gone\n"),  # perhaps it alone has seen that
        (MemoryError(), 1, "train.py: out of memory; try less\n"),
        (RuntimeError("gloo"), 1, ""),
    ],
)
def test_another_process_says_only_what_it_alone_may_know_and_waits(
    capsys, sleeps, error, code, said
):
    assert run(error, OTHER)[0] == code
    assert capsys.readouterr() == ("", said)
    assert sleeps == [2]


@pytest.mark.parametrize("launch", [Launch(), OTHER])
def test_signals_end_the_work_of_the_process_that_speaks(capsys, sleeps, launch):
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def work() -> int:
        during.append(signal.getsignal(signal.SIGTERM))
        return 0

    assert Console("train.py", launch).run_guarded(work, ExitNotes("", "")) == 0
    assert (during == [before]) == (launch is OTHER)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_during_the_work_is_an_exit_code(capsys):
    def work() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert Console("train.py").run_guarded(work, ExitNotes("", "")) == 143
    assert capsys.readouterr().err == "train.py: stopped by SIGTERM\n"


# --- The parser -------------------------------------------------------------------------


@pytest.mark.parametrize("launch", [Launch(), OTHER])
def test_mistakes_are_printable_and_said_once(capsys, sleeps, launch):
    parser = Parser(Console("train.py", launch), description="Train.")
    parser.add_argument("--epochs", type=int)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--epochs", "\x1b[31m"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said
    if launch is OTHER:
        assert (said, sleeps) == ("", [2])
    else:
        assert said.splitlines()[-1].startswith("train.py: error: argument --epochs: invalid int")
        assert sleeps == []


def test_flags_are_typed_in_full():
    parser = Parser(Console("train.py"))
    parser.add_argument("--epochs", type=int)
    assert parser.parse_args(["--epochs", "3"]).epochs == 3
    with pytest.raises(SystemExit):
        parser.parse_args(["--epoch", "3"])


def test_waiting_is_for_the_others(sleeps):
    Console("train.py").wait_for_primary()
    assert sleeps == []
    Console("train.py", OTHER).wait_for_primary()
    assert sleeps == [2]
