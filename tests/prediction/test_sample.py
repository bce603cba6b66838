"""What a person says of a sample, on a page or in a spreadsheet, is read as it was meant."""

import numpy as np
import pytest

from formats.schema import CalibrationSet, Prediction
from prediction.records import Guess, Record
from prediction.sample import (
    ANOTHER,
    Checked,
    accuracy_line,
    as_calibration_set,
    draw,
    label_answers,
    make_table,
    read_answers,
    require_drawn_from,
)
from running.errors import ImageError, InputError

CATEGORIES, NAMES = ["1", "2", "10"], ["rose", "=tulip", "lily"]


def record(file: str, best: int) -> Record:
    return Record(file, [Guess(NAMES[best], CATEGORIES[best], 0.5)], NAMES[best], None, True)


@pytest.fixture
def table(tmp_path):
    """A sample of five of a batch of nine, of which nothing is checked."""
    files = ["a.jpg", "=b.jpg", "c d.jpg", "é.jpg", "e.jpg"]
    records = [record(file, i % 3) for i, file in enumerate(files)]
    path = tmp_path / "sample.csv"
    path.write_bytes(make_table(records, 9))
    return path


def read(path):
    return label_answers(str(path), read_answers(str(path)), CATEGORIES, NAMES)


def fill(path, answers, separator=",", encoding="utf-8-sig"):
    first, *lines = path.read_text("utf-8-sig").splitlines()
    lines = [line + answer for line, answer in zip(lines, answers, strict=True)]
    text = "\n".join([first, *lines]).replace(",", separator)
    path.write_bytes(text.encode(encoding))
    return [(each.path, each.label) for each in read(path)]


@pytest.mark.parametrize(
    ("separator", "encoding"), [(",", "utf-8-sig"), (";", "utf-8"), ("\t", "utf-16")]
)
def test_a_table_comes_back_checked(table, separator, encoding):
    answers = ["y", "TRUE", "n", "lily", "Lily "]
    assert fill(table, answers, separator, encoding) == [
        ("a.jpg", 0),
        ("./=b.jpg", 1),
        ("c d.jpg", ANOTHER),
        ("é.jpg", 2),
        ("e.jpg", 2),
    ]


def test_what_is_a_category_is_not_taken_for_a_yes(table):
    assert [label for _, label in fill(table, ["1", "y", "10", "0", "2"])] == [0, 1, 2, ANOTHER, 1]


def test_the_first_part_of_a_sample_is_a_sample_too(table):
    assert len(fill(table, ["y", "n", "", "", ""])) == 2


def test_sorted_rows_are_read_in_the_order_of_the_draw(table):
    first, *lines = table.read_text("utf-8-sig").splitlines()
    lines = [line + "y" for line in lines]
    table.write_text("\n".join([first, *lines[::-1]]), "utf-8")
    assert read(table)[0].path == "a.jpg"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([""] * 5, "nothing is checked"),
        (["y", "", "y", "", ""], "number 2 has no answer, and number 3 has one"),
        (["y", "perhaps", "", "", ""], "number 2: 'perhaps' is neither y, n nor a name"),
    ],
)
def test_what_cannot_be_understood_is_one_sentence(table, answers, words):
    with pytest.raises(InputError, match=words):
        fill(table, answers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,answer\na.jpg,y\n", "is not a sample of --check_sample: it lacks the column "),
        (
            "number,of,file,answer,category,probability,correct\n1,9,a,b,1,9%,y\n3,9,a,b,1,9%,y\n",
            "the column number is not 1 to 2",
        ),
        (
            "number,of,file,answer,category,probability,correct\n1,9,a,oak,77,9%,y\n",
            "does not know '77'",
        ),
    ],
)
def test_another_file_is_one_sentence(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.csv")


def test_a_sample_is_of_one_batch():
    checked = [Checked("./a/1.jpg", 0), Checked("a/2.jpg", 0)]
    require_drawn_from("s.csv", checked, {"a/1.jpg", "a//2.jpg", "a/3.jpg"})
    with pytest.raises(InputError, match="1 of the 2 photographs of s.csv are not among .*a/2.jpg"):
        require_drawn_from("s.csv", checked, {"a/1.jpg"})


def test_a_draw_is_random_and_always_the_same():
    found = [(f"{i}.jpg", None) for i in range(1000)]
    drawn = [*draw(found)]
    assert sorted(drawn) == sorted(found) != drawn
    assert drawn == [*draw(found)]
    assert 400 < np.mean([int(file[:-4]) for file, _ in drawn[:100]]) < 600


def test_the_accuracy_of_the_batch_has_an_interval():
    checked = [Checked("a.jpg", i % 2) for i in range(100)]
    found = [Prediction(np.array([0.9, 0.1]), 0.5)] * 100
    sample = as_calibration_set("s.csv", checked, found)
    assert accuracy_line(sample) == (
        "of 100 checked photographs 50 are named correctly: 50.0% of the batch "
        "(95 % interval: 40.4% to 59.6%)"
    )
    with pytest.raises(InputError, match="s.csv: a.jpg is gone"):
        as_calibration_set("s.csv", checked[:1], [ImageError("a.jpg is gone")])
    assert isinstance(sample, CalibrationSet)
