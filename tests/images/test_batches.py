"""Many photographs: their order, their batches, their digests."""

import os

import numpy as np
import pytest
from PIL import Image

from images import batches as image_batches
from images.batches import digest_each, load_batches, load_images, typical_side
from images.decode import Preprocessing, load_image
from running.errors import ImageError

SMALL = Preprocessing(50, 40, (127.0,) * 3, (128.0,) * 3)


@pytest.fixture
def paths(tmp_path):
    """Eleven pictures, each redder than the one before: 0, 20, .., 200."""
    made = [str(tmp_path / f"{i}.png") for i in range(11)]
    for i, path in enumerate(made):
        Image.new("RGB", (60 + 10 * i, 60), (i * 20, 0, 0)).save(path)
    return made


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_keep_the_order(paths, workers):
    batches = list(load_batches(paths, SMALL, workers, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert all(batch.dtype == np.uint8 and batch.shape[1:] == (40, 40, 3) for batch in batches)
    assert [image[0, 0, 0] for batch in batches for image in batch] == [i * 20 for i in range(11)]
    assert [*load_batches([], SMALL)] == []


def test_only_a_few_are_read_before_their_turn(paths, monkeypatch):
    read = []
    real = image_batches.load_image
    monkeypatch.setattr(
        image_batches,
        "load_image",
        lambda path, *rest: read.append(path) or real(path, *rest),
    )
    images = load_images(paths, SMALL, 2, 3)
    next(images)
    images.close()
    assert len(read) <= 3


def test_the_typical_side_is_the_median_short_side(paths, tmp_path):
    assert typical_side(paths) == 60
    for path in paths[:6]:
        Image.new("RGB", (20, 99)).save(path)
    (tmp_path / "10.png").write_bytes(b"hello")  # which is not counted
    assert typical_side(paths) == 20
    assert typical_side([str(tmp_path / "10.png")]) is None
    assert typical_side([]) is None


def test_digests_tell_files_apart_and_name_what_cannot_be_read(paths, tmp_path):
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "2.png").write_bytes(b"hello")
    os.unlink(tmp_path / "3.png")
    zero, one, two, three, *others = digest_each(paths, 2)
    assert isinstance(zero, bytes)
    assert zero == one
    assert len({zero, *others}) == 8
    assert isinstance(two, ImageError)
    assert "2.png is not an image" in str(two)
    assert isinstance(three, ImageError)
    assert "3.png: no such file" in str(three)


def test_what_vanishes_while_it_is_read_is_an_error_of_its_own(paths, monkeypatch):
    monkeypatch.setattr(image_batches, "load_image", lambda path, _: os.unlink(path))
    (result,) = digest_each(paths[:1], 1)
    assert isinstance(result, ImageError)
    assert "0.png cannot be read: No such file" in str(result)


def test_a_photograph_that_is_known_is_not_decoded_again(tmp_path, drawn, monkeypatch):
    paths = [str(path) for path in sorted((drawn / "train" / "1").iterdir())]
    (tmp_path / "x.jpg").write_bytes(b"no photograph")
    digests = [*digest_each(paths, 2)]
    decoded = []

    def load(path, preprocessing):
        decoded.append(path)
        return load_image(path, preprocessing)

    monkeypatch.setattr(image_batches, "load_image", load)
    odd = [str(tmp_path / "x.jpg"), str(tmp_path / "nowhere.jpg"), str(tmp_path)]
    *found, wrong, nowhere, folder = digest_each([*paths, *odd], 1, {*digests[1:]})
    assert found == digests
    assert decoded == [paths[0], *odd]
    for error, text in ((wrong, "not an image"), (nowhere, "no such file"), (folder, "is a fold")):
        assert text in str(error)
