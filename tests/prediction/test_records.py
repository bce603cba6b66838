"""Records, byte for byte."""

import csv
import io
import json
import os

import numpy as np
import pytest
from conftest import small_info

from formats.schema import QUANTILES, ROUNDING, Calibration, Prediction
from prediction.answers import Answers
from prediction.records import CSV_COLUMNS, RECORD_FORMATS, csv_row, format_alone
from running.errors import ImageError

CATEGORIES, NAMES = ["1", "2", "21"], ["daisy", "common poppy", 'fire "lily"']
PREDICTION = Prediction(np.array([0.25, 0.7, 0.05], np.float32), 0.5)


def record(file="a.jpg", result=PREDICTION, top_k=2, lowest=-1.0):
    calibration = Calibration(1.0, np.full(QUANTILES, lowest + ROUNDING))
    info = small_info(None, categories=CATEGORIES, names=NAMES, calibration=calibration)
    return Answers(info, NAMES, top_k, keep=0.95).record(file, result)


def test_text():
    alone = " 70.00%  common poppy  2\n 25.00%  daisy         1\n"
    assert format_alone(record()) == alone
    assert format_alone(record(lowest=1)) == "unknown\n" + alone
    write = RECORD_FORMATS["text"]
    assert write(record("\x1b[31m.jpg")) == "\\x1b[31m.jpg\n" + alone
    error = record(result=ImageError("\x1b is no image"))
    assert write(error) == "a.jpg\n  \\x1b is no image\n"
    with pytest.raises(ImageError):
        format_alone(error)


def test_csv():
    write = RECORD_FORMATS["csv"]
    assert write(record("a, b.jpg")) == (
        '"a, b.jpg",common poppy,1,common poppy,2,0.700000,\n'
        '"a, b.jpg",common poppy,2,daisy,1,0.250000,\n'
    )
    assert write(record(top_k=1, lowest=1)) == "a.jpg,unknown,1,common poppy,2,0.700000,\n"
    assert write(record(result=ImageError("no image"))) == "a.jpg,,,,,,no image\n"


def test_jsonl():
    write = RECORD_FORMATS["jsonl"]
    poppy = '"label": "common poppy", "category": "2", "probability": 0.700000'
    daisy = '"label": "daisy", "category": "1", "probability": 0.250000'
    top = f'"top": [{{{poppy}}}, {{{daisy}}}]'
    assert write(record()) == f'{{"file": "a.jpg", {poppy}, {top}}}\n'
    unknown = '"label": "unknown", "category": null, "probability": null'
    assert write(record(lowest=1)) == f'{{"file": "a.jpg", {unknown}, {top}}}\n'
    error = record(result=ImageError("no image"))
    assert write(error) == '{"file": "a.jpg", "error": "no image"}\n'


ODD_NAMES = [
    b"with space.jpg",
    b'it\'s "quoted", with comma.jpg',
    b"line\nbreak.jpg",
    b"carriage\rreturn.jpg",
    b"no utf-8 \xff\xfe.jpg",
    "Blüte.jpg".encode(),
    b" .jpg",
    b"back\\slash.jpg",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back(name):
    odd = record(os.fsdecode(name), top_k=3)
    line = RECORD_FORMATS["jsonl"](odd)
    assert line.isascii()
    assert os.fsencode(json.loads(line)["file"]) == name
    assert [guess["label"] for guess in json.loads(line)["top"]] == [
        "common poppy",
        "daisy",
        'fire "lily"',
    ]
    text = csv_row(CSV_COLUMNS) + RECORD_FORMATS["csv"](odd)
    rows = [*csv.DictReader(io.StringIO(text, newline=""))]
    assert [os.fsencode(row["file"]) for row in rows] == [name] * 3
    assert rows[2]["label"] == 'fire "lily"'
