"""data_report.csv: what is written, and what a user makes of it in a spreadsheet."""

import csv

import pytest

from checking.issues import (
    Issue,
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
