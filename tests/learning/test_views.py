"""Views: that they are the same in any order and company, and what is kept for them."""

import sys

import numpy as np
import pytest
import torch
from conftest import random_images
from PIL import Image

import images.batches
from images.batches import load_batches
from images.decode import Preprocessing
from learning.distributed import ProcessGroup
from learning.resources import Resources
from learning.views import (
    PhotographViews,
    mirror_some,
    stack_padded,
)

CPU = torch.device("cpu")
SMALL = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
LARGE = Preprocessing(107, 96, (0.0,) * 3, (1.0,) * 3)


def look(views: PhotographViews, photographs, numbers, batch_size: int) -> torch.Tensor:
    """Make views of photographs, in batches of a size."""
    batches = views.batches(np.array(photographs), np.array(numbers), batch_size)
    return torch.cat([views.make(batch, CPU) for batch in batches])


# --- Stacks and maps --------------------------------------------------------------------


def test_images_of_any_sizes_are_stacked():
    images = [np.full((2, 3, 3), 7, np.uint8), np.full((4, 1, 3), 9, np.uint8)]
    whole = stack_padded(images)
    assert whole.shape == (2, 4, 3, 3)
    assert (whole[0, :2] == 7).all()
    assert (whole[0, 2:] == 0).all()
    assert (whole[1, :, :1] == 9).all()
    assert (whole[1, :, 1:] == 0).all()


def test_some_maps_are_mirrored():
    maps = torch.arange(5 * 2 * 3 * 4.0).view(5, 2, 3, 4)
    which = np.array([True, False, False, True, True])
    mirrored = torch.cat([*mirror_some(maps.split(2), which)])
    for before, after, mirror in zip(maps, mirrored, which):
        assert after.equal(before.flip(2) if mirror else before)


# --- Photographs ------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """Pictures of just the size of the network."""
    paths = []
    for i in range(11):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(random_images(1, 32, seed=i)[0].numpy()).save(paths[-1])
    return paths


@pytest.fixture
def large(tmp_path):
    """Ten photographs of several sizes."""
    paths = []
    for i, size in enumerate([(140, 120), (120, 140), (96, 96), (140, 120), (400, 50)] * 2):
        paths.append(str(tmp_path / f"large {i}.png"))
        pixels = np.random.default_rng(i).integers(256, size=(*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_small_pictures_are_read_once(small, monkeypatch):
    size = sys.getsizeof(np.empty((32, 32, 3), np.uint8))
    views = PhotographViews(small, SMALL, seed=3, memory=11 * size + 5)
    order = np.random.default_rng(0).permutation(11)
    plain = look(views, order, np.zeros(11, int), 4)
    assert (plain == torch.cat([random_images(1, 32, seed=int(i)) for i in order])).all()
    monkeypatch.setattr(images.batches, "load_image", None)
    first, again, other = (
        look(views, order, np.full(11, view), batch_size)
        for view, batch_size in ((1, 4), (1, 11), (2, 4))
    )
    assert (first == again).all()
    assert (first != plain).any()
    assert (first != other).any()
    assert views.memory_left == 5
    # A view of a photograph is the same in whatever order it comes.
    assert (look(views, range(11), [1] * 11, 4)[torch.from_numpy(order)] == first).all()


def test_no_more_is_kept_than_there_is_memory_for(small):
    size = sys.getsizeof(np.empty((32, 32, 3), np.uint8))
    views = PhotographViews(small, SMALL, memory=3 * size + 1)
    everything = look(views, range(11), [1] * 11, 4)
    assert len(views.decoded) == 3
    assert views.memory_left == 1
    without = PhotographViews(small, SMALL)
    assert (look(without, range(11), [1] * 11, 4) == everything).all()
    assert without.decoded == {}


def test_pictures_of_other_sizes_are_not_shifted_but_cut(large, small):
    assert PhotographViews(small, SMALL).shifted
    assert not PhotographViews(large, LARGE).shifted
    assert not PhotographViews(small, SMALL._replace(resize=36)).shifted
    kept = PhotographViews(large, LARGE, memory=10**9)
    look(kept, [0, 1], [0, 1], 2)
    assert kept.decoded.keys() == {1}  # view 0 is made of the centre alone
    assert kept.decoded[1].shape == (107, 125, 3)


@pytest.mark.parametrize("varied", [False, True])
def test_a_view_is_the_same_in_any_company(large, varied):
    numbers = [1, 0, 1, 2, 1, 0, 2, 2, 1, 0]
    views = PhotographViews(large, LARGE, 5, Resources(workers=2), varied=varied)
    together = look(views, range(10), numbers, 10)
    assert together.dtype == torch.uint8
    assert together.shape == (10, 96, 96, 3)
    assert (look(views, [*range(9, -1, -1)], numbers[::-1], 3).flip(0) == together).all()
    (plain,) = load_batches([large[i] for i in (1, 5, 9)], LARGE)
    assert (together[[1, 5, 9]].numpy() == plain).all()  # view 0 is what prediction sees
    assert (look(views, [0], [1], 1) != look(views, [0], [2], 1)).any()
    for rank in (0, 1):
        resources = Resources(processes=ProcessGroup(rank, 2))
        share = PhotographViews(large, LARGE, 5, resources, varied=varied)
        assert share.paths == large[rank::2]
        assert (look(share, range(5), numbers[rank::2], 8) == together[rank::2]).all()


def test_varied_views_are_others_than_plain_ones(large):
    plain, varied = (
        look(PhotographViews(large, LARGE, varied=varied), [0] * 30, range(30), 10)
        for varied in (False, True)
    )
    alike = (plain == varied).flatten(1).all(1)
    assert alike[0]  # the photograph as it is
    assert 10 < alike[1:].sum() < 28  # most are


def test_another_seed_gives_other_views_of_the_same_photographs(large):
    here, there = (look(PhotographViews(large, LARGE, seed), [0, 0], [0, 1], 2) for seed in (5, 6))
    assert (here[0] == there[0]).all()
    assert (here[1] != there[1]).any()
