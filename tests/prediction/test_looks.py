"""The app's pictures of each flower are typical ones of its own folder."""

import io

import numpy as np
import pytest
from conftest import small_info
from PIL import Image

from formats.onnx_file import ExportedNetwork
from formats.schema import Prediction
from images.decode import Preprocessing
from prediction.looks import SIDE, choose_pictures
from running.errors import InputError

PREPROCESSING = Preprocessing(16, 16, (0.0,) * 3, (1.0,) * 3)


def predict(image: np.ndarray) -> Prediction:
    """Red is the first category, the brighter the more typical; all else is the second."""
    red, green, _ = image.mean((0, 1)).tolist()
    shares = [0.9, 0.1, 0.0] if red > green else [0.1, 0.9, 0.0]
    return Prediction(np.array(shares, np.float32), max(red, green))


@pytest.fixture
def network() -> ExportedNetwork:
    return ExportedNetwork(predict, small_info(PREPROCESSING), True, "a colour")


def test_the_most_typical_photographs_of_a_category_are_shown(network, tmp_path):
    first, second, _ = network.info.categories
    for category, colours in (
        (first, [(90, 0, 0), (240, 0, 0), (0, 250, 0), (160, 0, 0)]),  # one is mislabelled
        (second, [(0, 200, 0)]),
    ):
        (tmp_path / "flowers" / category).mkdir(parents=True)
        for i, colour in enumerate(colours):
            image = Image.new("RGB", (300, 200), colour)
            image.save(tmp_path / "flowers" / category / f"{i}.png")
    (tmp_path / "flowers" / first / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    found = choose_pictures(tmp_path / "flowers", network)
    assert [len(each) for each in found] == [2, 1, 0]
    images = [Image.open(io.BytesIO(each)) for each in found[0]]
    assert [min(image.size) for image in images] == [SIDE, SIDE]
    assert [round(np.asarray(image)[..., 0].mean() / 10) for image in images] == [24, 16]


def test_a_folder_without_any_category_is_a_mistake(network, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="has no folder that is named as a category"):
        choose_pictures(tmp_path, network)
