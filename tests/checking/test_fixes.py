"""A mended folder has what was accepted, and the old one is as it was."""

import os
from pathlib import Path

import pytest

from checking import fixes
from data_utils import find_data
from running.errors import InputError


@pytest.fixture
def data(put, tmp_path):
    put(*(f"old/{s}/{c}/{n}.jpg" for s in ("train", "valid") for c in "12" for n in "ab"))
    put("old/train/1/more/c.jpg")
    (tmp_path / "old" / "cat_to_name.json").write_text('{"1": "rose"}')
    return tmp_path / "old"


def tree(folder: Path) -> dict[str, tuple[int, bool]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.is_symlink())
        for path in sorted(folder.rglob("*"))
    }


def apply_fixes(data: Path, accepted: dict[str, str], target: Path | str) -> str:
    found = find_data(data)
    return fixes.apply_fixes(found.folder, found.paths, found.categories, accepted, target)


def test_photographs_are_moved_and_left_out(data, tmp_path):
    before = tree(data)
    accepted = {
        "train/1/a.jpg": "move to 2",  # where there is an a.jpg
        "train/1/more/c.jpg": "move to 2",
        "valid/2/b.jpg": "leave out",
    }
    said = apply_fixes(data, accepted, tmp_path / "new")
    assert said == f"{tmp_path}/new: 8 linked, 2 of these moved, 1 left out"
    assert tree(data) == before
    new = sorted(str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*.jpg"))
    assert new == [
        "train/1/b.jpg", "train/2/a.jpg", "train/2/a_1.jpg", "train/2/b.jpg",
        "train/2/more/c.jpg", "valid/1/a.jpg", "valid/1/b.jpg", "valid/2/a.jpg",
    ]  # fmt: skip
    moved = {os.path.realpath(tmp_path / "new/train/2" / name) for name in ("a.jpg", "a_1.jpg")}
    assert moved == {f"{data}/train/1/a.jpg", f"{data}/train/2/a.jpg"}
    assert (tmp_path / "new" / "cat_to_name.json").read_text() == '{"1": "rose"}'
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new"}


def test_where_there_are_no_links_photographs_are_copied(data, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    said = apply_fixes(data, {"train/2/b.jpg": "leave out"}, tmp_path / "new")
    assert said == f"{tmp_path}/new: 8 copied, 1 left out"
    assert not any(path.is_symlink() for path in (tmp_path / "new").rglob("*"))


@pytest.mark.parametrize(
    ("accepted", "target", "words"),
    [
        ({"train/9/a.jpg": "leave out"}, "new", "has no photograph train/9/a.jpg"),
        ({"train/1/a.jpg": "move to 7"}, "new", "cannot be moved to 7, which is no category"),
        ({"train/1/a.jpg": "move to ../2"}, "new", "is no category"),
        ({}, "new", "nothing is accepted: write yes"),
        ({"train/1/a.jpg": "leave out"}, "old", "is there already"),
        ({"train/1/a.jpg": "leave out"}, "linked/within", "is within"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(
    data, tmp_path, accepted, target, words
):
    (tmp_path / "linked").symlink_to(data)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=words):
        apply_fixes(data, accepted, tmp_path / target)
    assert tree(tmp_path) == before
