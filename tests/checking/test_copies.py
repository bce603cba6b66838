"""Near duplicates are found among pictures that are alike, and nothing else is."""

import numpy as np
import pytest
from PIL import Image

from checking.copies import (
    ENOUGH,
    FEW_LIMIT,
    HIGHEST,
    LOWEST,
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


def test_pictures_that_are_no_copies_are_none():
    pictures = [scene(seed) for seed in range(60)]
    copies = find_copies(shrink(pictures), no_neighbours(60), np.arange(60) % 2)
    assert len(copies.pairs) == 0


def test_two_photographs_can_be_compared():
    copies = find_copies(shrink([scene(1), scene(1)]), np.array([[1], [0]]), np.array([0, 1]))
    assert copies.pairs.tolist() == [[0, 1]]


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


def test_a_few_wrong_labels_do_not_move_the_limit_much():
    rng = np.random.default_rng(0)
    others = 1 - np.exp(-rng.exponential(1 / 2, 6000))
    with_copies = np.concatenate([others, np.full(30, 0.9999)])
    assert find_limit(with_copies, 20_000) == pytest.approx(find_limit(others, 20_000), abs=0.01)


def test_the_limit_stays_where_pictures_are_nearly_the_same():
    """Whatever the others are: all copies with different labels, or nothing alike at all."""
    rng = np.random.default_rng(0)
    unlike = 1 - np.exp(-rng.exponential(1 / 4, 2000))
    half = np.concatenate([unlike, np.full(1000, 0.9999)])
    assert find_limit(half, 2000) == HIGHEST
    assert find_limit(np.linspace(0, 0.3, 2000), 2000) == LOWEST


def test_many_copies_with_other_labels_are_found():
    pictures = [scene(seed) for seed in range(80)]
    pictures += [CHANGES["the middle of 90 %"](picture) for picture in pictures[:40]]
    labels = np.append(np.arange(80) % 4, (np.arange(40) + 1) % 4)
    copies = find_copies(shrink(pictures), no_neighbours(120), labels)
    assert copies.pairs[np.argsort(copies.pairs[:, 0])].tolist() == [[i, 80 + i] for i in range(40)]


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


def test_with_few_pairs_the_limit_is_fixed():
    assert find_limit(np.full(ENOUGH - 1, 0.5), 20) == FEW_LIMIT
