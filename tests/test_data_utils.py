"""What reading every photograph of a data folder finds, and the names of its categories."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import data_utils
from images.folders import LEFT_OUT
from images.manifest import Manifest
from running.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes small photographs, all the same: put("train/1/a.jpg", ...)."""

    def put(*names):
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), "red").save(path, format="PNG")
        return tmp_path / "data"

    return put


def inspect(data_dir, names_file=None) -> data_utils.Inspected:
    data = data_utils.find_data(data_dir)
    return data_utils.inspect(data, names_file, [*data_utils.digest_each(data.paths, 1)])


def test_the_same_photograph_in_two_places_is_found_and_moves_with_its_folder(folder):
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
    before = data_utils.inspect(data, None, [*places.values()])

    def found(kind: str) -> list[str]:
        return [
            text.replace(f"{data.folder}/", "")
            for text in before.problems[f"photographs that {kind}"]
        ]

    split = ["valid/1/e.jpg is train/1/a.jpg", "valid/1/f.jpg is train/2/d.jpg"]
    assert found("appear in two splits") == split
    category = ["train/2/c.jpg is train/1/a.jpg", "valid/1/f.jpg is train/2/d.jpg"]
    assert found("appear in two categories") == category
    assert found("appear twice in a category") == ["train/1/b.jpg is train/1/a.jpg"]
    # Moved elsewhere they are the same photographs; with another one, or renamed, they are not.
    moved = data_utils.find_data(data.folder.rename(data.folder.with_name("moved")))
    again = data_utils.inspect(moved, None, [*places.values()])
    assert again.fingerprint == before.fingerprint
    other = data_utils.inspect(moved, None, [*places.values()][:-1] + [b"x"])
    (moved.folder / "valid/2/g.jpg").rename(moved.folder / "valid/2/h.jpg")
    renamed = data_utils.find_data(moved.folder)
    renamed = data_utils.inspect(renamed, None, [*places.values()])
    assert len({before.fingerprint, other.fingerprint, renamed.fingerprint}) == 3


def test_what_cannot_be_read_is_left_out(folder, tmp_path):
    names = ["train/1/a.jpg", "train/1/b.jpg", "train/2/a.jpg", "train/3/a.jpg", "valid/1/b.jpg"]
    data_dir = folder(*names)
    for name in ("train/1/a.jpg", "train/2/a.jpg"):
        (data_dir / name).write_bytes(b"hello")
    (tmp_path / "names.json").write_text('{"1": "daisy"}')
    found, inspected = data_utils.find_data(data_dir), inspect(data_dir, tmp_path / "names.json")
    assert inspected.data.categories == ["1", "3"]
    assert inspected.names == ["daisy", "3"]
    left = [os.path.relpath(path, data_dir) for path in inspected.data.paths]
    assert left == ["train/1/b.jpg", "train/3/a.jpg", "valid/1/b.jpg"]
    first, second = inspected.problems["photographs that cannot be read"]
    assert first.startswith(f"{data_dir}/train/1/a.jpg ")
    assert second.startswith(f"{data_dir}/train/2/a.jpg ")
    assert inspected.problems["categories without a name"] == ["3"]
    with pytest.raises(InputError, match="to train on of 2: .*train/2/a.jpg is not an"):
        data_utils.require_usable(found, inspected, 1)


def test_what_was_split_off_is_split_off_again_without_what_cannot_be_read(folder):
    data_dir = folder(*[f"{category}/{i}.jpg" for category in "ab" for i in range(4)])
    before = data_utils.find_data(data_dir).splits["valid"].paths
    for path in before:
        (data_dir / path).write_bytes(b"hello")
    after = inspect(data_dir).data.splits
    assert after["valid"].paths
    assert not {*after["valid"].paths} & {*before}
    assert sum(len(split.paths) for split in after.values()) == 8 - len(before)


def test_photographs_that_come_while_others_are_read_are_left_out(folder):
    data_dir = folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg")
    data = data_utils.find_data(data_dir)
    results = [*data_utils.digest_each(data.paths, 1)]
    manifest = Manifest.of(data.categories, data.splits, dict(zip(data.paths, results)))
    shutil.copy(data.paths[0], data_dir / "train" / "1" / "new.jpg")
    inspected = data_utils.inspect(data, None, results, manifest)
    assert inspected.data.paths == data.paths
    assert inspected.fingerprint == data_utils.inspect(data, None, results).fingerprint


def test_processes_need_a_photograph_each(folder):
    inspected = inspect(folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg"))
    data_utils.require_usable(inspected.data, inspected, 1)
    with pytest.raises(InputError, match="2 processes .* valid: 1"):
        data_utils.require_usable(inspected.data, inspected, 2)


def test_where_nothing_can_be_read_the_reason_comes_before_any_advice(folder):
    data_dir = folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg")
    for name in ("1", "2"):
        (data_dir / "train" / name / "a.jpg").write_text("version https://git-lfs.github.com/spec/")
    with pytest.raises(InputError, match="2 of the 3 .* cannot be read.*: .* a Git LFS pointer"):
        inspect(data_dir)
    shutil.copy(data_dir / "valid/1/b.jpg", data_dir / "train/1/c.jpg")
    with pytest.raises(InputError, match="2 of the 4 photographs .* is a Git LFS pointer"):
        inspect(data_dir)


def test_a_split_that_vanishes_while_it_is_read_is_not_replaced(folder):
    names = [f"{split}/{c}/{i}.jpg" for split in ("train", "valid") for c in "12" for i in range(5)]
    data_dir = folder(*names)
    data = data_utils.find_data(data_dir)
    shutil.rmtree(data_dir / "valid")
    with pytest.raises(InputError, match="has lost its valid while it was read"):
        data_utils.inspect(data, None, [*data_utils.digest_each(data.paths, 1)])


def test_a_names_file_that_has_gone_is_not_taken_for_none(folder):
    data_dir = folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg")
    (data_dir / "cat_to_name.json").symlink_to("/nowhere")
    with pytest.raises(InputError, match="cat_to_name.json cannot be read"):
        data_utils.find_names(["1", "2"], data_dir)
    (data_dir / "names.json").write_text('{"1": " "}')
    with pytest.raises(InputError, match="must map categories to names"):
        data_utils.find_names(["1", "2"], data_dir, data_dir / "names.json")


def test_equal_files_in_a_folder_without_splits_stay_together(folder):
    names = [f"{category}/{i}.jpg" for category in "ab" for i in range(30)]
    data_dir = folder(*names)
    rng = np.random.default_rng(0)
    pictures = rng.integers(255, size=(30, 20, 20, 3), dtype=np.uint8)
    for i, name in enumerate(names):  # each twice, under another name in the same category
        Image.fromarray(pictures[i // 2]).save(data_dir / name, format="PNG")
    splits = inspect(data_dir).data.splits
    place = {path: name for name, split in splits.items() for path in split.paths}
    assert len(place) == 60 and {*place.values()} == {"train", "valid", "test"}
    for i in range(0, 60, 2):
        assert place[f"{data_dir}/{names[i]}"] == place[f"{data_dir}/{names[i + 1]}"]


def test_a_name_with_an_accent_is_the_same_in_either_spelling(folder):
    composed, parted = "ros\u00e9", "rose\u0301"
    data_dir = folder(f"train/{composed}/a.jpg", "train/b/a.jpg", f"valid/{parted}/b.jpg")
    (data_dir / "cat_to_name.json").write_text(json.dumps({parted: "wine"}))
    data = data_utils.find_data(data_dir)
    assert data.categories == ["b", composed]
    assert data.splits["valid"].labels.tolist() == [1]
    assert data.splits["valid"].paths == [f"{data_dir}/valid/{parted}/b.jpg"]
    assert data_utils.find_names(data.categories, data_dir)[0] == ["b", "wine"]


def test_what_lies_beside_the_splits_is_counted_and_named(folder):
    data_dir = folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg", "tulip/c.jpg", "d.jpg")
    (data_dir / "notes").mkdir()
    assert data_utils.find_data(data_dir).problems[LEFT_OUT] == [
        f"{data_dir}/d.jpg is in no category's folder",
        f"{data_dir}/tulip, with a photograph, is in none of the splits' folders",
    ]


def test_a_category_that_is_called_as_a_split_is_named_in_the_refusal(folder):
    data_dir = folder("rose/a.jpg", "tulip/a.jpg", "train/a.jpg")
    with pytest.raises(InputError, match="data/train is taken for the folder of a split.*rose"):
        data_utils.find_data(data_dir)
    os.rename(data_dir / "train", data_dir / "test")
    with pytest.raises(InputError, match="has no folder train beside test"):
        data_utils.find_data(data_dir)


@pytest.mark.parametrize("name", ["unknown", "Review", "unreadable"])
def test_a_category_that_predict_py_could_not_answer_is_warned_of(folder, name):
    inspected = inspect(folder(f"train/{name}/a.jpg", "train/b/b.jpg", f"valid/{name}/b.jpg"))
    [text] = inspected.problems["categories named like an answer of predict.py"]
    assert text.startswith(f"{name} is what predict.py answers")


def test_the_table_and_the_warnings_name_what_is_wrong(folder):
    data_dir = folder("train/1/a.jpg", "train/1/b.jpg", "train/2/a.jpg", "valid/1/c.jpg")
    inspected = inspect(data_dir)
    lines = [*data_utils.check_lines(inspected)]
    assert lines[:3] == [
        "split  photographs  categories  in each",
        "train            3           2  1 to 2",
        "valid            1           1  0 to 1",
    ]
    assert "names: the folders' names" in lines
    assert "     1  photographs that appear in two splits" in lines
    assert f"  {data_dir}/valid/1/c.jpg is {data_dir}/train/1/a.jpg" in lines
    assert "     0  photographs that cannot be read" in lines
    many = {**inspected.problems, "many": [*"abcde"]}
    warnings = [*data_utils.problem_lines(many, 3)]
    assert "warning: categories that are not in all splits: 1" in warnings
    assert "  valid has no photographs of 2" in warnings
    assert warnings[-3:] == ["  b", "  c", "  and 2 more, which --check_data lists"]
    first, last = data_utils.describe_data(inspected.data)
    assert first.startswith(f"{data_dir}: 3 train, 1 valid photographs; 2 categories of 1 to 2 in")
    assert "no test split" in last


def test_categories_keep_the_names_of_the_checkpoint(folder):
    inspected = inspect(folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/b.jpg"))
    for known, names, sources in (
        ({"9": "aster"}, ["1", "2"], "the folders' names"),
        ({"1": "rose"}, ["rose", "2"], "checkpoint.pth, then the folders' names"),
        ({"1": "rose", "2": "iris"}, ["rose", "iris"], "checkpoint.pth"),
    ):
        found = data_utils.keep_names(inspected, known, "checkpoint.pth")
        assert found == (names, f"names: {sources}")
    (inspected.data.folder / "cat_to_name.json").write_text('{"1": "daisy"}')
    inspected = inspect(inspected.data.folder)
    names, line = data_utils.keep_names(inspected, {"1": "rose"}, "checkpoint.pth")
    assert names == ["rose", "2"]
    assert f"--category_names {inspected.names_source}" in line


def test_names_come_from_the_option_then_the_folder_then_the_project(tmp_path):
    oxford = [str(i) for i in range(1, 103)]
    names, source, unnamed = data_utils.find_names(oxford, tmp_path)
    assert (names[20], names[77]) == ("fire lily", "lotus")
    assert "Oxford" in source
    assert unnamed == []
    # A stranger's folders 1 to 10 are no flowers of Oxford.
    assert data_utils.find_names(oxford[:10], tmp_path) == (oxford[:10], "the folders' names", [])
    (tmp_path / "cat_to_name.json").write_text('{"1": "own"}')
    names, _, unnamed = data_utils.find_names(oxford, tmp_path)
    assert names[:2] == ["own", "2"]
    assert unnamed == oxford[1:]
    (tmp_path / "given.json").write_bytes(b'\xef\xbb\xbf{"2": "given"}')  # as Notepad may write it
    assert data_utils.find_names(oxford, tmp_path, tmp_path / "given.json")[0][:2] == ["1", "given"]


@pytest.mark.parametrize(
    "content",
    [b"[1, 2]", b'{"1": "a\\nb"}', b'{"1": 2}', b"{", b"\xff\xfe", b"[" * 100_000],
    ids=["list", "two lines", "number", "cut off", "bytes", "deep"],
)
def test_a_names_file_of_another_form_is_refused(tmp_path, content):
    (tmp_path / "names.json").write_bytes(content)
    with pytest.raises(InputError, match="names.json"):
        data_utils.load_names(tmp_path / "names.json")
