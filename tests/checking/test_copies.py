"""Near duplicates are found among pictures that are alike, and nothing else is."""

import numpy as np
import pytest
import torch
from PIL import Image

from checking.copies import HIGHEST, SIDE, find_copies, find_limit
from running.console import no_progress


def scene(seed: int) -> Image.Image:
    """A picture of soft blobs of colour, unlike any other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((128, 128), Image.Resampling.BICUBIC)


def copies_among(pictures: list[Image.Image], labels: np.ndarray) -> list[list[int]]:
    """Pairs of near duplicates, where the features say nothing: neighbours are any photographs."""
    count = len(pictures)
    small = np.stack([np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BOX)) for p in pictures])
    neighbours = (torch.arange(count)[:, None] + torch.arange(1, min(count, 3))) % count
    pairs, _, _ = find_copies(small, neighbours, labels, no_progress)
    return sorted(pairs.tolist())


CHANGES = {
    "mirrored": lambda p: p.transpose(0),
    "half the size": lambda p: p.resize((64, 64)),
    "a corner of 85 %": lambda p: p.crop((0, 19, 109, 128)),
    "brighter": lambda p: p.point(lambda v: min(255, v // 2 + 100)),
    "mirrored corner": lambda p: p.crop((19, 0, 128, 109)).transpose(0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change):
    pictures = [scene(seed) for seed in range(30)]
    pictures.append(CHANGES[change](pictures[7]))
    assert copies_among(pictures, np.arange(31) % 3) == [[7, 30]]


def test_many_copies_with_other_labels_are_found():
    pictures = [scene(seed) for seed in range(80)]
    pictures += [picture.crop((6, 6, 121, 121)) for picture in pictures[:40]]
    labels = np.append(np.arange(80) % 4, (np.arange(40) + 1) % 4)
    assert copies_among(pictures, labels) == [[i, 80 + i] for i in range(40)]


def test_different_things_in_one_place_are_no_copies():
    """A category that was photographed in one studio, among others that are easily told apart."""
    pictures = [scene(seed) for seed in range(140)]
    for i in range(120, 140):
        pictures[i].paste(scene(999), mask=Image.new("L", (128, 128), 255))
        pictures[i].paste(scene(500 + i).crop((32, 32, 96, 96)), (32, 32))
    assert copies_among(pictures, np.minimum(np.arange(140) // 20, 6)) == []


def test_the_limit_is_where_a_false_pair_in_two_thousand_is_expected():
    """On correlations whose tail is known: t = -ln(1 - correlation) is exponential of rate 2."""
    others = 1 - np.exp(-np.random.default_rng(0).exponential(1 / 2, 6000))
    limit = find_limit(others, 20_000)
    assert 6000 * np.exp(2 * np.log1p(-limit)) == pytest.approx(10, rel=0.5)
    # A few copies with a wrong label do not move it much, and many not beyond what is a copy.
    mixed = np.append(others, np.full(30, 0.9999))
    assert find_limit(mixed, 20_000) == pytest.approx(limit, abs=0.01)
    assert find_limit(np.append(others, np.full(3000, 0.9999)), 2000) == HIGHEST
