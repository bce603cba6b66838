"""Where in a photograph the evidence for a name is: what the name loses where it is covered.

Occlusion asks a network for nothing but predictions, so a checkpoint of any architecture and an
exported network are treated alike (Zeiler & Fergus, "Visualizing and understanding convolutional
networks", ECCV 2014).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageFilter

from formats.schema import Prediction
from running.errors import FlowersError

PredictEach: TypeAlias = Callable[
    [Iterable[tuple[str, np.ndarray | FlowersError]]],
    Iterator[tuple[str, Prediction | FlowersError]],
]

# Squares along each side of the photograph. Each is covered with half of its neighbours: what
# covers less leaves enough of a flower to be seen (docs/tried.md).
GRID = 7

# Of the blur that covers, in sides of the photograph: petals and leaves go, their colours stay.
SIGMA = 1 / 16


def compute_occlusion_map(
    predict_each: PredictEach, photograph: np.ndarray, index: int
) -> np.ndarray:
    """Measure what a name's log-odds lose where a photograph is covered.

    Args:
        predict_each: asks a network, as `predict.Network` does.
        photograph: uint8 (H, W, 3), as the network sees it.
        index: the name's output of the network, 0..C-1.

    Returns:
        float32 (H, W), in nats: high where the evidence for the name is, below 0 where there is
        some against it.
    """
    height, width = photograph.shape[:2]
    images = [photograph, *cover_each(photograph)]
    answers = predict_each(("", image) for image in images)
    whole, *covered = [
        log_odds(answer.probabilities, index)
        for _, answer in answers
        if isinstance(answer, Prediction)
    ]
    lost = whole - np.reshape(covered, (GRID, GRID))
    smooth = Image.fromarray(lost.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(smooth)


def cover_each(photograph: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the photograph with one place after the other blurred, row by row of the grid."""
    height, width = photograph.shape[:2]
    blurred = blur(photograph, SIGMA)
    for row in range(GRID):
        for column in range(GRID):
            rows = slice(_edge(row - 0.5, height), _edge(row + 1.5, height))
            columns = slice(_edge(column - 0.5, width), _edge(column + 1.5, width))
            covered = photograph.copy()
            covered[rows, columns] = blurred[rows, columns]
            yield covered


def _edge(square: float, side: int) -> int:
    """Turn a place between the squares of the grid into pixels."""
    return round(min(max(square, 0), GRID) * side / GRID)


def blur(photograph: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a photograph (H, W, 3); sigma is in sides of it."""
    image = Image.fromarray(photograph)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma * min(image.size))))


def log_odds(probabilities: np.ndarray, index: int) -> float:
    """Compare a name's probability with that of all others: nats.

    Unlike the probability they tell 99.99 % from 99.9999 %.
    """
    least = np.finfo(np.float32).tiny
    others = np.delete(probabilities, index).sum()
    return float(np.log(max(probabilities[index], least)) - np.log(max(others, least)))
