"""Drawn flowers: a small data set for trying things out, without any download."""

import colorsys
import io
import json
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from images.folders import new_folder
from running.console import Progress, no_progress


class Flower(NamedTuple):
    """How a kind of flower looks; ranges are (lowest, highest), hues are in 0..1."""

    name: str
    petals: tuple[int, int]
    width: float  # of a petal, in units of its length
    # Where a petal is widest (1: its middle, above: towards the tip), how pointed it is, and the
    # notch that is cut into its tip, in units of its length.
    shape: tuple[float, float, float]
    rings: int
    hues: list[tuple[float, float]]
    saturation: tuple[float, float]
    centre: float  # radius, in units of the petal's length
    centre_color: tuple[int, int, int]


# fmt: off
FLOWERS = [
    Flower("drawn daisy", (13, 20), 0.14, (1.2, 0.7, 0), 1,
           [(0, 0.2), (0.85, 1)], (0, 0.5), 0.3, (225, 180, 50)),
    Flower("drawn poppy", (4, 5), 0.6, (1.7, 0.5, 0), 1,
           [(0, 0.1), (0.9, 1)], (0.4, 0.95), 0.2, (45, 40, 45)),
    Flower("drawn sunflower", (14, 21), 0.14, (0.9, 1.1, 0), 2,
           [(0.05, 0.18)], (0.5, 0.95), 0.45, (110, 70, 35)),
    Flower("drawn cornflower", (8, 11), 0.22, (1.9, 0.9, 0.25), 1,
           [(0.55, 0.78)], (0.3, 0.85), 0.22, (100, 50, 130)),
    Flower("drawn pansy", (5, 5), 0.55, (1.4, 0.5, 0), 1,
           [(0.65, 0.85), (0.08, 0.18)], (0.2, 0.9), 0.16, (230, 190, 60)),
    Flower("drawn buttercup", (5, 6), 0.44, (1.6, 0.6, 0), 1,
           [(0.1, 0.2)], (0.4, 0.95), 0.22, (200, 190, 60)),
    Flower("drawn anemone", (6, 9), 0.3, (1.1, 0.8, 0), 1,
           [(0.55, 0.8), (0.85, 1.05)], (0.05, 0.9), 0.22, (50, 45, 65)),
    Flower("drawn lily", (6, 6), 0.26, (0.9, 1.2, 0), 1,
           [(0, 0.14), (0.8, 1)], (0.05, 0.9), 0.12, (170, 120, 60)),
    Flower("drawn dahlia", (10, 15), 0.2, (1, 1.1, 0), 3,
           [(0.75, 1), (0, 0.18)], (0.2, 0.9), 0.14, (200, 150, 60)),
    Flower("drawn mallow", (5, 6), 0.46, (1.9, 0.6, 0.12), 1,
           [(0.65, 1)], (0.1, 0.8), 0.16, (225, 205, 110)),
]
# fmt: on


def draw_data(
    folder: str | Path,
    train: int = 30,
    valid: int = 10,
    test: int = 8,
    kinds: int = len(FLOWERS),
    progress: Progress = no_progress,
) -> None:
    """Draw `folder/{train,valid,test}/<1..kinds>/*.jpg` and a cat_to_name.json.

    `train`, `valid` and `test` are drawings of each kind. An existing folder is left as it is; a
    new one appears when it is whole. Raises RunError if it cannot be written.
    """
    folder, counts = Path(folder), {"train": train, "valid": valid, "test": test}
    if folder.exists():
        return
    drawings = [
        [(kind, i, split, number)]
        for kind in range(kinds)
        for i, (split, count) in enumerate(counts.items())
        for number in range(count)
    ]
    with new_folder(folder) as new:
        for [(kind, i, split, number)] in progress(drawings, len(drawings), "drawing"):
            path = new / split / str(kind + 1) / f"drawn_{number + 1:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            rng, jpeg = np.random.default_rng((0, kind, i, number)), io.BytesIO()
            draw_flower(FLOWERS[kind], rng).save(jpeg, "JPEG", quality=90)
            path.write_bytes(jpeg.getvalue())  # Pillow itself does not notice a full disk
        names = {str(kind + 1): flower.name for kind, flower in enumerate(FLOWERS[:kinds])}
        (new / "cat_to_name.json").write_text(json.dumps(names, indent=2) + "\n")


def draw_flower(flower: Flower, rng: Generator) -> Image.Image:
    """Draw one to three flowers of a kind: an RGB image with a short side of 250 pixels."""
    size = (250, int(rng.integers(250, 340)))
    if rng.random() < 0.5:
        size = size[::-1]
    # Flowers are drawn at twice the size, for smooth edges; what is blurred at half, for speed.
    image = _draw_leaves(np.array(size) // 2, rng).resize((size[0] * 2, size[1] * 2))
    for number in reversed(range(int(rng.choice([1, 1, 2, 3])))):  # 0: in front, large, central
        spread = 0.3 if number else 0.12
        place = np.array(image.size) * (0.5 + rng.uniform(-spread, spread, 2))
        length = rng.uniform(0.13, 0.42) * min(image.size) * (0.65 if number else 1)
        _draw_one(image, flower, place, length, rng)
    image = image.resize(size, Image.Resampling.BOX)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.8)))
    pixels = np.asarray(image) * rng.uniform(0.65, 1.15, 3).clip(max=rng.uniform(0.8, 1.15))
    return Image.fromarray((pixels + rng.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8))


def _draw_leaves(size: np.ndarray, rng: Generator) -> Image.Image:
    """Draw blurred leaves, soil and sky as a background of `size`, (width, height)."""
    image = Image.new("RGB", tuple(size.tolist()), _color(rng.uniform(0.2, 0.4), 0.5, 0.3))
    for _ in range(int(rng.integers(10, 40))):
        hues = rng.uniform(0.2, 0.4), rng.uniform(0.05, 0.12), rng.uniform(0.5, 0.6)
        hue = rng.choice(hues, p=[0.75, 0.15, 0.1])
        leaf = _petal(rng.uniform(0.1, 0.6) * size.max(), rng.uniform(0.1, 0.4), 1, 1, 0)
        place, angle = rng.uniform(0, 1, 2) * size, rng.uniform(0, 2 * np.pi)
        color = _color(hue, rng.uniform(0.2, 0.7), rng.uniform(0.15, 0.7))
        ImageDraw.Draw(image).polygon(_turned(leaf, place, angle, 1), color, width=2)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.7, 3.5)))


def _draw_one(
    image: Image.Image, flower: Flower, place: np.ndarray, length: float, rng: Generator
) -> None:
    """Draw a flower with petals of a length, in pixels, around its place (x, y)."""
    draw = ImageDraw.Draw(image)
    tilt = rng.uniform(0.45, 1)  # seen from the side, circles become ellipses
    hue = rng.uniform(*flower.hues[rng.integers(len(flower.hues))])
    saturation, value = rng.uniform(*flower.saturation), rng.uniform(0.75, 1)
    count = int(rng.integers(flower.petals[0], flower.petals[1] + 1))
    turn = rng.uniform(0, 2 * np.pi)
    for ring, number in product(range(flower.rings), range(count)):
        angle = turn + 2 * np.pi * (number + ring / 2) / count + rng.normal(0, 0.06)
        long = length * (1 - ring / (flower.rings + 1)) * rng.uniform(0.88, 1.06)
        petal = _petal(long, flower.width * rng.uniform(0.85, 1.15), *flower.shape)
        shade = value * rng.uniform(0.8, 1)
        edge = _color(hue, min(saturation + 0.2, 1), shade * 0.7)
        points = _turned(petal, place, angle, tilt)
        draw.polygon(points, _color(hue, saturation, shade), edge, width=2)
    around = np.linspace(0, 2 * np.pi, 40)
    circle = flower.centre * length * np.stack([np.cos(around), np.sin(around)], 1)
    color = tuple(int(c * rng.uniform(0.7, 1.12)) for c in flower.centre_color)
    draw.polygon(_turned(circle, place, 0, tilt), color, width=2)


def _petal(length: float, width: float, widest: float, point: float, notch: float) -> np.ndarray:
    """Outline a petal that points along x from the origin: (points, 2)."""
    along = np.linspace(0, 0.97 if notch else 1, 20)
    half = width * length * np.sin(np.pi * along**widest).clip(0) ** point
    if notch:
        half = np.maximum(half, width * length * 0.8 * along)  # stays broad up to the cut
    tip = np.array([[1 - notch, 0]]) * length
    upper, lower = np.stack([along * length, half], 1), np.stack([along * length, -half], 1)
    return np.concatenate([upper, tip, lower[::-1]])


def _turned(points: np.ndarray, place: np.ndarray, angle: float, tilt: float) -> list[float]:
    """Turn an outline by an angle in radians, squash it by the tilt, and move it: x, y, x, ..."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points @ turn * [1, tilt] + place).ravel().tolist()


def _color(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
