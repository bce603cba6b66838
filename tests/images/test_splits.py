"""The folders of splits, and splits that are split off by a hash."""

import os

import pytest

from images.splits import (
    assign_splits,
    find_splits,
    split_off,
)
from running.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Return a function that makes empty photographs: folder("train/1/a.jpg", ...)."""

    def put(*names):
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "data"

    return put


def names_of(by_category: dict[str, list[str]]) -> set[str]:
    """Name photographs as category/file."""
    return {f"{c}/{os.path.basename(path)}" for c, paths in by_category.items() for path in paths}


def names_in(splits: dict[str, dict[str, list[str]]]) -> dict[str, set[str]]:
    return {split: names_of(by_category) for split, by_category in splits.items()}


# --- Folders --------------------------------------------------------------------------


@pytest.mark.parametrize("valid", ["val", "validation", "VALID"])
def test_other_names_of_valid(folder, valid):
    found, remarks = find_splits(folder("Train/1/a.jpg", f"{valid}/2/a.jpg"), ())
    assert names_in(found) == {"train": {"1/a.jpg"}, "valid": {"2/a.jpg"}}
    assert remarks.notes == []


def test_two_folders_cannot_be_one_split(folder):
    data = folder("train/1/a.jpg", "valid/1/a.jpg", "val/1/a.jpg")
    with pytest.raises(InputError, match="has val and valid; only one can be the split valid"):
        find_splits(data, ())


# --- Splitting off --------------------------------------------------------------------


def test_missing_splits_are_split_off_alike_everywhere(folder, tmp_path):
    names = [f"{category}/{i}.jpg" for category in ("a", "b") for i in range(200)]
    found, remarks = find_splits(folder(*names), ())
    splits = names_in(found)
    assert set(splits) == {"train", "valid", "test"}
    assert sorted(name for each in splits.values() for name in each) == sorted(names)
    # Three standard deviations of 400 draws with probability 0.1 are 18.
    assert abs(len(splits["valid"]) - 40) < 18
    assert abs(len(splits["test"]) - 40) < 18
    # Fixed names, fixed places: these must never change, on no machine.
    assert "a/0.jpg" in splits["train"]
    assert sorted(splits["valid"])[:3] == ["a/138.jpg", "a/148.jpg", "a/153.jpg"]
    assert remarks.split_off == ["valid", "test"]
    assert remarks.notes == [
        f"{tmp_path}/data has no splits: {len(splits['train'])} photographs are for training, "
        f"{len(splits['valid'])} for validation and {len(splits['test'])} for the test, by a hash "
        "of their names"
    ]
    # Photographs stay in their split when others are added.
    more = names_in(find_splits(folder(*[f"a/more{i}.jpg" for i in range(50)], "c/0.jpg"), ())[0])
    assert all(splits[name] <= more[name] for name in splits)


def test_valid_is_split_off_from_train_and_test_left_alone(folder):
    names = [f"{category}/{i}.jpg" for category in "ab" for i in range(50)]
    found, remarks = find_splits(folder(*[f"train/{name}" for name in names], "test/a/x.jpg"), ())
    splits = names_in(found)
    assert splits["train"] | splits["valid"] == {*names}
    assert not splits["train"] & splits["valid"]
    assert 1 <= len(splits["valid"]) <= 20
    assert splits["test"] == {"a/x.jpg"}
    assert remarks.split_off == ["valid"]
    assert f": {len(splits['valid'])} of train's 100 photographs are for val" in remarks.notes[0]


def test_what_stays_where_it_was_is_not_said_to_be_there_by_a_hash(folder):
    data = folder(*[f"{category}/{i}.jpg" for category in "ab" for i in range(20)])
    found, _ = find_splits(data, ())
    pinned = {
        path: split
        for split, by_category in found.items()
        for paths in by_category.values()
        for path in paths
    }
    _, remarks = find_splits(data, (), pinned)
    assert remarks.notes[0].endswith(" for the test, as in the earlier run")
    pinned.pop(found["train"]["a"][0])
    _, remarks = find_splits(data, (), {**pinned, "elsewhere": "test"})
    assert remarks.notes[0].endswith("as in the earlier run; new ones by a hash of their names")


def test_an_empty_valid_is_split_off_as_if_it_was_not_there(folder):
    names = [f"train/{category}/{i}.jpg" for category in "abc" for i in range(6)]
    data = folder(*names, "test/a/x.jpg")
    missing, remarks = find_splits(data, ())
    rest = ": 1 of train's 18 photographs is for validation, by a hash of their names; valid has "
    rest += "photographs of 1 of the 3 categories"
    assert remarks.notes == [f"{data} has no valid{rest}"]
    (data / "val" / "a").mkdir(parents=True)
    empty, remarks = find_splits(data, ())
    assert remarks.notes == [f"{data}/val has no photographs{rest}"]
    assert [*empty.items()] == [*missing.items()]  # in the same order
    assert [*empty] == ["train", "test", "valid"]


@pytest.mark.parametrize("counts", [(1, 1, 3), (10, 10), (1, 2)])
def test_small_sets_keep_one_of_each_category_to_train_on(counts):
    by_category = {str(c): [f"{i}.jpg" for i in range(count)] for c, count in enumerate(counts)}
    splits = split_off(by_category, ["valid", "test"])
    assert all(splits["train"][category] for category in by_category)
    assert any(splits["valid"].values())


# --- Known data sets ------------------------------------------------------------------


def test_ranks_depend_on_names_alone():
    files = [f"image_{number:05}.jpg" for number in range(1, 26)]
    paths = assign_splits({"1": files}, ["valid", "test"], "train")
    assert paths == assign_splits({"1": files[::-1]}, ["valid", "test"], "train")
    # Written down, so that no change of the code changes anybody's test split.
    assert sorted(file for file, path in paths.items() if path.startswith("test/1/")) == [
        "image_00005.jpg",
        "image_00009.jpg",
        "image_00010.jpg",
    ]
    few = assign_splits({"1": files[:4]}, ["valid", "test"], "train")
    assert few == {file: f"train/1/{file}" for file in files[:4]}


def test_photographs_stay_in_their_splits_under_other_names():
    by_category = {"a": [f"{i}.jpg" for i in range(40)], "b": ["1.jpg", "2.jpg"]}
    before = split_off(by_category, ["valid", "test"])
    assert split_off(by_category, ["valid", "test"], {}) == before
    valid = before["valid"]["a"][0]
    pinned = {"0.jpg": "test", "1.jpg": "train", valid: "train", "2.jpg": "elsewhere"}
    after = split_off({"a": by_category["a"]}, ["valid", "test"], pinned)
    assert "0.jpg" in after["test"]["a"]
    assert {"1.jpg", valid} <= {*after["train"]["a"]}
    others = {*by_category["a"]} - {*pinned}
    for split in ("train", "valid", "test"):
        assert others & {*after[split]["a"]} == others & {*before[split]["a"]}
