"""Which files of a folder are photographs, and in what order names come."""

import errno
import os

import pytest

from images.folders import (
    DRAWN,
    RUN_FILES,
    find_photographs,
    natural_key,
)
from running.errors import InputError


def test_photographs_are_found_in_folders_within_and_sorted(put):
    folder = put(
        "b/2.jpg", "b/10.jpg", "a.PNG", "b/c/d.gif", "notes.txt", ".hidden.jpg", ".h/a.jpg"
    )
    found = [os.path.relpath(path, folder) for path in find_photographs(folder)]
    assert found == ["a.PNG", "b/10.jpg", "b/2.jpg", "b/c/d.gif"]


@pytest.fixture
def locked(monkeypatch):
    """Return a function that makes folders some that cannot be read, also for root."""
    scandir = os.scandir

    def lock(*folders):
        def refuse(path):
            if os.fspath(path) in map(os.fspath, folders):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return scandir(path)

        monkeypatch.setattr("os.scandir", refuse)

    return lock


def test_a_locked_folder_costs_its_own_photographs_only(put, locked):
    folder = put("a/1.jpg", "lost+found/2.jpg", "z/x/3.jpg", "z/y/3.jpg")
    locked(folder / "lost+found", folder / "z" / "x")
    with pytest.raises(InputError, match="(found|x) cannot be read: Permission denied"):
        find_photographs(folder)
    errors = []
    found = [os.path.relpath(path, folder) for path in find_photographs(folder, errors.append)]
    assert found == ["a/1.jpg", "z/y/3.jpg"]
    assert sorted(map(str, errors)) == [
        f"{folder}/{name} cannot be read: Permission denied" for name in ("lost+found", "z/x")
    ]


@pytest.mark.parametrize("name", sorted(RUN_FILES))
def test_what_a_run_drew_is_no_photograph(put, name):
    drawn = [*DRAWN]
    assert {"curves.png", "mistakes.previous.png"} < {*drawn}
    folder = put(f"runs/{name}", "runs/rose.png", *[f"runs/{each}" for each in drawn])
    put(*[f"rose/{each}" for each in drawn])  # somebody's own
    found = [os.path.relpath(path, folder) for path in find_photographs(folder)]
    assert found == [*[f"rose/{each}" for each in sorted(drawn)], "runs/rose.png"]


def test_a_folder_that_cannot_be_read_is_one_sentence(put):
    folder = put("a.jpg")
    for path in ("nowhere", "a.jpg"):
        with pytest.raises(InputError, match=f"{path} cannot be read: (No such|Not a)"):
            find_photographs(folder / path)


def test_natural_order():
    texts = ["rose 10", "10", "2", "rose 2", "02", "", "a", "1b", "1a"]
    expected = ["", "1a", "1b", "02", "2", "10", "a", "rose 2", "rose 10"]
    assert sorted(texts, key=natural_key) == expected
