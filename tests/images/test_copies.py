"""Copies of a photograph are found, so that no split has one of another's."""

import numpy as np
from PIL import Image

from images.copies import group_copies, group_pairs


def scene(seed: int) -> Image.Image:
    """A picture of soft blobs of colour, unlike any other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)


def test_copies_share_a_number_whatever_their_size_and_quality(tmp_path):
    for i in range(12):
        scene(i).save(tmp_path / f"{i:02}.png")
    scene(3).resize((150, 150)).save(tmp_path / "12.jpg", quality=40)
    scene(3).point(lambda value: value // 2).save(tmp_path / "13.png")
    (tmp_path / "14.jpg").write_text("no photograph")
    (tmp_path / "15.jpg").write_text("nor this")
    groups = group_copies([str(path) for path in sorted(tmp_path.iterdir())])
    assert groups.tolist() == [*range(12), 3, 3, 14, 15]
    assert group_copies([]).tolist() == []


def test_pictures_that_all_look_alike_are_no_copies(tmp_path):
    """As of objects on white: no split would be left for them."""
    paths = [str(tmp_path / f"{i}.png") for i in range(30)]
    for i, path in enumerate(paths):
        picture = Image.new("RGB", (100, 100), "white")
        picture.paste((i, 0, 0), (40, 40, 60, 60))
        picture.save(path)
    assert group_copies(paths).tolist() == [*range(30)]


def test_pairs_are_joined_but_for_long_chains():
    pairs = np.array([(0, 1), (5, 1), (2, 3), (3, 4), (7, 8), (8, 9), (9, 6)])
    assert group_pairs(pairs, 10, 3).tolist() == [0, 0, 2, 2, 2, 0, 6, 7, 8, 9]
