"""What becomes of data folders of many forms: what is taken, what is left out, what is refused."""

import os

import pytest

import data_utils
from running.errors import InputError

GOOD = "train/1/a.jpg train/1/b.jpg train/2/a.jpg valid/1/c.jpg valid/2/c.jpg "
FLAT = "rose/0.jpg rose/1.jpg rose/2.jpg tulip/0.jpg tulip/1.jpg tulip/2.jpg "
DIVIDED = "by a hash of names; copies, and folders within a category, are not divided"
CAUTION = (
    "other photographs of one plant may be in two parts, which makes the figures at the end too "
    "good: put them into a folder of their own"
)
FROM_FLAT = [f"valid and test: split off from X {DIVIDED}", CAUTION]
FROM_TRAIN = [f"valid: split off from X/train {DIVIDED}", CAUTION]
DATA_FOLDER = "is a data folder of its own: it has a folder train"

# Files (what ends with / is a folder), the categories of train with their numbers, also after what
# is split off, and what is said of it.
TAKEN = {
    "splits": (GOOD, "1:2 2:1", []),
    "flat": (FLAT, "rose:2 tulip:2", FROM_FLAT),
    "within": (GOOD + "train/1/x/d.jpg train/1/x/y/e.jpg train/2/.x/f.jpg", "1:4 2:1", []),
    "capitals": (
        "Train/1/a.jpg Train/2/a.jpg VALIDATION/1/a.jpg VALIDATION/2/a.jpg",
        "1:1 2:1",
        [],
    ),
    "natural order": (GOOD + "train/10/a.jpg valid/10/a.jpg", "1:2 2:1 10:1", []),
    "clutter": (
        GOOD + "train/notes.txt train/1/Thumbs.db train/2/labels.CSV README x.jpg y/z.cr2",
        "1:2 2:1",
        ["X/x.jpg is in no category's folder"],
    ),
    "beside": (
        GOOD + "tulip/a.jpg 3/x/b.jpg 3/c.jpg",
        "1:2 2:1",
        [
            "X/3, with 2 photographs, is in none of the splits' folders",
            "X/tulip, with a photograph, is in none of the splits' folders",
        ],
    ),
    "hidden": (GOOD + "train/.x.jpg train/1/.DS_Store train/1/._a.jpg .git/a/b.jpg", "1:2 2:1", []),
    "loose": (GOOD + "train/x.jpg", "1:2 2:1", ["X/train/x.jpg is in no category's folder"]),
    "other formats": (
        GOOD + "train/1/x/b.CR2 train/2/d",
        "1:2 2:1",
        [f"X/train/{name} is in no format that is read" for name in ("1/x/b.CR2", "2/d")],
    ),
    "empty category": (GOOD + "train/10/", "1:2 2:1", ["train has no photographs of 10"]),
    "gaps": (
        GOOD + "valid/3/a.jpg test/2/a.jpg",
        "1:2 2:1",
        [
            "valid has 3, which is left out: train has no photographs of it",
            "test has no photographs of 1",
        ],
    ),
    "a data folder beside": (
        FLAT + "zip/Train/1/a.jpg zip/valid/1/b.jpg",
        "rose:2 tulip:2",
        [*FROM_FLAT, f"X/zip {DATA_FOLDER}"],
    ),
    "no data folder": (FLAT + "tulip/train/3.jpg", "rose:2 tulip:3", FROM_FLAT),
    "without valid": (
        "train/1/a.jpg train/1/b.jpg train/1/c.jpg train/2/a.jpg test/1/x.jpg test/2/x.jpg",
        "1:2 2:1",
        FROM_TRAIN,
    ),
    "empty valid": (
        "train/1/a.jpg train/1/b.jpg train/2/a.jpg val/1/notes.txt val/x.jpg test/1/ ",
        "1:1 2:1",
        [*FROM_TRAIN, "X/val/x.jpg is in no category's folder"],
    ),
    "a run": (
        FLAT + "runs/checkpoint.pth runs/history.csv",
        "rose:2 tulip:2",
        FROM_FLAT,
    ),
}

REFUSED = {
    "nothing": ("", "no photographs to train on; expected X/{train,valid,test}/<category>/*.jpg"),
    "one category": ("train/1/a.jpg train/1/x/b.jpg", "one category only (1) to train on"),
    "too deep": ("a/flowers/1/a.jpg a/flowers/2/a.jpg", "one category only (a)"),
    "unpacked": ("data/train/1/a.jpg __MACOSX/data/train/1/._a.jpg", f"X/data {DATA_FOLDER}"),
    "loose": ("train/a.jpg valid/1/b.jpg", "1, such as X/train/a.jpg is in no category's folder"),
    "raw files only": ("1/b.cr2 1/a.cr2 2/a.cr2", "X/1/a.cr2 is in no format that is read"),
    "without train": ("valid/1/a.jpg test/1/a.jpg", "X has no folder train beside valid and test"),
    "two for one split": (GOOD + "val/1/a.jpg", "has val and valid, of which only one can be used"),
    "one of each": ("train/1/a.jpg train/2/a.jpg valid/", "to validate with, and train can spare"),
    "others in valid": (
        "train/1/a.jpg train/1/b.jpg train/2/a.jpg valid/3/a.jpg",
        "no photographs of train's categories to validate with",
    ),
    "a name of two lines": (GOOD + "train/ro\x1bse/a.jpg", r"'ro\x1bse' in X cannot be printed"),
}


def make(folder, files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in files.split(" "):
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if name and not name.endswith("/"):
            path.touch()


@pytest.mark.parametrize(("files", "train", "said"), TAKEN.values(), ids=TAKEN)
def test_a_data_folder_of_this_form_is_taken(tmp_path, files, train, said):
    folder = tmp_path / "X"
    make(folder, files)
    data = data_utils.find_data(folder)
    counts = [data.splits["train"].labels.tolist().count(i) for i in range(len(data.categories))]
    assert " ".join(f"{c}:{n}" for c, n in zip(data.categories, counts)) == train
    assert data.splits["valid"].paths
    problems = data_utils.inspect(data, None, [path.encode() for path in data.paths]).problems
    kinds = ("files and folders that are left out", "categories that are not in all splits")
    found = data.notes + [line for kind in kinds for line in problems[kind]]
    assert [line.replace(str(folder), "X") for line in found] == said


@pytest.mark.parametrize(("files", "words"), REFUSED.values(), ids=REFUSED)
def test_a_data_folder_of_this_form_is_refused(tmp_path, files, words):
    make(tmp_path / "X", files)
    with pytest.raises(InputError) as raised:
        data_utils.find_data(tmp_path / "X")
    assert words in str(raised.value).replace(str(tmp_path / "X"), "X")


def test_order_and_fingerprint_of_ordinary_folders_never_change(tmp_path):
    """A run that is resumed relies on them; the values are those of version 2.0.0."""
    found = {}
    for name, files in {"splits": GOOD + "test/2/d.jpg", "flat": FLAT}.items():
        make(tmp_path / name, files)
        data = data_utils.find_data(tmp_path / name)
        found[name] = (
            [os.path.relpath(path, data.folder) for path in data.paths],
            data_utils.inspect(data, None, _digests(data)).fingerprint[:16],
        )
    flat = "rose/0.jpg rose/1.jpg tulip/0.jpg tulip/2.jpg rose/2.jpg tulip/1.jpg"
    assert found == {
        "splits": ((GOOD + "test/2/d.jpg").split(), "a27e2de9054d0f3e"),
        "flat": (flat.split(), "17a37445b163eade"),
    }


def _digests(data: data_utils.DataSet) -> list[bytes]:
    if "valid" in os.listdir(data.folder):
        return [b"same"] * len(data.paths)
    return [os.path.relpath(path, data.folder).encode() for path in data.paths]
