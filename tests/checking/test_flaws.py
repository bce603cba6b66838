"""What is blank, dark, bright, blurred or tiny is found; what is usual is not."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from checking.check import find_flaws, measure_image


def noise(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8))


def flaws(*odd: tuple[Image.Image, int]) -> list[tuple[int, str]]:
    """Find what is wrong with pictures, of so many pixels, among usual ones."""
    pictures = [*odd, *((noise(seed), 300) for seed in range(1, 21))]
    statistics = [measure_image(np.asarray(picture), side) for picture, side in pictures]
    found = [*find_flaws(statistics, 224)]
    assert all(0 <= score <= 1 and reason for _, (_, score, reason) in found)
    return [(i, kind) for i, (kind, *_) in found]


@pytest.mark.parametrize(
    ("kind", "picture", "side"),
    [
        ("blank", Image.new("RGB", (96, 96), (90, 90, 90)), 300),
        ("dark", noise().point(lambda v: v // 8), 300),
        ("bright", noise().point(lambda v: 225 + v // 9), 300),
        ("blurred", noise().filter(ImageFilter.GaussianBlur(3)), 300),
        ("tiny", noise(), 40),
    ],
)
def test_a_flaw_is_found(kind, picture, side):
    assert flaws((picture, side)) == [(0, kind)]


def test_usual_photographs_have_none():
    assert flaws((noise(), 300), (noise(99), 160)) == []
