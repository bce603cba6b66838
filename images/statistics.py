"""What can be seen of a photograph without knowing what it shows: light, sharpness, size."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

TILES = 8  # rows and columns of a photograph's tiles, of which the sharpest ones count
SHARPEST = 6

BLANK = "blank"

# Grey values, 0..255, between which 90 % of a photograph's pixels lie.
RANGE = 10  # from the darkest to the brightest of them: less is blank
DARK = 50  # the brightest
BRIGHT = 205  # the darkest
# Blurred: the logarithm of the sharpness so many robust standard deviations below the median of the
# folder's photographs, and half as sharp as these at most.
BLURRED, HALF = 3.0, np.log(2)


class ImageStatistics(NamedTuple):
    """What a photograph looks like."""

    darkest: float  # the grey value below which 5 % of the pixels lie, 0..255
    brightest: float  # that above which 5 % lie
    sharpness: float  # the mean second difference of grey values where it is highest
    side: int  # the short side of the photograph, in pixels
    small: np.ndarray  # itself, as uint8 (S, S, 3)


def measure_image(image: np.ndarray, side: int, small: int) -> ImageStatistics:
    """Measure a decoded photograph, uint8 (H, W, 3).

    `side` is the short side of its file, in pixels, `small` the side of the small picture.
    """
    picture = Image.fromarray(image)
    grey = np.asarray(picture.convert("L"), np.float32)
    middle = grey[1:-1, 1:-1]
    edges = np.abs(grey[1:-1, 2:] + grey[1:-1, :-2] + grey[2:, 1:-1] + grey[:-2, 1:-1] - 4 * middle)
    height, width = (length // TILES for length in edges.shape)
    tiles = edges[: TILES * height, : TILES * width].reshape(TILES, height, TILES, width)
    sharpness = np.sort(tiles.mean((1, 3)).ravel())[-SHARPEST]
    darkest, brightest = np.quantile(grey, (0.05, 0.95))
    thumbnail = np.asarray(picture.resize((small, small), Image.Resampling.BOX))
    return ImageStatistics(float(darkest), float(brightest), float(sharpness), side, thumbnail)


def find_flaws(
    statistics: Sequence[ImageStatistics], side: int
) -> Iterator[tuple[int, str, float, str]]:
    """Yield blank, dark, bright, blurred and tiny photographs: number, kind, score 0..1, reason.

    Blurred and tiny is relative to the others, and to what the network sees (`side` pixels).
    """
    sharpness = np.log([look.sharpness + 1e-3 for look in statistics])
    middle = np.median(sharpness)
    spread = 1.4826 * np.median(np.abs(sharpness - middle))
    too_soft = max(BLURRED * spread, HALF)
    typical = float(np.median([look.side for look in statistics]))
    for i, look in enumerate(statistics):
        range_, softer = look.brightest - look.darkest, middle - sharpness[i]
        if range_ < RANGE:
            yield i, BLANK, 1 - range_ / 255, f"all within {range_:.0f} of 255 grey values"
        elif look.brightest < DARK:
            reason = f"95 % of it is darker than {look.brightest:.0f} of 255"
            yield i, "dark", 1 - look.brightest / 255, reason
        elif look.darkest > BRIGHT:
            reason = f"95 % of it is brighter than {look.darkest:.0f} of 255"
            yield i, "bright", look.darkest / 255, reason
        elif look.side < min(side, typical / 2):
            reason = f"{look.side} pixels, others have {typical:.0f}"
            yield i, "tiny", 1 - look.side / typical, reason
        elif softer > too_soft:
            reason = f"edges are {np.exp(softer):.0f} times as soft as usual"
            yield i, "blurred", 1 - float(np.exp(-softer)), reason
