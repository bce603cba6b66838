"""The folder of a run: its files, and that nothing is written where it must not be."""

import contextlib
import json
import os
from pathlib import Path

import pytest
from conftest import file_size_limit

from running.errors import InputError, RunError
from running.run_folder import RunFolder

NAMES = ["checkpoint.pth", "history.csv", "report.json", "report.html", "last.pth"]


def test_a_run_has_five_files(tmp_path):
    folder = RunFolder(str(tmp_path))
    assert [path.name for path in folder.files] == NAMES
    assert {path.parent for path in folder.files} == {tmp_path}
    assert folder.resume_file == tmp_path / "last.pth"


def test_a_folder_is_made_where_there_is_none(tmp_path):
    folder = RunFolder(tmp_path / "a" / "b")
    folder.prepare()
    assert os.listdir(tmp_path / "a" / "b") == []
    folder.prepare()  # once more is no mistake


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder, where a file would be written"):
        RunFolder(tmp_path).prepare()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="a cannot be written to"):
        RunFolder(tmp_path / "a").prepare()


def test_one_run_is_at_work_at_a_time(tmp_path):
    half = tmp_path / ".last.pth.123.tmp"
    half.write_bytes(b"?")
    with RunFolder(tmp_path).lock():
        assert not half.exists()  # nobody goes on with that
        with (
            pytest.raises(InputError, match=r"another train\.py is at work in "),
            RunFolder(tmp_path).lock(),
        ):
            pass
        with RunFolder(tmp_path, writes=False).lock():  # of the same run
            pass
    assert os.listdir(tmp_path) == []
    with RunFolder(tmp_path).lock():
        pass


def test_a_report_is_readable_and_whole_or_not_there(tmp_path):
    folder, report = RunFolder(tmp_path), {"split": "test", "top1": {"share": 0.5}, "name": "Blüte"}
    folder.write_report(report)
    assert json.loads(folder.report.read_text()) == report
    with file_size_limit(10), pytest.raises(RunError, match=r"report\.json cannot be written"):
        folder.write_report({"a": "b" * 1000})
    assert json.loads(folder.report.read_text()) == report
    assert os.listdir(tmp_path) == ["report.json"]


def test_functions_write_with_their_arguments(tmp_path):
    calls = []

    def write(*args, **kwargs):
        calls.append((args, kwargs))

    RunFolder(tmp_path).write(write, 1, 2, three=3)
    assert calls == [((1, 2), {"three": 3})]
    RunFolder(tmp_path, writes=False).write(write, 1)
    assert len(calls) == 1


def contents(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


PREVIOUS = {
    "checkpoint.pth": "checkpoint.previous.pth",
    "history.csv": "history.previous.csv",
    "report.json": "report.previous.json",
    "report.html": "report.previous.html",
    "last.pth": "last.previous.pth",
    "curves.png": "curves.previous.png",
    "confusion.png": "confusion.previous.png",
    "mistakes.png": "mistakes.previous.png",
}


def test_an_earlier_runs_files_are_set_aside_together(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.back_up()
    for name in PREVIOUS:
        (tmp_path / name).write_text(name)
    assert folder.back_up() == tmp_path / "checkpoint.previous.pth"
    there = {previous: name for name, previous in PREVIOUS.items()}
    # A checkpoint is there at any time; nobody resumes from the others with a new one.
    assert contents(tmp_path) == {**there, "checkpoint.pth": "checkpoint.pth"}

    # The next run drew nothing: the pictures of the first one are not its.
    folder.checkpoint.write_text("later")
    folder.history.write_text("later")
    assert folder.back_up()
    assert contents(tmp_path) == {
        "checkpoint.pth": "later",
        "checkpoint.previous.pth": "later",
        "history.previous.csv": "later",
    }


def test_without_a_checkpoint_what_was_set_aside_stays(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "checkpoint.previous.pth").write_text("earlier")
    assert not folder.back_up()
    folder.history.write_text("a")
    assert folder.back_up()
    assert contents(tmp_path) == {
        "checkpoint.previous.pth": "earlier",
        "history.previous.csv": "a",
    }


def test_wherever_setting_aside_is_broken_off_nothing_is_lost(tmp_path, monkeypatch):
    """A run is killed before each step, and another one begins."""
    for step in range(30):
        path = tmp_path / str(step)
        path.mkdir()
        folder = RunFolder(path)
        for name in ["curves.png", "last.pth", *NAMES[:3]]:
            (path / name).write_text(f"finished {name}")
        for name in PREVIOUS.values():
            (path / name).write_text(f"earlier {name}")
        left = [step]

        def count(original, left=left):
            def act(*arguments, **options):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                return original(*arguments, **options)

            return act

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(os, "replace", count(os.replace))
            patch.setattr(Path, "unlink", count(Path.unlink))
            folder.back_up()
        has_moved = not folder.resume_file.exists()
        assert folder.is_set_aside == has_moved
        if has_moved:
            folder.require_run("--update")
        folder.back_up()
        assert contents(path) == {
            "checkpoint.pth": "finished checkpoint.pth",
            **{
                PREVIOUS[name]: f"finished {name}"
                for name in ["curves.png", "last.pth", *NAMES[:3]]
            },
        }
        if left[0]:
            break
    assert left[0] and step > 5


def test_what_is_aside_stays_where_the_run_behind_it_broke_off(tmp_path):
    folder = RunFolder(tmp_path)
    for name in ("checkpoint.pth", "last.pth"):
        (tmp_path / PREVIOUS[name]).write_text("finished")
    aside = contents(tmp_path)
    folder.checkpoint.write_text("later")  # its last.pth is not there yet
    assert folder.is_set_aside
    assert not folder.back_up()
    assert contents(tmp_path) == {**aside, "checkpoint.pth": "later"}
    for name in ("last.pth", "history.csv"):
        (tmp_path / name).write_text("later")
    assert not folder.back_up(is_broken_off=True)
    assert contents(tmp_path) == {**aside, "checkpoint.pth": "later"}


@pytest.mark.parametrize("name", ["history.csv", "report.json", "report.html"])
def test_a_last_pth_that_somebody_has_removed_is_no_broken_update(tmp_path, name):
    folder = RunFolder(tmp_path)
    for path in (*PREVIOUS.values(), "checkpoint.pth"):
        (tmp_path / path).write_text(path)
    folder.require_run("--update")
    (tmp_path / name).write_text("of the network that is here")
    with pytest.raises(InputError, match=r"goes on from .*last\.pth, which does not exist"):
        folder.require_run("--update")
    assert folder.back_up()
    assert not (tmp_path / "last.previous.pth").exists()
    assert (tmp_path / "checkpoint.previous.pth").read_text() == "checkpoint.pth"


def test_what_cannot_be_set_aside_is_one_sentence(tmp_path):
    folder = RunFolder(tmp_path)
    folder.history.write_text("a")
    (tmp_path / "history.previous.csv").mkdir()
    with pytest.raises(RunError, match=r"history\.previous\.csv cannot be written"):
        folder.back_up()


def test_what_was_said_of_another_checkpoint_goes(tmp_path):
    for name in PREVIOUS:
        (tmp_path / name).touch()
    RunFolder(tmp_path, writes=False).write_checkpoint(Path.write_text, "new")
    assert contents(tmp_path).keys() == PREVIOUS.keys()
    RunFolder(tmp_path).write_checkpoint(Path.write_text, "new")
    assert (tmp_path / "checkpoint.pth").read_text() == "new"
    assert contents(tmp_path).keys() == {"checkpoint.pth", "history.csv", "last.pth"}


def test_a_process_that_does_not_write_leaves_the_folder_alone(tmp_path):
    inside = RunFolder(tmp_path / "nowhere", writes=False)
    inside.prepare()
    with inside.lock():
        inside.write_report({"a": 1})
        inside.write(inside.path.mkdir)
    assert os.listdir(tmp_path) == []
    there = RunFolder(tmp_path, writes=False)
    for path in there.files:
        path.write_text(path.name)
    assert not there.back_up()
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)
