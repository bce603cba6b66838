"""The data folder: its splits, categories and names, and what is wrong with it."""

import os
import shutil

import pytest
from PIL import Image

import data_utils
from images.manifest import Manifest
from running.errors import ImageError, InputError

# --- The data folder ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes small photographs: put("train/1/a.jpg", ...)."""

    def put(*names):
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), "red").save(path, format="PNG")
        return tmp_path / "data"

    return put


def test_categories_come_from_train_in_natural_order(folder):
    data = data_utils.find_data(
        folder(
            "train/10/a.jpg",
            "train/2/a.jpg",
            "train/1/b.JPG",
            "train/1/a.webp",
            "valid/2/a.png",
            "valid/10/b.gif",
            "valid/1/c.png",
        )
    )
    assert data.categories == ["1", "2", "10"]
    assert [os.path.basename(p) for p in data.splits["train"].paths] == [
        "a.webp",
        "b.JPG",
        "a.jpg",
        "a.jpg",
    ]
    assert data.splits["train"].labels.tolist() == [0, 0, 1, 2]
    assert data.notes == []
    assert "test" not in data.splits


def test_splits_are_matched_by_folder_name(folder):
    # Category 1 is missing in valid, and valid knows a 3 that train does not.
    data = data_utils.find_data(
        folder("train/1/a.jpg", "train/2/a.jpg", "valid/2/a.jpg", "valid/3/a.jpg", "test/2/a.jpg")
    )
    assert data.splits["valid"].labels.tolist() == [1]
    assert data.splits["test"].labels.tolist() == [1]
    assert data.notes == []
    assert data.gaps == [
        "valid has 3, which is left out: train has no photographs of it",
        "valid has no photographs of 1",
        "test has no photographs of 1",
    ]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["valid/1/a.jpg"], "no folder train"),
        (["train/1/a.jpg", "train/2/a.jpg"], "train can spare none: it has one of each category"),
        (["train/1/a.jpg", "valid/1/a.jpg", "val/1/a.jpg"], "has val and valid"),
        (["train/1/a.jpg", "valid/1/a.jpg"], "one category only"),
        (["train/1/a.txt", "valid/1/a.jpg"], "no photographs to train on"),
        (["cat_to_name.txt"], "no photographs to train on"),
        (
            ["train/1/a.jpg", "train/2/a.jpg", "valid/3/a.jpg"],
            "no photographs of train's categories",
        ),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused(folder, names, words):
    with pytest.raises(InputError, match=words):
        data_utils.find_data(folder(*names))


def test_what_is_wrong_with_a_folder_is_found(folder):
    data_dir = folder(
        "train/1/a.jpg",
        "train/1/b.jpg",
        "train/1/c.jpg",
        "train/2/a.jpg",
        "valid/1/twin.jpg",
        "valid/3/a.jpg",
        "test/2/a.jpg",
    )
    for i, path in enumerate(sorted(data_dir.glob("*/*/*.jpg"))):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(path, "PNG")
    shutil.copy(data_dir / "train/1/b.jpg", data_dir / "valid/1/twin.jpg")
    data = data_utils.find_data(data_dir)
    assert data.paths == [path for split in data.splits.values() for path in split.paths]
    digests = dict(zip(data.paths, data_utils.digest_each(data.paths, 2)))
    error = ImageError("x.jpg cannot be read")
    problems = data_utils.find_problems(data, [error], digests, ["2"])
    assert problems == {
        "folders that cannot be read": [],
        "files and folders that are left out": [],
        "photographs that cannot be read": ["x.jpg cannot be read"],
        "photographs that appear in two splits": [
            f"{data_dir}/valid/1/twin.jpg is {data_dir}/train/1/b.jpg"
        ],
        "photographs that appear in two categories": [],
        "photographs that appear twice in a category": [],
        "categories that are not in all splits": [
            "valid has 3, which is left out: train has no photographs of it",
            "valid has no photographs of 2",
            "test has no photographs of 1",
        ],
        "categories with fewer than 3 photographs in train": ["2: 1"],
        "categories without a name": ["2"],
    }
    # Moved elsewhere they are the same photographs, with another one they are not.
    before = data_utils.fingerprint(data, digests)
    moved = data_dir.rename(data_dir.with_name("moved"))
    again = data_utils.find_data(moved)
    elsewhere = {
        path.replace(str(data_dir), str(moved)): digest for path, digest in digests.items()
    }
    assert data_utils.fingerprint(again, elsewhere) == before
    assert data_utils.fingerprint(again, dict.fromkeys(elsewhere, b"")) != before


def test_the_same_photograph_in_two_places_is_found(folder):
    places = {
        "train/1/a.jpg": b"a",
        "train/1/b.jpg": b"a",
        "train/2/c.jpg": b"a",
        "train/2/d.jpg": b"d",
        "valid/1/e.jpg": b"a",
        "valid/1/f.jpg": b"d",
        "valid/2/g.jpg": b"g",
    }
    data = data_utils.find_data(folder(*places))
    digests = {f"{data.folder}/{place}": digest for place, digest in places.items()}
    problems = data_utils.find_problems(data, [], digests, [])

    def found(kind: str) -> list[str]:
        return [
            text.replace(f"{data.folder}/", "") for text in problems[f"photographs that {kind}"]
        ]

    assert found("appear in two splits") == [
        "valid/1/e.jpg is train/1/a.jpg",
        "valid/1/f.jpg is train/2/d.jpg",
    ]
    assert found("appear in two categories") == [
        "train/2/c.jpg is train/1/a.jpg",
        "valid/1/f.jpg is train/2/d.jpg",
    ]
    assert found("appear twice in a category") == ["train/1/b.jpg is train/1/a.jpg"]


def test_a_photograph_in_another_place_is_another_fingerprint(folder):
    names = ["train/1/a.jpg", "train/2/a.jpg", "valid/1/a.jpg", "valid/2/a.jpg"]
    data = data_utils.find_data(folder(*names))
    before = data_utils.fingerprint(data, dict.fromkeys(data.paths, b"same"))
    (data.folder / "valid/1/a.jpg").rename(data.folder / "valid/2/b.jpg")
    after = data_utils.find_data(data.folder)
    assert data_utils.fingerprint(after, dict.fromkeys(after.paths, b"same")) != before


# --- Reading every photograph ----------------------------------------------------------


def inspect(data_dir, names_file=None) -> data_utils.Inspected:
    data = data_utils.find_data(data_dir)
    return data_utils.inspect(data, names_file, [*data_utils.digest_each(data.paths, 1)])


def test_what_cannot_be_read_is_left_out(folder, tmp_path):
    data_dir = folder(
        "train/1/a.jpg", "train/1/b.jpg", "train/2/a.jpg", "train/3/a.jpg", "valid/1/b.jpg"
    )
    for name in ("train/1/a.jpg", "train/2/a.jpg"):
        (data_dir / name).write_bytes(b"hello")
    (tmp_path / "names.json").write_text('{"1": "daisy"}')
    inspected = inspect(data_dir, tmp_path / "names.json")
    assert inspected.data.categories == ["1", "3"]
    assert inspected.names == ["daisy", "3"]
    assert inspected.names_source == str(tmp_path / "names.json")
    assert [os.path.relpath(path, data_dir) for path in inspected.data.paths] == [
        "train/1/b.jpg",
        "train/3/a.jpg",
        "valid/1/b.jpg",
    ]
    unreadable = inspected.problems["photographs that cannot be read"]
    assert [text.split(" ")[0] for text in unreadable] == [
        f"{data_dir}/train/1/a.jpg",
        f"{data_dir}/train/2/a.jpg",
    ]
    assert inspected.problems["categories without a name"] == ["3"]
    assert inspected.lost == ["2"]
    with pytest.raises(InputError, match="no readable photograph left to train on of 2"):
        data_utils.require_usable(inspected, 1)


def test_what_was_split_off_is_split_off_again(folder):
    data_dir = folder(*[f"{category}/{i}.jpg" for category in "ab" for i in range(4)])
    before = data_utils.find_data(data_dir)
    for path in before.splits["valid"].paths:
        (data_dir / path).write_bytes(b"hello")
    inspected = inspect(data_dir)
    after = inspected.data.splits
    assert after["valid"].paths
    assert not set(after["valid"].paths) & set(before.splits["valid"].paths)
    assert sum(len(split.paths) for split in after.values()) == 8 - len(
        before.splits["valid"].paths
    )


def test_photographs_that_come_while_others_are_read_are_left_out(folder):
    data_dir = folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg")
    data = data_utils.find_data(data_dir)
    results = [*data_utils.digest_each(data.paths, 1)]
    seen = Manifest.of(data.categories, data.splits, dict(zip(data.paths, results)))
    shutil.copy(data.paths[0], data_dir / "train" / "1" / "new.jpg")
    inspected = data_utils.inspect(data, None, results, seen)
    assert inspected.data.paths == data.paths
    assert inspected.fingerprint == data_utils.inspect(data, None, results).fingerprint


# --- What is said of it -----------------------------------------------------------------


def test_the_folder_is_described_in_sentences(folder):
    data_dir = folder("train/1/a.jpg", "train/1/b.jpg", "train/2/a.jpg", "valid/1/b.jpg")
    assert [*data_utils.describe_data(data_utils.find_data(data_dir))] == [
        f"{data_dir}: 3 train, 1 valid photographs; 2 categories of 1 to 2 in train",
        "there is no test split: the figures at the end will be those of valid",
    ]


def test_the_sources_of_names_are_said_and_where_they_differ(folder, tmp_path):
    inspected = inspect(folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg"))

    def said(known):
        return [*data_utils.describe_names(inspected, known, "checkpoint.pth")]

    assert said({}) == said({"9": "aster"}) == ["names: the folders' names"]
    assert said({"1": "rose"}) == ["names: checkpoint.pth, and of 1 category the folders' names"]
    assert inspected.with_names({"1": "rose"}).names == ["rose", "2"]
    file = tmp_path / "names.json"
    file.write_text('{"1": "red rose", "2": "iris"}')
    inspected = inspect(inspected.data.folder, file)
    assert said({"1": "red rose", "2": "iris"}) == ["names: checkpoint.pth"]
    assert said({"1": "rose", "2": "iris"}) == [
        "names: checkpoint.pth",
        f"1 of them differs from {file}, as rose (1), which is red rose there; --category_names "
        f"{file} takes those",
    ]


def test_the_table_says_what_is_wrong(folder):
    data_dir = folder("train/1/a.jpg", "train/1/b.jpg", "train/2/a.jpg", "valid/1/c.jpg")
    lines = [*data_utils.check_lines(inspect(data_dir))]
    assert lines[:3] == [
        "split  photographs  categories  in each",
        "train            3           2  1 to 2",
        "valid            1           1  0 to 1",
    ]
    assert "names: the folders' names" in lines
    # All of these photographs are the same.
    assert "     1  photographs that appear in two splits" in lines
    assert f"  {data_dir}/valid/1/c.jpg is {data_dir}/train/1/a.jpg" in lines
    assert "     1  categories that are not in all splits" in lines
    assert "     0  photographs that cannot be read" in lines


# --- Folder names -----------------------------------------------------------------------


# --- Names ----------------------------------------------------------------------------


def test_names_come_from_the_option_then_the_folder_then_the_project(tmp_path):
    oxford = [str(i) for i in range(1, 103)]
    names, source, unnamed = data_utils.find_names(oxford, tmp_path)
    assert names[20] == "fire lily"
    assert names[77] == "lotus"
    assert "Oxford" in source
    assert unnamed == []
    # A stranger's folders 1 to 10 are no flowers of Oxford.
    assert data_utils.find_names(oxford[:10], tmp_path) == (oxford[:10], "the folders' names", [])
    (tmp_path / "cat_to_name.json").write_text('{"1": "own"}')
    names, _, unnamed = data_utils.find_names(oxford, tmp_path)
    assert names[:2] == ["own", "2"]
    assert unnamed == oxford[1:]
    (tmp_path / "given.json").write_text('{"2": "given"}')
    assert data_utils.find_names(oxford, tmp_path, tmp_path / "given.json")[0][:2] == ["1", "given"]


@pytest.mark.parametrize(
    "content",
    [
        b"[1, 2]",
        b'{"1": "a\\nb"}',
        b'{"1": "a\\ud800"}',
        b"{",
        b'{"1": 2}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_names_file_of_another_form_is_refused(tmp_path, content):
    (tmp_path / "names.json").write_bytes(content)
    with pytest.raises(InputError, match="names.json"):
        data_utils.load_names(tmp_path / "names.json")
