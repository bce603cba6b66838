"""Many photographs: their order, their batches, their digests."""

import hashlib
import os
import re

import numpy as np
import pytest
from PIL import Image

from images.decode import Preprocessing, digest_each, load_batches, typical_side
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
def test_batches_keep_the_order_and_end_at_what_cannot_be_read(paths, workers):
    batches = list(load_batches(paths, SMALL, workers, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert all(batch.dtype == np.uint8 and batch.shape[1:] == (40, 40, 3) for batch in batches)
    assert [image[0, 0, 0] for batch in batches for image in batch] == [i * 20 for i in range(11)]
    assert [*load_batches([], SMALL)] == []
    os.unlink(paths[5])
    with pytest.raises(ImageError, match=r"5\.png"):
        [*load_batches(paths, SMALL, workers, 4)]


def test_the_typical_side_is_the_median_short_side(paths):
    assert typical_side(paths) == 60
    for path in paths[:6]:
        Image.new("RGB", (20, 99)).save(path)
    os.unlink(paths[10])  # which is not counted
    assert typical_side(paths) == 20
    assert typical_side(paths[10:]) is None


def test_digests_tell_files_apart_and_name_what_cannot_be_read(paths, tmp_path):
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "2.png").write_bytes(b"hello")
    os.unlink(paths[3])
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    odd = [str(tmp_path / name) for name in ("loop.jpg", "pipe.jpg", "")]
    for known in ((), digest_each(paths[4:], 1)):
        zero, one, two, three, *others, loop, pipe, folder = digest_each(paths + odd, 2, {*known})
        assert zero == one
        assert len({zero, *others}) == 8
        words = ["2.png is not an image", "3.png: no such", "loop.jpg", "is a pipe", "Is a dir"]
        for error, text in zip((two, three, loop, pipe, folder), words):
            assert isinstance(error, ImageError)
            assert re.search(text, str(error))


def test_a_photograph_that_is_known_is_not_decoded_again(tmp_path, paths):
    path = tmp_path / "0.png"
    path.write_bytes(path.read_bytes()[:-30])  # only decoding finds out
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    assert [*digest_each([str(path)], 1, {digest})] == [digest]
    (error,) = digest_each([str(path)], 1, {b"another"})
    assert isinstance(error, ImageError)
