"""Drawn flowers: the same ones everywhere, whole or not at all."""

import json
import os

import numpy as np
import pytest
from conftest import file_size_limit

from images.decode import open_image
from images.drawn import FLOWERS, draw_data, draw_flower
from running.errors import RunError


def test_a_small_data_set_is_drawn(tmp_path):
    draw_data(tmp_path / "drawn", train=2, valid=1, test=0, kinds=2)
    files = sorted(path.relative_to(tmp_path / "drawn") for path in tmp_path.rglob("*.*"))
    assert [str(path) for path in files] == [
        "cat_to_name.json",
        *(f"train/{kind}/drawn_0000{number}.jpg" for kind in (1, 2) for number in (1, 2)),
        *(f"valid/{kind}/drawn_00001.jpg" for kind in (1, 2)),
    ]
    assert os.listdir(tmp_path) == ["drawn"]
    names = json.loads((tmp_path / "drawn" / "cat_to_name.json").read_text())
    assert names == {"1": "drawn daisy", "2": "drawn poppy"}
    with open_image(tmp_path / "drawn" / files[1]) as image:
        assert min(image.size) == 250
    # No two drawings are the same.
    contents = [(tmp_path / "drawn" / path).read_bytes() for path in files[1:]]
    assert len({*contents}) == 6


def test_the_same_seed_draws_the_same_flower():
    first, again, other = (
        np.asarray(draw_flower(FLOWERS[0], np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    with file_size_limit(1000), pytest.raises(RunError, match="drawn cannot be drawn: File too"):
        draw_data(tmp_path / "drawn", kinds=1)
    assert os.listdir(tmp_path) == []
