"""Drawn flowers: the same ones everywhere, whole or not at all."""

import json
import os

import pytest
from conftest import file_size_limit

from images.decode import open_image
from images.drawn import draw_data
from running.errors import RunError


def test_the_same_data_set_is_drawn_every_time(tmp_path):
    for name in ("drawn", "again"):
        draw_data(tmp_path / name, train=2, valid=1, test=0, kinds=2)
    paths = sorted((tmp_path / "drawn").rglob("*.*"))
    assert [str(path.relative_to(tmp_path / "drawn")) for path in paths] == [
        "cat_to_name.json",
        *(f"train/{kind}/drawn_0000{number}.jpg" for kind in (1, 2) for number in (1, 2)),
        *(f"valid/{kind}/drawn_00001.jpg" for kind in (1, 2)),
    ]
    assert json.loads(paths[0].read_text()) == {"1": "drawn daisy", "2": "drawn poppy"}
    with open_image(paths[1]) as image:
        assert min(image.size) == 250
    contents = [path.read_bytes() for path in paths[1:]]
    assert len({*contents}) == 6
    assert contents == [path.read_bytes() for path in sorted((tmp_path / "again").rglob("*.jpg"))]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    with file_size_limit(1000), pytest.raises(RunError, match="drawn cannot be written: File too"):
        draw_data(tmp_path / "drawn", kinds=1)
    assert os.listdir(tmp_path) == []
