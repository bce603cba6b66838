"""A corrected folder has what the user accepted in data_report.csv; the old one is as it was."""

import csv
import os
from pathlib import Path

import pytest

from checking.issues import Issue, apply_fixes, read_accepted, write_csv
from data_utils import find_data
from images.folders import new_folder
from running.errors import InputError


@pytest.fixture
def report(tmp_path):
    place = "data/=1+1/a.jpg", "train", "=1+1"
    issue = Issue(*place, "suspicious label", 0.98765, "move to 2", "looks, so")
    write_csv(tmp_path / "data_report.csv", "data", [issue, issue._replace(path="data/1/b.jpg")])
    return tmp_path / "data_report.csv"


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_what_the_user_accepts_in_a_spreadsheet_is_read(report, delimiter):
    with open(report, newline="", encoding="utf-8-sig") as file:
        header, wrong, odd = csv.reader(file)
    # What begins like a formula is none.
    assert wrong[:5] == ["./=1+1/a.jpg", "train", "'=1+1", "suspicious label", "99"]
    rows = [header, [*wrong[:-1], "Yes "], [*odd[:-1], "no"]]
    with open(report, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    assert read_accepted(report) == {"=1+1/a.jpg": "move to 2"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"\x89PNG\r\n\x1a\n\0\xff", "is not a data_report.csv"),
        (b"file,suggestion,accept\n1/a.jpg,leave out,perhaps", "row 2: accept is 'perhaps'"),
        (b"file,accept\n1/a.jpg,yes", "it lacks the column suggestion"),
        (
            b"file,suggestion,accept\n1/a.jpg,leave out,yes\n1/a.jpg,move to 2,yes",
            "'leave out' and 'move to 2' are both accepted for 1/a.jpg",
        ),
    ],
)
def test_another_file_is_one_sentence(report, content, words):
    report.unlink() if content is None else report.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_accepted(report)


SAVED = "sep=\t\r\nFile\tNOTE\tSuggestion\tAccept\r\n./1/a.jpg\tx, y\tmove to rose \t{}\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("answer", ["ja", "WAHR", "✓", "1,0", "Sí", "Yes"])
def test_what_spreadsheets_of_other_countries_save_is_read(report, encoding, answer):
    report.write_bytes(SAVED.format(answer).encode(encoding))
    assert read_accepted(report) == {"1/a.jpg": "move to rose"}
    report.write_bytes(SAVED.format("nein").encode(encoding))
    assert read_accepted(report) == {}


def test_answers_are_carried_over_and_what_the_user_wrote_is_backed_up(report):
    first = report.read_bytes()
    issue = Issue("data/1/b.jpg", "train", "1", "blank", 1.0, "leave out", "all alike")
    write_csv(report, "data", [issue])  # nobody had written into the first one
    backup = report.with_name("data_report.previous.csv")
    assert not backup.exists()
    answered = report.read_text("utf-8-sig").replace("all alike,", "all alike,no")
    report.write_text(answered, "utf-8-sig")
    other = issue._replace(path="data/2/c.jpg")
    write_csv(report, "data", [issue._replace(suggestion="move to 2"), other])
    [kept, new] = report.read_text("utf-8-sig").splitlines()[1:]
    assert kept.endswith(",leave out,all alike,no") and new.endswith(",all alike,")
    assert backup.read_text("utf-8-sig") == answered
    # What the user changed, and what is no longer suspected, stays as long as it exists.
    (report.parent / "data/1").mkdir(parents=True)
    (report.parent / "data/1/b.jpg").touch()
    report.write_text(answered.replace("leave out", "move to 5"), "utf-8-sig")
    for _ in range(3):
        write_csv(report, report.parent / "data", [])
        assert report.read_text("utf-8-sig").splitlines()[1:] == [
            "1/b.jpg,train,1,blank,100,move to 5,all alike,no"
        ]
    note = first.decode("utf-8-sig").replace("accept", "accept,mine")
    report.write_text(note)
    report.with_name("mine.csv").write_text(note)
    write_csv(report, "data", [])
    assert backup.read_bytes() == report.with_name("mine.csv").read_bytes()


# --- The new folder -------------------------------------------------------------------


@pytest.fixture
def data(put, tmp_path):
    put(*(f"old/{s}/{c}/{n}.jpg" for s in ("train", "valid") for c in "12" for n in "ab"))
    put("old/train/1/more/c.jpg")
    (tmp_path / "old" / "cat_to_name.json").write_text('{"1": "rose"}')
    return tmp_path / "old"


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def apply(data: Path, target: Path | str, *rows: str) -> str:
    report = data.with_name("accepted.csv")
    rows = [row if row.count(",") > 1 else f"{row},yes" for row in rows]
    report.write_text("\n".join(["file,suggestion,accept", *rows]))
    try:
        return apply_fixes(find_data(data), ["rose", "lily"], report, target)
    finally:
        report.unlink()


def test_photographs_are_moved_and_left_out(data, tmp_path):
    before = tree(data)
    moved = "train/1/a.jpg,move to 2", "train/1/more/c.jpg,move to 2"  # there is 2/a.jpg, too
    out = "valid/2/b.jpg,leave out", "./valid/2/b.jpg,leave out"
    said = apply(data, tmp_path / "new", *moved, *out)
    assert said == f"{tmp_path}/new: 8 linked, 2 of these moved, 1 left out"
    assert tree(data) == before
    assert sorted(path for path in tree(tmp_path / "new") if path.endswith("g")) == [
        "train/1/b.jpg", "train/2/a.jpg", "train/2/a_1.jpg", "train/2/b.jpg",
        "train/2/more/c.jpg", "valid/1/a.jpg", "valid/1/b.jpg", "valid/2/a.jpg",
    ]  # fmt: skip
    moved = {os.path.realpath(tmp_path / "new/train/2" / name) for name in ("a.jpg", "a_1.jpg")}
    assert moved == {f"{data}/train/1/a.jpg", f"{data}/train/2/a.jpg"}
    assert (tmp_path / "new" / "cat_to_name.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new"}


def test_a_photograph_is_moved_to_the_category_that_the_user_names(data, tmp_path):
    rows = "train/1/a.jpg,leave out,Lily", "train/1/b.jpg,move to 7,no", "train/2/a.jpg,leave out,1"
    said = apply(data, tmp_path / "new", *rows[:2])
    assert said == f"{tmp_path}/new: 9 linked, 1 of these moved"
    assert (tmp_path / "new/train/2/a_1.jpg").exists()
    said = apply(data, tmp_path / "newer", *rows[2:])  # as a spreadsheet writes a yes
    assert said == f"{tmp_path}/newer: 8 linked, 1 left out"
    report = data.with_name("twice.csv")
    report.write_text("file,suggestion,accept\ntrain/1/a.jpg,leave out,rose")
    assert read_accepted(report, {"1": "lily", "2": "Rose"}) == {"train/1/a.jpg": "move to 2"}
    report.write_text("file,suggestion,accept\ntrain/1/a.jpg,move to 2,Leave out")
    assert read_accepted(report, {"1": "lily", "2": "Rose"}) == {"train/1/a.jpg": "leave out"}
    report.write_text("file,suggestion,accept\ntrain/1/a.jpg,leave out,rose")
    with pytest.raises(InputError, match="accept is 'rose'"):  # which of the two?
        read_accepted(report, {"1": "rose", "2": "Rose"})
    with pytest.raises(InputError, match="row 2: accept is 'tulip'; write yes, no, the name"):
        apply(data, tmp_path / "newest", "train/1/a.jpg,leave out,tulip")


def test_a_folder_of_categories_alone_is_corrected(put, tmp_path):
    put(*(f"old/{c}/{n}.jpg" for c in "12" for n in "abcdef"))
    apply(tmp_path / "old", tmp_path / "new", "1/a.jpg,move to 2")
    assert [len(os.listdir(tmp_path / "new" / category)) for category in "12"] == [5, 7]


def test_where_there_are_no_links_photographs_are_copied(data, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    said = apply(data, tmp_path / "new", "train/2/b.jpg,leave out")
    assert said == f"{tmp_path}/new: 8 copied, 1 left out"


def test_what_a_killed_one_left_is_removed_and_two_at_once_are_one_sentence(data, tmp_path):
    left = tmp_path / ".new.abc.tmp" / "new"
    left.mkdir(parents=True)
    with new_folder(tmp_path / "new"):
        assert not left.exists()
        with pytest.raises(InputError, match="another command is making .*/new"):
            apply(data, tmp_path / "new", "train/1/a.jpg,leave out")
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new"}


def test_a_category_whose_name_ends_with_a_space_takes_photographs(put, tmp_path):
    put(*(f"old/{c}/{n}.jpg" for c in ("rose ", "b") for n in "abcdef"))
    apply(tmp_path / "old", tmp_path / "new", "b/a.jpg,move to rose ")
    assert len(os.listdir(tmp_path / "new" / "rose ")) == 7


def test_photographs_that_are_not_taken_over_are_counted(data, put, tmp_path):
    put("old/valid/3/a.jpg")
    said = apply(data, tmp_path / "new", "train/1/a.jpg,leave out")
    assert said.endswith("8 linked, 1 left out; not taken over: 1 category that train lacks")


@pytest.mark.parametrize(
    ("row", "target", "words"),
    [
        (",leave out,no", "new", "nothing is accepted"),
        ("train/9/a.jpg,leave out", "new", "has no train/9/a.jpg"),
        ("train/1/a.jpg,move to 7", "new", "train/1/a.jpg: 'move to 7'"),
        ("train/1/a.jpg,delete", "new", "'delete' is neither"),
        ("train/1/a.jpg,leave out", "old", "is there already"),
        ("train/1/a.jpg,leave out", "linked/within", "is within"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(data, tmp_path, row, target, words):
    (tmp_path / "linked").symlink_to(data)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=words):
        apply(data, tmp_path / target, row)
    assert tree(tmp_path).keys() == before.keys()
