"""data_report.csv: what is written, and what a user makes of it in a spreadsheet."""

import csv

import pytest

from checking.issues import (
    COLUMNS,
    Issue,
    has_answers,
    issue_lines,
    read_accepted_fixes,
    write_issues,
)
from running.errors import InputError

FOUND = [
    Issue("data/train/1/a.jpg", "train", "1", "wrong label", 0.98765, "move to 2", "looks, so"),
    Issue("data/valid/2/b.jpg", "valid", "2", "near duplicate", 1.0, "leave out", "twice"),
]


@pytest.fixture
def report(tmp_path):
    write_issues(tmp_path / "data_report.csv", "data", FOUND)
    return tmp_path / "data_report.csv"


def test_a_row_for_each_finding_with_nothing_accepted(report):
    with open(report, newline="", encoding="utf-8-sig") as file:
        header, first, second = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert first == [
        "train/1/a.jpg", "train", "1", "wrong label", "0.9877", "move to 2", "looks, so", ""
    ]  # fmt: skip
    assert second[0] == "valid/2/b.jpg"
    assert read_accepted_fixes(report) == {}


@pytest.mark.parametrize("word", ["yes", "Yes ", "x", "1", "TRUE"])
def test_what_is_accepted_is_read(report, word):
    lines = report.read_text().splitlines()
    report.write_text("\n".join([lines[0], lines[1] + word, lines[2] + "no"]))
    assert read_accepted_fixes(report) == {"train/1/a.jpg": "move to 2"}


def test_a_spreadsheets_semicolons_and_byte_order_mark_are_read(report):
    rows = [*csv.reader(report.read_text("utf-8-sig").splitlines())]
    rows[2][-1] = "yes"
    text = "\r\n".join(";".join(row) for row in rows)
    report.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_accepted_fixes(report) == {"valid/2/b.jpg": "leave out"}


def test_leaving_out_wins_over_moving(report):
    lines = report.read_text().splitlines()
    both = [lines[0], lines[1] + "yes", lines[1].replace("move to 2", "leave out") + "yes"]
    for order in (both, [both[0], both[2], both[1]]):
        report.write_text("\n".join(order))
        assert read_accepted_fixes(report) == {"train/1/a.jpg": "leave out"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("so\",", "so\",perhaps", "row 2: accept is 'perhaps'"),
        ("move to 2,\"looks, so\",", "move to ,\"looks, so\",yes", "row 2: the suggestion is"),
        ("move to 2,\"looks, so\",", "delete,\"looks, so\",yes", "row 2: the suggestion is"),
        ("accept", "acept", "has no column accept; --check_data"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_sentence(report, old, new, words):
    text = report.read_text()
    assert old in text
    report.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=words):
        read_accepted_fixes(report)


def test_what_begins_like_a_formula_is_no_formula(tmp_path):
    found = FOUND[0]._replace(file="data/=1+1/a.jpg", category="=1+1")
    write_issues(tmp_path / "r.csv", "data", [found])
    text = (tmp_path / "r.csv").read_text("utf-8-sig")
    assert "./=1+1/a.jpg,train,'=1+1," in text
    (tmp_path / "r.csv").write_text(text.replace('so",', 'so",yes'))
    assert read_accepted_fixes(tmp_path / "r.csv") == {"=1+1/a.jpg": "move to 2"}


def test_an_untouched_file_has_no_answers(report):
    assert not has_answers(report)
    assert not has_answers(report.with_name("nowhere.csv"))
    report.write_text("something else")
    assert has_answers(report)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_accepted_fixes(tmp_path / "nowhere.csv")


def test_the_worst_of_each_kind_are_printed():
    lines = [*issue_lines([*FOUND[:1] * 7, FOUND[1]])]
    assert lines[0] == "wrong label: 7"
    assert lines[1] == "  data/train/1/a.jpg: looks, so (0.988)"
    assert lines[6:8] == ["  and 2 more", "near duplicate: 1"]
    assert [*issue_lines([])] == ["nothing suspicious about the pictures"]
