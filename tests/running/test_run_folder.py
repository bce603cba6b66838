"""The folder of a run: its files, and that nothing is written where it must not be."""

import json
import os

import pytest
from conftest import file_size_limit

from running.errors import InputError, RunError
from running.run_folder import RunFolder

NAMES = ["checkpoint.pth", "history.csv", "report.json", "last.pth"]


def test_a_run_has_four_files(tmp_path):
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


def test_an_earlier_runs_files_are_set_aside(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.keep_earlier() == []
    for path in folder.files:
        path.write_text(path.name)
    kept = folder.keep_earlier()
    assert [path.name for path in kept] == [
        "checkpoint.previous.pth",
        "history.previous.csv",
        "report.previous.json",
    ]
    for path, copy in zip(folder.files, kept):
        assert path.read_text() == copy.read_text() == path.name
    # Moved, so that nobody resumes from there with this run's checkpoint.
    assert not folder.resume_file.exists()
    assert (tmp_path / "last.previous.pth").read_text() == "last.pth"
    folder.checkpoint.write_text("later")
    assert folder.keep_earlier() == kept
    assert kept[0].read_text() == "later"


def test_some_of_an_earlier_runs_files_are_set_aside(tmp_path):
    folder = RunFolder(tmp_path)
    folder.history.write_text("a")
    assert [path.name for path in folder.keep_earlier()] == ["history.previous.csv"]


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
    assert there.keep_earlier() == []
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)
