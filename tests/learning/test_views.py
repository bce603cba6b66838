"""Views: what a random part, a shift and a mirrored picture are, and that they repeat."""

import sys

import numpy as np
import pytest
import torch
from conftest import random_images
from PIL import Image

import photographs.batches
from learning.processes import Processes
from learning.resources import Resources
from learning.views import (
    PhotographViews,
    augment,
    mirror_some,
    random_parts,
    random_shifts,
    stack_padded,
)
from photographs.batches import load_batches
from photographs.images import Preprocessing

CPU = torch.device("cpu")
SMALL = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
LARGE = Preprocessing(107, 96, (0.0,) * 3, (1.0,) * 3)


def look(views: PhotographViews, photographs, numbers, batch_size: int) -> torch.Tensor:
    """Make views of photographs, in batches of a size."""
    batches = views.batches(np.array(photographs), np.array(numbers), batch_size)
    return torch.cat([views.make(batch, CPU) for batch in batches])


# --- Shifts, parts and what they show ---------------------------------------------------


def test_shifting_is_cropping_of_the_mirrored_surroundings():
    batch = random_images(9, 20)
    numbers = np.random.default_rng(0).random((9, 5))
    numbers[0] = 0.5
    mirrored = numbers[:, 4] < 0.5
    parts, sizes = random_shifts(numbers, 20), np.full((9, 2), 20)
    shifted = augment(batch, sizes, parts, mirrored, 20)
    assert (shifted[0] == batch[0]).all()
    assert shifted.dtype == torch.uint8
    for image, (*_, down, right, mirror), result in zip(batch.numpy(), numbers, shifted.numpy()):
        wide = np.pad(image, ((2, 2), (2, 2), (0, 0)), "reflect")
        top, left = int(down * 5), int(right * 5)
        expected = wide[top : top + 20, left : left + 20]
        assert (result == (expected[:, ::-1] if mirror < 0.5 else expected)).all()


def test_shifts_are_whole_pixels_up_to_a_tenth():
    numbers = np.random.default_rng(0).random((500, 5))
    numbers[0], numbers[1] = 0, np.nextafter(1, 0)
    top, left, height, width = random_shifts(numbers, 32).T
    assert {*top} == {*left} == {*range(-3, 4)}
    assert (height == 32).all()
    assert (width == 32).all()


def test_random_parts_are_large_and_within_the_image():
    corners = np.array(
        [[a, b, c, d] for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)]
    )
    numbers = np.concatenate([np.random.default_rng(0).random((1000, 4)), corners])
    for height, width in ((250, 333), (333, 250), (20, 20)):
        sizes = np.broadcast_to((height, width), (len(numbers), 2))
        top, left, tall, wide = random_parts(numbers, sizes).T
        assert (top >= 0).all()
        assert (top + tall <= height + 1e-9).all()
        assert (left >= 0).all()
        assert (left + wide <= width + 1e-9).all()
        free = (tall < height) & (wide < width)  # the others could not be as large as drawn
        area, ratio = (tall * wide / height / width)[free], (wide / tall)[free]
        assert area.min() >= 0.5 - 1e-9
        assert (3 / 4 - 1e-9 <= ratio).all()
        assert ratio.max() <= 4 / 3 + 1e-9
        assert len(area) > 200
        assert area.max() > 0.75
        assert area.std() > 0.05


def test_a_part_is_scaled_as_pillow_scales_it():
    batch = random_images(3, 40)
    parts = np.array([[3.3, 5.1, 22, 30], [0, 0, 40, 40], [9, 12.5, 17.5, 20]])
    sizes, mirrored = np.full((3, 2), 40), np.array([False, True, False])
    padded = torch.nn.functional.pad(batch, (0, 0, 0, 7, 0, 5), value=255)
    ours = augment(padded, sizes, parts, mirrored, 60).numpy()
    for image, (top, left, height, width), mirror, result in zip(
        batch.numpy(), parts, (0, 1, 0), ours
    ):
        box = (left, top, left + width, top + height)
        theirs = np.asarray(Image.fromarray(image).resize((60, 60), Image.Resampling.BILINEAR, box))
        if mirror:
            theirs = theirs[:, ::-1]
        # Pillow looks at nothing beyond the part, so that its edges are others.
        assert abs(theirs.astype(int) - result)[4:-4, 4:-4].max() <= 2


@pytest.mark.parametrize(
    "device",
    [
        "meta",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
        ),
    ],
)
def test_views_are_made_wherever_the_images_are(device):
    batch, parts = random_images(2, 40), np.array([[3.3, 5.1, 22, 30], [0, 0, 40, 40]])
    arguments = np.full((2, 2), 40), parts, np.array([True, False]), 32
    here = augment(batch, *arguments)
    there = augment(batch.to(device), *arguments)
    assert (there.device.type, there.dtype, there.shape) == (device, here.dtype, here.shape)
    if device != "meta":  # where tensors have shapes and no values
        assert (there.cpu().int() - here).abs().max() <= 1


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
    monkeypatch.setattr(photographs.batches, "load_image", None)
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


def test_a_view_is_the_same_in_any_company(large):
    numbers = [1, 0, 1, 2, 1, 0, 2, 2, 1, 0]
    views = PhotographViews(large, LARGE, 5, Resources(workers=2))
    together = look(views, range(10), numbers, 10)
    assert together.dtype == torch.uint8
    assert together.shape == (10, 96, 96, 3)
    assert (look(views, [*range(9, -1, -1)], numbers[::-1], 3).flip(0) == together).all()
    (plain,) = load_batches([large[i] for i in (1, 5, 9)], LARGE)
    assert (together[[1, 5, 9]].numpy() == plain).all()  # view 0 is what prediction sees
    assert (look(views, [0], [1], 1) != look(views, [0], [2], 1)).any()
    for rank in (0, 1):
        share = PhotographViews(large, LARGE, 5, Resources(processes=Processes(rank, 2)))
        assert share.paths == large[rank::2]
        assert (look(share, range(5), numbers[rank::2], 8) == together[rank::2]).all()


def test_another_seed_gives_other_views_of_the_same_photographs(large):
    here, there = (look(PhotographViews(large, LARGE, seed), [0, 0], [0, 1], 2) for seed in (5, 6))
    assert (here[0] == there[0]).all()
    assert (here[1] != there[1]).any()
