"""A heap of photographs, its labels.csv, and the folder that is made of it."""

from pathlib import Path

import pytest
from PIL import Image

from labelling.answers import Answers, apply_labels, find_heap, is_labels, spell
from running.errors import InputError, RunError


def fill(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / file)
    return folder


def fail(path: Path) -> None:
    raise RunError(f"{path} cannot be written")


@pytest.mark.parametrize(
    ("files", "free", "known"),
    [
        (["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"], {}),
        (["2024/a.jpg", "2025/b.jpg"], ["2024/a.jpg", "2025/b.jpg"], {}),  # a camera's folders
        (["a.jpg", "rose/b.jpg"], ["a.jpg"], {"rose/b.jpg": "rose"}),
        (["unlabelled/x/a.jpg", "rose/b.jpg"], ["unlabelled/x/a.jpg"], {"rose/b.jpg": "rose"}),
        (
            ["train/rose/b.jpg", "valid/rose/c.jpg", "a.jpg"],
            ["a.jpg"],
            {"train/rose/b.jpg": "rose"},
        ),
    ],
)
def test_what_has_no_category_is_to_be_labelled(tmp_path, files, free, known):
    heap = find_heap(fill(tmp_path, *files))
    assert heap.files == [*free, *known]
    assert heap.known == known


@pytest.mark.parametrize("files", [[], ["train/rose/b.jpg", "valid/rose/c.jpg"]])
def test_a_folder_without_a_heap_is_refused(tmp_path, files):
    with pytest.raises(InputError, match="no photographs to label"):
        find_heap(fill(tmp_path, *files))
    with pytest.raises(InputError, match="does not exist"):
        find_heap(tmp_path / "nowhere")


def test_answers_are_kept_and_edits_are_seen(tmp_path):
    heap = find_heap(fill(tmp_path, "a.jpg", "b.jpg", "=c.jpg"))
    answers = Answers(heap)
    answers.give(["a.jpg", "=c.jpg"], "rose", 2)
    answers.give(["b.jpg"], "")
    assert Answers(heap).rows == {"a.jpg": ("rose", 2), "=c.jpg": ("rose", 2), "b.jpg": ("", 3)}
    text = answers.path.read_text(encoding="utf-8-sig")
    assert "./=c.jpg" in text  # a spreadsheet would compute it
    answers.path.write_text(text.replace("a.jpg,rose", "a.jpg,tulip"))
    answers.give(["b.jpg"], "iris")
    assert answers.rows["a.jpg"][0] == "tulip"
    answers.take_back(["b.jpg"])
    assert {*Answers(heap).rows} == {"a.jpg", "=c.jpg"}


def test_what_cannot_be_read_or_written_loses_nothing(tmp_path, monkeypatch):
    heap = find_heap(fill(tmp_path, "a.jpg", "b.jpg"))
    answers = Answers(heap)
    answers.give(["a.jpg"], "rose")
    good = answers.path.read_bytes()
    answers.path.write_bytes(good.replace(b"name", b"flower"))
    for _ in range(2):  # also when it is asked again
        with pytest.raises(InputError, match="lacks the column name"):
            answers.give(["b.jpg"], "iris")
    assert b"a.jpg,rose" in answers.path.read_bytes()
    answers.path.write_bytes(good)
    monkeypatch.setattr("labelling.answers.atomic_write", fail)
    with pytest.raises(RunError):
        answers.give(["b.jpg"], "iris")
    assert {*answers.rows} == {"a.jpg"}  # so that the question stays open


def test_another_table_is_not_overwritten(tmp_path):
    heap = find_heap(fill(tmp_path, "a.jpg"))
    (tmp_path / "labels.csv").write_text("id,price\n1,2\n")
    with pytest.raises(InputError, match="is not a labels"):
        Answers(heap)
    assert not is_labels(tmp_path / "labels.csv")


def test_one_name_has_one_spelling():
    assert spell(" Red   Tulip ", {"red tulip", "rose"}) == "red tulip"
    assert spell("Iris", {"rose"}) == "Iris"


def test_answers_become_folders_of_links(tmp_path):
    folder = fill(tmp_path / "heap", "a.jpg", "x/a.jpg", "b.jpg", "unlabelled/c.jpg")
    heap = find_heap(folder)
    answers = Answers(heap)
    for names in ("a.jpg", "b.jpg"):
        answers.give([names], "a/b")
    answers.give(["unlabelled/c.jpg"], "")
    line = apply_labels(heap, answers.path, tmp_path / "new")
    assert line.endswith("2 categories, 3 photographs linked")
    made = sorted(
        path.relative_to(tmp_path / "new").as_posix() for path in tmp_path.glob("new/*/*")
    )
    assert made == ["a_b/a.jpg", "a_b/b.jpg", "x/a.jpg"]
    for target, message in ((tmp_path / "new", "already"), (folder / "new", "within")):
        with pytest.raises(InputError, match=message):
            apply_labels(heap, answers.path, target)
    (folder / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of the 3 .* such as b.jpg"):
        apply_labels(find_heap(folder), answers.path, tmp_path / "other")
