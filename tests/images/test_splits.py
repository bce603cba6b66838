"""Splits that are split off by a hash: the same on every machine, and for photographs that move."""

import pytest

from images.folders import assign_splits, group_photographs, split_off


def test_a_photograph_stays_in_its_split_everywhere_and_when_others_come():
    names = {category: [f"{category}/{i}.jpg" for i in range(200)] for category in "ab"}
    splits = split_off(names, ["valid", "test"], {})
    for category, ours in names.items():
        assert sorted(name for each in splits.values() for name in each[category]) == sorted(ours)
    # Three standard deviations of 400 draws with probability 0.1 are 18.
    assert all(abs(sum(map(len, splits[name].values())) - 40) < 18 for name in ("valid", "test"))
    # Fixed names, fixed places: these must never change, on no machine.
    assert "a/0.jpg" in splits["train"]["a"]
    assert sorted(splits["valid"]["a"])[:3] == ["a/138.jpg", "a/148.jpg", "a/153.jpg"]
    more = {"a": [f"elsewhere/{i}.jpg" for i in range(250)], "c": ["0.jpg"]}
    for name, by_category in split_off(more, ["valid", "test"], {}).items():
        assert {f"elsewhere/{file[2:]}" for file in splits[name]["a"]} <= {*by_category["a"]}


@pytest.mark.parametrize("counts", [(1, 1, 3), (10, 10), (1, 2)])
def test_small_sets_keep_one_of_each_category_to_train_on(counts):
    by_category = {str(c): [f"{c}/{i}.jpg" for i in range(count)] for c, count in enumerate(counts)}
    splits = split_off(by_category, ["valid", "test"], {})
    assert all(splits["train"][category] for category in by_category)
    assert any(splits["valid"].values())


def test_photographs_stay_in_their_splits_under_other_names():
    names = [f"{i}.jpg" for i in range(40)]
    before = split_off({"a": names}, ["valid", "test"], {})
    valid = before["valid"]["a"][0]
    pinned = {"0.jpg": "test", "1.jpg": "train", valid: "train", "2.jpg": "elsewhere"}
    after = split_off({"a": names}, ["valid", "test"], pinned)
    assert "0.jpg" in after["test"]["a"]
    assert {"1.jpg", valid} <= {*after["train"]["a"]}
    others = {*names} - {*pinned}
    for split in ("train", "valid", "test"):
        assert others & {*after[split]["a"]} == others & {*before[split]["a"]}
    # A category whose photographs come from valid keeps one to learn from.
    splits = split_off({"a": names[:2]}, ["valid"], dict.fromkeys(names[:2], "valid"))
    assert [len(splits[name]["a"]) for name in ("train", "valid")] == [1, 1]


def test_a_network_is_not_tested_by_other_photographs_of_a_plant_that_it_learned_from():
    by_category = {c: [f"d/{c}/{p}/{i}.jpg" for p in range(40) for i in range(6)] for c in "ab"}
    copies = {
        "d/a/0/3.jpg": "d/b/7/1.jpg",
        "d/b/9/0.jpg": "d/b/7/2.jpg",
        "d/a/1/0.jpg": "d/a/0/0.jpg",
    }
    splits = split_off(by_category, ["valid", "test"], {}, copies)
    place = {p: name for name, found in splits.items() for each in found.values() for p in each}
    assert place.keys() == {path for paths in by_category.values() for path in paths}
    assert {*place.values()} == {"train", "valid", "test"}
    for path, split in place.items():
        assert split == place[f"{path[: path.rindex('/')]}/0.jpg"]
    together = ("a/0", "a/1", "b/7", "b/9")
    assert len({place[f"d/{folder}/0.jpg"] for folder in together}) == 1


def test_a_large_folder_of_a_category_is_divided_and_stays_so_when_another_comes():
    monday = [f"d/a/monday/{i}.jpg" for i in range(200)]
    other = [f"d/b/{i}.jpg" for i in range(20)]
    before = split_off({"a": monday, "b": other}, ["valid", "test"], {})
    after = split_off({"a": [*monday, "d/a/tuesday/x.jpg"], "b": other}, ["valid", "test"], {})
    for name in ("train", "valid", "test"):
        assert {*before[name]["a"]} == {*after[name]["a"]} - {"d/a/tuesday/x.jpg"}
        assert before[name]["a"]


def test_copies_in_two_categories_stay_together_also_where_one_needs_them_to_train():
    for i in range(60):  # whatever the hash says of them
        by_category = {"a": [f"d/a/{i}.jpg"], "b": [f"d/b/{k}.jpg" for k in range(i, i + 20)]}
        copies = {f"d/b/{i}.jpg": f"d/a/{i}.jpg"}
        splits = split_off(by_category, ["valid", "test"], {}, copies)
        assert f"d/a/{i}.jpg" in splits["train"]["a"]
        assert f"d/b/{i}.jpg" in splits["train"]["b"]


@pytest.mark.parametrize("counts", [(2, 3), (1, 2), (5, 1)])
def test_folders_stay_whole_in_small_sets_too(counts):
    by_category = {
        str(c): [f"{c}/all/{p}/{more}/{i}.jpg" for p in range(n) for more in "xy" for i in range(3)]
        for c, n in enumerate(counts)
    }
    splits = split_off(by_category, ["valid"], {})
    assert all(splits["train"][category] for category in by_category)
    [valid] = [paths for paths in splits["valid"].values() if paths]
    assert len(valid) % 3 == 0


def test_photographs_that_are_all_copies_can_still_be_divided():
    paths = [f"a/{i}.jpg" for i in range(4)]
    splits = split_off({"a": paths}, ["valid"], {}, dict.fromkeys(paths[1:], paths[0]))
    assert [len(splits[name]["a"]) for name in ("train", "valid")] == [3, 1]


def test_the_splits_of_a_known_data_set_depend_on_names_alone():
    files = [f"image_{number:05}.jpg" for number in range(1, 26)]
    paths = assign_splits({"1": files}, ["valid", "test"], "train")
    assert paths == assign_splits({"1": files[::-1]}, ["valid", "test"], "train")
    # Written down, so that no change of the code changes anybody's test split.
    test = [f"image_{number:05}.jpg" for number in (5, 9, 10)]
    assert sorted(file for file, path in paths.items() if path.startswith("test/1/")) == test
    few = assign_splits({"1": files[:4]}, ["valid", "test"], "train")
    assert few == {file: f"train/1/{file}" for file in files[:4]}


def test_copies_of_photographs_that_are_in_another_split_stay_together():
    """A test of its own has a copy of two photographs of train, which are copies by that alone."""
    by_category = {"a": [f"d/train/a/{i}.jpg" for i in range(40)], "b": ["d/train/b/0.jpg"]}
    copies = {f"d/train/a/{i}.jpg": "d/test/a/0.jpg" for i in range(20)}
    groups = group_photographs(by_category, copies)
    assert len({groups[f"d/train/a/{i}.jpg"] for i in range(20)}) == 1
    assert len({*groups.values()}) == 22
    splits = split_off(by_category, ["valid"], {}, copies)
    first = {f"d/train/a/{i}.jpg" for i in range(20)}
    assert sum(bool(first & {*split["a"]}) for split in splits.values()) == 1
