"""Which files of a folder are photographs, and in what order names come."""

import errno
import os

import pytest

from images.folders import (
    DRAWN,
    RUN_FILES,
    find_photographs,
    is_image_name,
    is_photograph,
    natural_key,
    scan,
    walk,
)
from running.errors import InputError


def test_extensions_tell_photographs_in_any_case():
    assert all(map(is_image_name, ["a.jpg", "b.JPEG", "c.webp", "d.HEIC", "e/f.tif", "g.avif"]))
    assert not any(map(is_image_name, ["a.txt", "jpg", ".jpg", "a.jpg.part", "a.ico", ""]))


def test_photographs_are_found_in_folders_within_and_sorted(put):
    folder = put(
        "b/2.jpg", "b/10.jpg", "a.PNG", "b/c/d.gif", "notes.txt", ".hidden.jpg", ".h/a.jpg"
    )
    found = [os.path.relpath(path, folder) for path in find_photographs(folder)]
    assert found == ["a.PNG", "b/10.jpg", "b/2.jpg", "b/c/d.gif"]


def test_links_are_followed_but_not_back_up(put):
    folder = put("a/b/1.jpg", "other/2.jpg")
    (folder / "a/b/up").symlink_to("..")
    (folder / "a/other").symlink_to("../other")
    (folder / "a/self").symlink_to("self")
    found = [os.path.relpath(path, folder) for path in find_photographs(folder / "a")]
    assert found == ["a/b/1.jpg", "a/other/2.jpg"]


def test_what_is_no_file_is_no_photograph(put):
    folder = put("x.jpg/nested.png", "a.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.jpg").symlink_to("x.jpg")
    (folder / "nowhere.jpg").symlink_to("nowhere")  # listed, and named when it cannot be read
    photographs = {entry.name for entry in scan(folder) if is_photograph(entry)}
    assert photographs == {"a.jpg", "nowhere.jpg"}


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


def test_a_walk_tells_photographs_from_other_files(put):
    folder = put("a.jpg", "b.CR2", "c", ".d", "within/e.jpg")
    os.mkfifo(folder / "pipe")
    (folder / "within/up").symlink_to("..")
    (folder / "nowhere").symlink_to("nowhere")
    found = {each.path: (each.photographs, sorted(each.others)) for each in walk(folder)}
    assert found == {
        f"{folder}": ([f"{folder}/a.jpg"], [f"{folder}/b.CR2", f"{folder}/c"]),
        f"{folder}/within": ([f"{folder}/within/e.jpg"], []),
    }
    # A folder that is one of those above it is not gone through again.
    assert [*walk(folder / "within/up", above=(os.path.realpath(folder),))] == []


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
