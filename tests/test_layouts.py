"""What becomes of data folders of many forms: what is taken, what is said, what is refused."""

import errno
import os
from typing import NamedTuple

import pytest

import data_utils
from running.errors import InputError


class Layout(NamedTuple):
    """Files of a folder (those that end with / are folders), and what they come to."""

    files: str
    train: str = ""  # its categories with their numbers, also after what is split off
    error: str = ""  # instead; X is the folder
    left_out: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def expected(text: str) -> str:
    return f"{text}; expected X/{{train,valid,test}}/<category>/*.jpg"


GOOD = "train/1/a.jpg train/1/b.jpg train/2/a.jpg valid/1/c.jpg valid/2/c.jpg "
FLAT = "rose/0.jpg rose/1.jpg rose/2.jpg tulip/0.jpg tulip/1.jpg tulip/2.jpg "
FLAT_NOTE = (
    "X has no splits: 4 photographs are for training, 1 for validation and 1 for the test, by a "
    "hash of their names; valid has photographs of 1 of the 2 categories; test has photographs of "
    "1 of the 2 categories",
)
SUFFIX = "has a suffix that is not read"
WITHIN = "all photographs are in folders within the categories' folders; the categories are "

LAYOUTS = {
    # What was meant, and photographs in folders within categories.
    "splits": Layout(GOOD, "1:2 2:1"),
    "flat": Layout(FLAT, "rose:2 tulip:2", notes=FLAT_NOTE),
    "within": Layout(GOOD + "train/1/x/d.jpg train/1/x/y/e.jpg train/2/.x/f.jpg", "1:4 2:1"),
    "within flat": Layout(
        "rose/x/0.jpg rose/1.jpg rose/y/2.jpg tulip/0.jpg tulip/x/y/z/1.jpg tulip/2.jpg",
        "rose:2 tulip:2",
        notes=FLAT_NOTE,
    ),
    "only within": Layout(
        "train/a/x/1.jpg train/b/y/1.jpg valid/a/x/2.jpg valid/b/2.jpg train/c/x/1.jpg valid/c/z/",
        "a:1 b:1 c:1",
        gaps=("valid has no photographs of c",),
    ),
    "splits of another name": Layout(
        "training_set/rose/1.jpg training_set/tulip/1.jpg test_set/rose/2.jpg test_set/tulip/2.jpg",
        "test_set:1 training_set:2",
        notes=(
            "X has no splits: 3 photographs are for training, 1 for validation and 0 for the test, "
            "by a hash of their names; valid has photographs of 1 of the 2 categories",
            WITHIN + "test_set, training_set",
        ),
    ),
    # What is left out of it.
    "clutter": Layout(
        GOOD + "train/notes.txt train/1/Thumbs.db train/2/labels.CSV README LICENSE x.jpg y/z.cr2",
        "1:2 2:1",
    ),
    "hidden": Layout(
        GOOD + "train/.x.jpg train/1/.DS_Store train/1/._a.jpg .git/a/b.jpg", "1:2 2:1"
    ),
    "loose": Layout(
        GOOD + "train/x.jpg valid/y.png",
        "1:2 2:1",
        left_out=(
            "train/x.jpg is in no category's folder",
            "valid/y.png is in no category's folder",
        ),
    ),
    "loose flat": Layout(
        FLAT + "x.jpg notes.txt",
        "rose:2 tulip:2",
        left_out=("x.jpg is in no category's folder",),
        notes=FLAT_NOTE,
    ),
    "other formats": Layout(
        GOOD + "train/1/a.jp2 train/1/x/b.CR2 valid/2/c.tga train/2/d.mpo train/1/e",
        "1:2 2:1",
        left_out=(
            f"train/1/a.jp2 {SUFFIX} (.jp2)",
            "train/1/e has no suffix",
            f"train/1/x/b.CR2 {SUFFIX} (.CR2)",
            f"train/2/d.mpo {SUFFIX} (.mpo)",
            f"valid/2/c.tga {SUFFIX} (.tga)",
        ),
    ),
    "empty category": Layout(
        GOOD + "train/10/ train/9/",
        "1:2 2:1",
        gaps=("train has no photographs of 9", "train has no photographs of 10"),
    ),
    "a data folder beside": Layout(
        FLAT + "zip/train/1/a.jpg zip/valid/1/b.jpg",
        "rose:2 tulip:2",
        left_out=("zip is a data folder of its own: it has a folder train",),
        notes=FLAT_NOTE,
    ),
    # Splits that are not there.
    "without valid": Layout(
        "train/1/a.jpg train/1/b.jpg train/1/c.jpg train/2/a.jpg test/1/x.jpg test/2/x.jpg",
        "1:2 2:1",
        notes=(
            "X has no valid: 1 of train's 4 photographs is for validation, by a hash of their "
            "names; valid has photographs of 1 of the 2 categories",
        ),
    ),
    "empty valid": Layout(
        "train/1/a.jpg train/1/b.jpg train/2/a.jpg val/1/notes.txt val/x.jpg test/1/ ",
        "1:1 2:1",
        left_out=("val/x.jpg is in no category's folder",),
        notes=(
            "X/val has no photographs: 1 of train's 3 photographs is for validation, by a hash of "
            "their names; valid has photographs of 1 of the 2 categories",
        ),
    ),
    "one of each": Layout(
        "train/1/a.jpg train/2/a.jpg valid/",
        error="X has no photographs to validate with, and train can spare none: it has one of each "
        "category",
    ),
    "valid of other categories": Layout(
        "train/1/a.jpg train/1/b.jpg train/2/a.jpg valid/3/a.jpg",
        error=expected("no photographs of train's categories to validate with in X"),
    ),
    "without train": Layout("valid/1/a.jpg test/1/a.jpg", error=expected("X has no folder train")),
    # What a run left there.
    "a run": Layout(
        FLAT + "runs/checkpoint.pth runs/history.csv runs/curves.png runs/mistakes.previous.png",
        "rose:2 tulip:2",
        notes=FLAT_NOTE,
    ),
    "a run deeper": Layout(
        FLAT + "runs/1/last.pth runs/1/curves.png", "rose:2 tulip:2", notes=FLAT_NOTE
    ),
    "a run in the folder itself": Layout(
        FLAT + "report.json report.html last.pth confusion.png drawn_flowers/train/1/a.jpg",
        "rose:2 tulip:2",
        left_out=("drawn_flowers is a data folder of its own: it has a folder train",),
        notes=FLAT_NOTE,
    ),
    "a run among photographs": Layout(
        GOOD + "train/1/checkpoint.pth train/1/curves.png train/2/curves.png", "1:2 2:2"
    ),
    # What is likely to have been meant.
    "nothing": Layout("", error=expected("no photographs to train on in X")),
    "unpacked": Layout(
        "dataset/train/1/a.jpg dataset/valid/1/a.jpg __MACOSX/dataset/train/1/._a.jpg",
        error="X has no photographs in category folders, but X/dataset has a folder train: give "
        "that",
    ),
    "unpacked deeper": Layout(
        "archive/dataset/train/1/a.jpg rose/b.jpg",
        error="X has one category only to train on (rose), but X/archive/dataset has a folder "
        "train: give that",
    ),
    "too deep": Layout(
        "train/flowers/1/a.jpg train/flowers/2/a.jpg valid/flowers/1/b.jpg",
        error=expected(
            "X has one category only to train on (flowers), but X/train/flowers looks like the "
            "folder of the categories"
        ),
    ),
    "too deep flat": Layout(
        "a/flowers/1/a.jpg a/flowers/2/x/a.jpg",
        error="X has one category only to train on (a), but X/a/flowers looks like the folder of "
        "the categories: give that",
    ),
    "all loose": Layout(
        " ".join(f"{i}.jpg" for i in range(18)),
        error=expected("18 photographs are in X, but in no category's folder"),
    ),
    "all loose in train": Layout(
        "train/a.jpg valid/1/b.jpg",
        error=expected("1 photograph is in X/train, but in no category's folder"),
    ),
    "one category, others loose": Layout(
        "train/1/a.jpg train/2.jpg train/3.jpg",
        error=expected(
            "X has one category only to train on (1); 2 photographs are in X/train, but in no "
            "category's folder"
        ),
    ),
    "one category": Layout(
        "train/1/a.jpg train/1/x/b.jpg",
        error="X has one category only to train on (1); telling flowers apart needs two or more",
    ),
    "raw files only": Layout(
        "1/b.cr2 1/a.cr2 2/a.cr2",
        error="X has no photographs in category folders; files that are left out: 3; X/1/a.cr2 "
        f"{SUFFIX} (.cr2)",
    ),
}


def make(folder, files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in files.split():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path, layout):
    folder = tmp_path / "X"
    make(folder, layout.files)
    if layout.error:
        with pytest.raises(InputError) as raised:
            data_utils.find_data(folder)
        assert str(raised.value).replace(str(folder), "X") == layout.error
        return
    data = data_utils.find_data(folder)
    counts = [data.splits["train"].labels.tolist().count(i) for i in range(len(data.categories))]
    found = " ".join(f"{category}:{n}" for category, n in zip(data.categories, counts))
    assert found == layout.train
    assert data.splits["valid"].paths
    assert data.left_out == [f"{folder}/{text}" for text in layout.left_out]
    assert [note.replace(str(folder), "X") for note in data.notes] == [*layout.notes]
    assert data.gaps == [*layout.gaps]
    assert data.unreadable == []
    problems = data_utils.find_problems(data, [], {path: path.encode() for path in data.paths}, [])
    assert problems["files and folders that are left out"] == data.left_out
    assert problems["categories that are not in all splits"] == data.gaps


@pytest.fixture
def lock(monkeypatch):
    """Return a function that makes a folder one that cannot be read, also for root."""
    scandir = os.scandir

    def lock(folder):
        def refuse(path):
            if os.fspath(path) == str(folder):
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))
            return scandir(path)

        monkeypatch.setattr("os.scandir", refuse)

    return lock


@pytest.mark.parametrize("locked", ["", "train", "valid"])
def test_the_folders_of_splits_have_to_be_read(tmp_path, lock, locked):
    make(tmp_path, GOOD)
    lock(tmp_path / locked)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        data_utils.find_data(tmp_path)


def test_order_and_fingerprint_of_ordinary_folders_never_change(tmp_path):
    """A run that is resumed relies on them; the values are those of version 2.0.0."""
    found = {}
    for name, files in {"splits": GOOD + "test/2/d.jpg", "flat": FLAT}.items():
        make(tmp_path / name, files)
        data = data_utils.find_data(tmp_path / name)
        found[name] = (
            [os.path.relpath(path, data.folder) for path in data.paths],
            data_utils.fingerprint(data, dict.fromkeys(data.paths, b"same"))[:16],
        )
    assert found == {
        "splits": ((GOOD + "test/2/d.jpg").split(), "a27e2de9054d0f3e"),
        "flat": (
            "rose/0.jpg rose/1.jpg tulip/0.jpg tulip/2.jpg rose/2.jpg tulip/1.jpg".split(),
            "8ff74d8833348090",
        ),
    }
