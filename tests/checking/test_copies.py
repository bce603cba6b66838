"""Near duplicates are found among pictures that are alike, and nothing else is."""

import numpy as np
import pytest
from PIL import Image

from checking.copies import (
    SIDE,
    Copies,
    find_copies,
    find_limit,
)


def scene(seed: int, side: int = 128) -> Image.Image:
    """A picture of soft blobs of colour, unlike any other."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def shrink(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BOX)) for p in pictures])


def no_neighbours(count: int) -> np.ndarray:
    """Features that say nothing: the neighbours are some photographs."""
    return (np.arange(count)[:, None] + np.arange(1, 3)) % count


CHANGES = {
    "same": lambda p: p,
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "half the size": lambda p: p.resize((64, 64)),
    "a corner of 85 %": lambda p: p.crop((0, 19, 109, 128)),
    "the middle of 90 %": lambda p: p.crop((6, 6, 121, 121)),
    "brighter": lambda p: p.point(lambda v: min(255, v // 2 + 100)),
    "mirrored corner": lambda p: p.crop((19, 0, 128, 109)).transpose(0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change):
    pictures = [scene(seed) for seed in range(30)]
    pictures.append(CHANGES[change](pictures[7]))
    copies = find_copies(shrink(pictures), no_neighbours(31), np.arange(31) % 3)
    assert copies.pairs.tolist() == [[7, 30]]
    assert copies.alike[0] > copies.limit


def test_plain_pictures_are_not_alike_for_their_ground():
    """Pictures of one colour have nothing that could be compared."""
    plain = np.full((4, SIDE, SIDE, 3), 200, np.uint8)
    copies = find_copies(plain, no_neighbours(4), np.arange(4))
    assert len(copies.pairs) == 0


def test_copies_of_copies_are_one_group():
    copies = Copies(np.array([[0, 3], [3, 5], [1, 2]]), np.ones(3), 0.9)
    groups = copies.groups(6)
    assert groups[0] == groups[3] == groups[5] != groups[1] == groups[2]
    assert len({*groups.tolist()}) == 3


def test_the_limit_is_where_a_false_pair_in_two_thousand_is_expected():
    """On correlations whose tail is known: t = -ln(1 - correlation) is exponential of rate 2."""
    rng = np.random.default_rng(0)
    others = 1 - np.exp(-rng.exponential(1 / 2, 6000))
    limit = find_limit(others, 20_000)
    expected = 6000 * np.exp(2 * np.log1p(-limit))
    assert expected == pytest.approx(10, rel=0.5)


def test_one_ground_with_different_things_is_no_copy():
    """A category photographed in one place, among others that are easily told apart."""
    ground = np.asarray(scene(999))
    pictures = [scene(seed) for seed in range(120)]
    for seed in range(20):
        picture = ground.copy()
        picture[32:96, 32:96] = np.asarray(scene(500 + seed))[32:96, 32:96]
        pictures.append(Image.fromarray(picture))
    labels = np.append(np.arange(120) % 6, np.full(20, 6))
    assert len(find_copies(shrink(pictures), no_neighbours(140), labels).pairs) == 0
