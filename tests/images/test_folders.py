"""Which files of a folder are photographs, of which categories, and in what order they come."""

import errno
import os

import pytest

from images.folders import (
    LEFT_OUT,
    UNREADABLE,
    find_categories,
    find_photographs,
    find_split_folders,
    is_image_name,
    name_some,
    natural_key,
)
from running.errors import InputError


def test_extensions_tell_photographs_in_any_case():
    assert all(map(is_image_name, ["a.jpg", "b.JPEG", "c.webp", "d.HEIC", "e/f.tif", "g.avif"]))
    assert not any(map(is_image_name, ["a.txt", "jpg", ".jpg", "a.jpg.part", "a.ico", ""]))


def test_photographs_are_found_in_folders_within_and_nothing_else(put):
    folder = put("b/2.jpg", "b/10.jpg", "a.PNG", "x.jpg/d.gif", "notes.txt", ".e.jpg", ".h/a.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.jpg").symlink_to("x.jpg")
    (folder / "nowhere.jpg").symlink_to("nowhere")  # listed, and named when it cannot be read
    (folder / "x.jpg" / "up").symlink_to("..")
    (folder / "self.txt").symlink_to("self.txt")
    for name in ("lost+found", "@eaDir", "__MACOSX"):  # which systems make
        (folder / name).mkdir()
        (folder / name / "a.jpg").touch()
    found = [os.path.relpath(path, folder) for path in find_photographs(folder)]
    expected = ["a.PNG", "b/10.jpg", "b/2.jpg", "folder.jpg/d.gif", "nowhere.jpg", "x.jpg/d.gif"]
    assert found == expected


def test_a_locked_folder_costs_its_own_photographs_only(put, monkeypatch):
    folder = put("a/1.jpg", "found/2.jpg", "z/x/3.jpg", "z/y/3.jpg")
    locked, scandir = [str(folder / "found"), str(folder / "z" / "x")], os.scandir

    def refuse(path):  # also to root
        if os.fspath(path) in locked:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError, match="(found|x) cannot be read: Permission denied"):
        find_photographs(folder)
    unreadable = []
    assert find_photographs(folder, unreadable) == [f"{folder}/a/1.jpg", f"{folder}/z/y/3.jpg"]
    assert sorted(unreadable) == [f"{path} cannot be read: Permission denied" for path in locked]
    problems = {UNREADABLE: [], LEFT_OUT: []}
    found = find_categories(str(folder), folder, problems)
    assert [name for name in sorted(found) if found[name]] == ["a", "z"]
    assert sorted(problems[UNREADABLE]) == sorted(unreadable)


@pytest.mark.parametrize("name", ["77", "St. John's wort", "v1.2", "loop"])
def test_a_folder_that_has_gone_is_not_taken_for_one_that_was_never_there(put, name):
    """Such as a category on a disk that is not mounted: it would be lost without a word."""
    folder = put("train/a/1.jpg", "train/b/2.jpg")
    link = folder / "train" / name
    link.symlink_to(name if name == "loop" else "/nowhere")
    problems = {UNREADABLE: [], LEFT_OUT: []}
    assert [*find_categories(f"{folder}/train", folder, problems)] == ["a", "b"]
    [sentence] = problems[UNREADABLE]
    assert sentence.startswith(f"{link} cannot be read: ")
    (folder / "train" / "R.alba").symlink_to("/nowhere")  # as a category it is no file
    more = {UNREADABLE: [], LEFT_OUT: []}
    find_categories(f"{folder}/train", folder, more)
    assert len(more[UNREADABLE]) == 2
    (folder / "train" / "R.alba").unlink()
    unreadable = []
    assert len(find_photographs(folder, unreadable)) == 2
    assert unreadable == [sentence]
    (folder / "Valid").symlink_to("/nowhere")
    with pytest.raises(InputError, match="Valid cannot be read: No such file"):
        find_split_folders(folder)


def test_links_to_files_that_have_gone_are_no_folders(put):
    folder = put("train/a/1.jpg")
    for name in ("2.jpg", "notes.txt", "film.mp4"):
        (folder / "train/a" / name).symlink_to("/nowhere")
    problems = {UNREADABLE: [], LEFT_OUT: []}
    found = find_categories(f"{folder}/train", folder, problems)
    assert found == {"a": [f"{folder}/train/a/1.jpg", f"{folder}/train/a/2.jpg"]}
    assert problems == {
        UNREADABLE: [],
        LEFT_OUT: [f"{folder}/train/a/film.mp4 is in no format that is read"],
    }


def test_what_is_passed_over_is_told(put):
    passed_over = []
    folder = put("a.HIF", "b.mpo", "c.apng", "d.avifs", "e.CR2", "f.txt", "within/g", "h.jxl")
    names = [os.path.relpath(p, folder) for p in find_photographs(folder, None, passed_over)]
    assert names == ["a.HIF", "b.mpo", "c.apng", "d.avifs"]
    assert [os.path.relpath(p, folder) for p in passed_over] == ["e.CR2", "h.jxl", "within/g"]


def test_the_folder_of_a_data_check_is_no_category(put):
    folder = put("train/a/1.jpg", "train/b/2.jpg", "train/check/data_report.csv")
    found = find_categories(f"{folder}/train", folder, {UNREADABLE: [], LEFT_OUT: []})
    assert [*found] == ["a", "b"]


def test_links_to_other_categories_are_followed_but_not_back_up(put):
    folder = put("train/1/a.jpg", "train/2/b.jpg")
    for name in ("train/up", "train/1/up"):
        (folder / name).symlink_to(folder)
    (folder / "train/1/split").symlink_to("..")
    (folder / "train/1/beside").symlink_to("../2")
    found = find_categories(f"{folder}/train", folder, {UNREADABLE: [], LEFT_OUT: []})
    assert found == {
        "up": [],
        "1": [f"{folder}/train/1/a.jpg", f"{folder}/train/1/beside/b.jpg"],
        "2": [f"{folder}/train/2/b.jpg"],
    }


def test_names_are_in_natural_order_and_some_of_many():
    texts = ["rose 10", "10", "2", "rose 2", "02", "", "a", "1b", "1a"]
    expected = ["", "1a", "1b", "02", "2", "10", "a", "rose 2", "rose 10"]
    assert sorted(texts, key=natural_key) == expected
    assert name_some([*"abcd"], 3) == "a, b, c and 1 more"
    assert name_some([*"abcd"], 4) == "a, b, c, d"
