"""Photographs in a folder for each answer."""

import os
from pathlib import Path

import pytest
from conftest import file_size_limit

from prediction.records import Guess, Record
from prediction.sorting import Sorter, folder_name
from running.errors import ImageError, RunError


def record(path, answer="rose", error=None):
    guesses = [] if error else [Guess("rose", "1", 0.9)]
    return Record(str(path), guesses, answer, error, answer == "rose")


def found(folder):
    """Every file of a folder by its place, with its content."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.jpg")}


@pytest.fixture
def photos(tmp_path):
    """Three photographs of one name, and one that cannot be read."""
    for i in range(3):
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}" / "a.jpg").write_text(f"photograph {i}")
    (tmp_path / "bad.jpg").write_text("bad")
    return tmp_path


def sort(photos, copies=False, order=(0, 1, 2)):
    sorter = Sorter(str(photos / "sorted"), copies)
    for i in order:
        sorter.sort(record(photos / f"{i}" / "a.jpg"))
    sorter.sort(record(photos / "bad.jpg", "", ImageError("bad")))
    sorter.sort(record(photos / "missing.jpg", "", ImageError("missing")))
    return sorter.summary().removeprefix(str(photos))


@pytest.mark.parametrize("copies", [False, True])
def test_every_answer_has_its_folder_and_a_second_run_goes_on(photos, copies):
    assert sort(photos, copies) == f"/sorted: 4 {'copied' if copies else 'linked'}, 1 missing"
    everything = {
        "rose/a.jpg": "photograph 0",
        "rose/a_1.jpg": "photograph 1",
        "rose/a_2.jpg": "photograph 2",
        "unreadable/bad.jpg": "bad",
    }
    assert found(photos / "sorted") == everything
    assert (photos / "sorted/rose/a.jpg").is_symlink() != copies
    assert sort(photos, copies, order=(2, 0, 1)) == "/sorted: 4 there already, 1 missing"
    assert found(photos / "sorted") == everything
    assert (photos / "0" / "a.jpg").read_text() == "photograph 0"


def test_links_hold_from_any_working_folder(photos, monkeypatch):
    monkeypatch.chdir(photos)
    Sorter("sorted", False).sort(record("0/a.jpg"))
    monkeypatch.chdir("/")
    assert (photos / "sorted/rose/a.jpg").read_text() == "photograph 0"


def test_where_there_are_no_links_photographs_are_copied(photos, monkeypatch):
    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert sort(photos) == "/sorted: 4 copied, 1 missing"


def test_an_odd_photograph_stops_no_job(photos):
    (photos / "loop.jpg").symlink_to("loop.jpg")
    sorter = Sorter(str(photos / "sorted"), False)
    for path in ("loop.jpg", "a" * 300, "a.jpg/b.jpg"):
        sorter.sort(record(photos / path, "", ImageError("odd")))
    long = "b" * 251 + ".jpg"
    for i in range(3):
        (photos / f"{i}" / long).write_text(f"long {i}")
        sorter.sort(record(photos / f"{i}" / long))
    assert sorter.summary().endswith(": 3 linked, 3 missing")
    assert {len(name) for name in os.listdir(photos / "sorted" / "rose")} == {255}


@pytest.mark.parametrize("quicker", [0, 1])
def test_two_jobs_may_sort_into_one_folder(photos, monkeypatch, quicker):
    link = Path.symlink_to

    def late(place, source):
        monkeypatch.setattr(Path, "symlink_to", link)
        place.symlink_to(photos / f"{quicker}" / "a.jpg")
        raise FileExistsError

    monkeypatch.setattr(Path, "symlink_to", late)
    Sorter(str(photos / "sorted"), False).sort(record(photos / "0" / "a.jpg"))
    assert {*found(photos / "sorted").values()} == {"photograph 0", f"photograph {quicker}"}


@pytest.mark.parametrize("call", ["chmod", "utime", "link"])
def test_copies_need_no_modes_times_or_links(photos, monkeypatch, call):
    """exFAT and network drives, for which copies are made, may refuse all of these."""

    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, call, refuse)
    Sorter(str(photos / "sorted"), True).sort(record(photos / "0" / "a.jpg"))
    assert found(photos / "sorted") == {"rose/a.jpg": "photograph 0"}


def test_a_copy_is_there_whole_or_not_at_all(photos, monkeypatch):
    monkeypatch.setattr(os, "replace", None)  # which needs a file that holds the place
    Sorter(str(photos / "sorted"), True).sort(record(photos / "0" / "a.jpg"))
    assert found(photos / "sorted") == {"rose/a.jpg": "photograph 0"}
    with file_size_limit(5), pytest.raises(RunError, match="sorted/rose cannot be written"):
        Sorter(str(photos / "sorted"), True).sort(record(photos / "1" / "a.jpg"))
    assert os.listdir(photos / "sorted" / "rose") == ["a.jpg"]


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("fire lily", "fire lily"),
        ("../../etc", "_.._.._etc"),
        ("", "_"),
        (".hidden", "_.hidden"),
        ("a\\b:c?", "a_b_c_"),
        ("ends in a dot.", "ends in a dot"),
        ("ü" * 150, "ü" * 100),
        ("Con", "_Con"),  # a device of Windows
        ("aux.flower", "_aux.flower"),
        ("conifer", "conifer"),
    ],
)
def test_a_name_makes_one_folder(answer, name):
    assert folder_name(answer) == name
