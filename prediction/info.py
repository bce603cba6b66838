"""prediction/info.py"""

import math
from typing import Any, NamedTuple

import numpy as np

from photographs.images import Preprocessing

# Side of the largest square that a network may ask for, in pixels.
LARGEST_CROP = 1024


SMALLEST_CROP = 32


# The share of the photographs of known flowers that keep their names where others are refused.
KEEP = 0.95


class Calibration(NamedTuple):
    """What makes probabilities honest, and tells a photograph of something else."""

    temperature: float  # logits are divided by it
    patterns: Any  # float32 tensor (C, C), see `familiarity`; None: it is built in
    quantiles: Any  # float32 tensor or array (1001,), of the familiarity of valid's photographs

    def least_familiar(self, keep: float = KEEP) -> float:
        """Say how familiar the least familiar of a share (0..1) of valid's photographs is."""
        return self.quantiles[round(1000 * (1 - keep))].item()


class Prediction(NamedTuple):
    """What a network says of a photograph."""

    probabilities: np.ndarray  # float32 (C,), 0..1
    familiarity: float  # -1..1, see `familiarity`


# What a network's file tells of its validation.
FIGURES = {
    "epoch": int,
    "valid_loss": float,
    "valid_accuracy": float,
    "valid_images": int,
    "precision": str,
}


def check_types(entries: Any, expected: dict[str, type | tuple[type, ...]]) -> None:
    """See that a dict has entries of some names, each of its type or one of them.

    Numbers are finite, and True is no number.

    Raises:
        ValueError: it has not.
    """
    if type(entries) is not dict:
        raise ValueError("no dict")
    for key, types in expected.items():
        value = entries.get(key)
        if type(value) not in (types if isinstance(types, tuple) else (types,)):
            raise ValueError(f"{key} is of another type")
        if type(value) is float and not math.isfinite(value):
            raise ValueError(f"{key} is not finite")


def check_history(entries: dict[str, Any]) -> None:
    """See that a network's file says in the right form what it names and where it is from.

    Raises:
        ValueError, TypeError: it does not.
    """
    check_types(
        entries,
        {
            "categories": list,
            "names": list,
            "seed": int,
            "command": str,
            "date": str,
            "versions": dict,
        },
    )
    check_types(entries["versions"], dict.fromkeys(entries["versions"], str))
    check_types(entries.get("figures"), FIGURES)
    categories, names = entries["categories"], entries["names"]
    if not all(type(name) is str and name.isprintable() for name in categories + names):
        raise ValueError("impossible names")
    if len(names) != len(categories) or len(set(categories)) != len(categories):
        raise ValueError("impossible names")


def check_preprocessing(entries: Any) -> Preprocessing:
    """Turn what a file says into a preprocessing.

    Raises:
        ValueError, TypeError: it is none that can be.
    """
    check_types(
        entries, {"resize": int, "crop": int, "mean": list, "std": list, "interpolation": str}
    )
    preprocessing = Preprocessing(**entries)._replace(
        mean=tuple(entries["mean"]), std=tuple(entries["std"])
    )
    resize, crop, mean, std, interpolation = preprocessing
    if not (
        0 < crop <= LARGEST_CROP
        and crop <= resize <= 10 * crop
        and len(mean) == len(std) == 3
        and all(type(x) is float and math.isfinite(x) for x in mean + std)
        and min(std) > 0
        and interpolation in ("bicubic", "bilinear")
    ):
        raise ValueError("impossible preprocessing")
    return preprocessing
