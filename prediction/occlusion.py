"""Occlusion maps: how much evidence for a name is lost where the photograph is covered.

They need nothing but predictions, so a checkpoint of any architecture and an exported network are
treated alike (Zeiler & Fergus, "Visualizing and understanding convolutional networks", ECCV 2014).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, cast

import numpy as np
from PIL import Image, ImageFilter

from formats.schema import Prediction
from images.decode import Preprocessing, load_image
from prediction.inputs import Pixels, Predicted
from running.errors import ImageError

# Squares along each side of the photograph. Each is covered with half of its neighbours: covering
# less leaves enough of a flower to be recognised (docs/tried.md).
GRID = 7

DARKEST = 0.2  # what is left of the light where covering costs nothing

SIGMA = 1 / 16  # of the blur that covers, in sides: petals and leaves go, their colours stay

PredictEach: TypeAlias = Callable[[Iterable[Pixels]], Iterator[Predicted]]


def light_evidence(
    predict_each: PredictEach, preprocessing: Preprocessing, path: str, index: int
) -> np.ndarray | None:
    """Return a photograph as a network sees it, dark where there is no evidence for a name.

    It is uint8 (crop, crop, 3), or None if the photograph cannot be read any more.
    """
    try:
        photograph = load_image(path, preprocessing)
    except ImageError:
        return None
    lost = compute_occlusion_map(predict_each, photograph, index).clip(0)
    light = DARKEST + (1 - DARKEST) * lost / max(float(lost.max()), 1e-6)
    return (photograph * light[..., None]).astype(np.uint8)


def compute_occlusion_map(
    predict_each: PredictEach,
    photograph: np.ndarray,
    index: int,
) -> np.ndarray:
    """Measure what the log-odds of a name lose where a photograph, uint8 (H, W, 3), is covered.

    Returns float32 (H, W), in nats: high where the evidence for the name is, below 0 where there is
    some against it.
    """
    height, width = photograph.shape[:2]
    images = [photograph, *cover_each(photograph)]
    predicted = predict_each(("", image) for image in images)
    whole, *covered = (
        log_odds(cast(Prediction, answer).probabilities, index) for _, answer in predicted
    )
    lost = (whole - np.reshape(covered, (GRID, GRID))).astype(np.float32)
    return np.asarray(Image.fromarray(lost).resize((width, height), Image.Resampling.BILINEAR))


def cover_each(photograph: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the photograph with one square of the grid blurred, row by row."""
    blurred = blur(photograph, SIGMA)
    for square in np.ndindex(GRID, GRID):
        place = tuple(
            slice(*(round(edge * side / GRID) for edge in (max(number - 0.5, 0), number + 1.5)))
            for number, side in zip(square, photograph.shape)
        )
        covered = photograph.copy()
        covered[place] = blurred[place]
        yield covered


def blur(photograph: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a photograph (H, W, 3); sigma is in sides of it."""
    image = Image.fromarray(photograph)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma * min(image.size))))


def log_odds(probabilities: np.ndarray, index: int) -> float:
    """Return a name's log-odds in nats; they tell 99.99 % from 99.9999 %."""
    least = np.finfo(np.float32).tiny
    others = np.delete(probabilities, index).sum()
    return float(np.log(max(probabilities[index], least)) - np.log(max(others, least)))
