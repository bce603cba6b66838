"""The folder of a run: its files, and that nothing is written where it must not be."""

import json
import os
from pathlib import Path

import pytest

from running.run_folder import RunFolder

NAMES = ["checkpoint.pth", "history.csv", "report.json", "report.html", "last.pth"]


def contents(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


BACKUPS = {name: name.replace(".", ".previous.") for name in NAMES}


@pytest.mark.parametrize("links", [True, False])
def test_backups_are_of_one_run_and_its_files_stay(tmp_path, monkeypatch, links):
    def no_link(*_):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    folder = RunFolder(tmp_path)
    assert not folder.back_up()
    for name in NAMES:
        (tmp_path / name).write_text(name)
    for _ in range(2):  # killed, and started again
        assert folder.back_up() == tmp_path / "checkpoint.previous.pth"
        assert contents(tmp_path) == {
            path: name for name in NAMES for path in (name, BACKUPS[name])
        }
    # What the next run did not write is not its own.
    for name in NAMES:
        (tmp_path / name).unlink()
    folder.checkpoint.write_text("later")
    assert folder.back_up()
    assert contents(tmp_path) == {"checkpoint.pth": "later", "checkpoint.previous.pth": "later"}


def test_a_new_file_leaves_the_backup_as_it_was(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_report({"a": 1})
    folder.back_up()
    folder.write_report({"a": 2})
    assert json.loads((tmp_path / "report.previous.json").read_text()) == {"a": 1}


def test_a_report_on_another_checkpoint_goes(tmp_path):
    for name in NAMES:
        (tmp_path / name).touch()
    RunFolder(tmp_path, writes=False).write_checkpoint(Path.write_text, "new")
    assert contents(tmp_path).keys() == {*NAMES}
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
