"""Augmentation: what a part, a shift, a turn, other light and a degraded picture are."""

import io
import math

import numpy as np
import pytest
import torch
from conftest import random_images
from PIL import Image, ImageFilter

from learning.augmentation import (
    BLURRIEST,
    BRIGHTEST,
    DARKEST,
    FARTHEST,
    HIGHEST,
    KINDS,
    LOWEST,
    NOISIEST,
    NUMBERS,
    OTHER,
    SHARPEST,
    STEEPEST,
    Augmentation,
    augment,
    draw_parts,
    draw_shifts,
    draw_views,
    needs_fine_grid,
)

# --- Parts and shifts -------------------------------------------------------------------


def test_shifting_is_cropping_of_the_mirrored_surroundings():
    batch = random_images(9, 20)
    numbers = np.random.default_rng(0).random((9, 5))
    numbers[0] = 0.5
    shifted = augment(batch, np.full((9, 2), 20), draw_shifts(numbers, 20), 20)
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
    top, left, height, width = draw_shifts(numbers, 32).parts.T
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
        top, left, tall, wide = draw_parts(numbers, sizes).T
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
    ours = augment(padded, sizes, Augmentation.of_parts(parts, mirrored), 60).numpy()
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
    how = Augmentation.of_parts(parts, np.array([True, False]))._replace(
        angles=np.array([0.3, 0]), gains=np.array([[0.5, 1, 2], [1, 1, 1]]), blurs=np.array([0, 2])
    )
    arguments = np.full((2, 2), 40), how, 32
    here = augment(batch, *arguments)
    there = augment(batch.to(device), *arguments)
    assert (there.device.type, there.dtype, there.shape) == (device, here.dtype, here.shape)
    if device != "meta":  # where tensors have shapes and no values
        assert (there.cpu().int() - here).abs().max() <= 1


# --- Other conditions -------------------------------------------------------------------


def smooth_image(side: int = 64) -> torch.Tensor:
    """A picture (1, S, S, 3) without noise, so that ways of interpolation differ little."""
    y, x = np.mgrid[:side, :side] / side
    bands = [np.sin(5 * x + 2 * y), np.cos(4 * y - x), np.sin(3 * x * y + 1)]
    return torch.from_numpy(np.stack(bands, 2) * 100 + 128).round().to(torch.uint8)[None]


def as_it_is(side: int, **other: object) -> Augmentation:
    """Leave a square image alone, but for some values."""
    how = Augmentation.none(np.array([[side, side]]))
    return how._replace(**{name: np.array([value]) for name, value in other.items()})


def look(image: torch.Tensor, how: Augmentation, side: int | None = None) -> np.ndarray:
    sizes = np.array([image.shape[1:3]])
    return augment(image, sizes, how, side or image.shape[1])[0].numpy()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_numpys(quarters):
    image = random_images(1, 32)
    turned = look(image, as_it_is(32, angles=quarters * math.pi / 2))
    assert (turned == np.rot90(image[0].numpy(), -quarters)).all()


@pytest.mark.parametrize("degrees", [-25, 10])
def test_a_tilt_is_pillows(degrees):
    image = smooth_image()
    tilted = look(image, as_it_is(64, angles=math.radians(degrees)))
    theirs = np.asarray(
        Image.fromarray(image[0].numpy()).rotate(-degrees, Image.Resampling.BILINEAR)
    )
    middle = slice(16, 48)
    assert abs(tilted[middle, middle].astype(int) - theirs[middle, middle]).max() <= 2


def test_from_farther_away_every_pixel_is_seen():
    image = random_images(1, 32)
    wide = np.array([-16.0, -16, 64, 64])
    how = as_it_is(32, parts=wide)
    assert needs_fine_grid(how, 32).all()
    seen = look(image, how)
    whole = np.pad(image[0].numpy(), ((16, 16), (16, 16), (0, 0)), "reflect")
    expected = whole.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert abs(seen - expected)[8:24, 8:24].max() <= 1  # each is the mean of four


def test_light_multiplies_each_colour():
    image = random_images(1, 20)
    lit = look(image, as_it_is(20, gains=[1.5, 1.0, 0.5]))
    expected = (image[0].numpy() * [1.5, 1, 0.5]).clip(0, 255)
    assert abs(lit - expected).max() <= 0.5


def test_a_blur_is_pillows():
    image = random_images(1, 40)
    blurred = look(image, as_it_is(40, blurs=2.0)).astype(int)
    theirs = np.asarray(Image.fromarray(image[0].numpy()).filter(ImageFilter.GaussianBlur(2)))
    # Pillow's is made of boxes, and is nearly a Gaussian.
    assert abs(blurred - theirs)[8:-8, 8:-8].max() <= 6
    assert blurred.std() < 0.3 * image.numpy().std()


def test_noise_has_its_strength_and_its_seed():
    image = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)
    one, again, other = (
        look(image, as_it_is(64, noises=20.0, seeds=float(seed))).astype(int) for seed in (1, 1, 2)
    )
    assert (one == again).all()
    assert (one != other).any()
    assert (one - 128).std() == pytest.approx(20, rel=0.05)


def test_compression_is_a_jpegs():
    image = random_images(1, 40)
    compressed = look(image, as_it_is(40, qualities=20.0))
    with io.BytesIO() as file:
        Image.fromarray(image[0].numpy()).save(file, "JPEG", quality=20)
        assert (compressed == np.asarray(Image.open(file))).all()


def test_one_view_in_three_is_of_another_kind():
    numbers = np.random.default_rng(0).random((20_000, NUMBERS))
    sizes = np.broadcast_to((250, 333), (20_000, 2))
    how = draw_views(numbers, sizes)
    kinds = {
        "blur": how.blurs > 0,
        "noise": how.noises > 0,
        "jpeg": how.qualities > 0,
        "light": (how.gains != 1).any(1),
        "far": (how.parts != draw_parts(numbers, sizes)).any(1),
        "turned": how.angles != 0,
    }
    for name, there in kinds.items():
        assert there.mean() == pytest.approx(OTHER * KINDS[name], abs=0.01)
    assert (sum(there.astype(int) for there in kinds.values()) <= 1).all()
    assert sum(KINDS.values()) == pytest.approx(1)
    assert 0.48 < how.mirrored.mean() < 0.52

    area = how.parts[kinds["far"], 2:].prod(1) / (250 * 333)
    assert np.quantile(area, [0, 1]) == pytest.approx([1, FARTHEST], abs=0.3)
    for values, low, high in (
        (how.blurs, SHARPEST, BLURRIEST),
        (how.noises, 0, NOISIEST),
        (how.qualities, LOWEST, HIGHEST),
    ):
        there = values[values > 0]
        assert low <= there.min() < low + 0.05 * high
        assert high * 0.95 < there.max() <= high
    assert np.quantile(how.gains[:, 1], [0, 1]) == pytest.approx([DARKEST, BRIGHTEST], abs=0.02)
    quarters = how.angles / (math.pi / 2)
    assert {1, 2, 3} < {*np.round(quarters, 9)}
    tilts = how.angles[kinds["turned"] & ~np.isin(np.round(quarters, 9), (1, 2, 3))]
    assert np.quantile(tilts, [0, 1]) == pytest.approx([-STEEPEST, STEEPEST], abs=0.02)
