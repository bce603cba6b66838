"""What a network's file knows beside its weights, the same for a checkpoint and for ONNX.

Whatever a file says is checked here before anybody believes it.
"""

import base64
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from images.decode import Preprocessing
from running.flags import IMAGE_SIZE

# The share of the photographs of known flowers that keep their names where others are refused.
KEEP = 0.95

ROUNDING = 1e-5  # of a familiarity, which is a cosine

# Numbers that a file keeps of valid's photographs; of more of them it keeps some.
LARGEST_VALID = 1_000_000

QUANTILES = 1001  # of the familiarity of valid's photographs, from the lowest to the highest


# What files call the fields of `CalibrationSet`, and their types there.
CALIBRATION_SET = {"log_probabilities": "<f2", "labels": "<i4", "familiarity": "<f4"}


class Prediction(NamedTuple):
    """What a network says of a photograph."""

    probabilities: np.ndarray  # float32 (C,), 0..1
    ood_score: float  # -1..1: the highest cosine of its logits with a class's prototype


class CalibrationSet(NamedTuple):
    """What a network made of the photographs of valid, each with the temperature of others."""

    log_probabilities: np.ndarray  # float16 (V, C)
    labels: np.ndarray  # the index of each one's category: int32 (V,)
    ood_score: np.ndarray  # float32 (V,)


class Calibration(NamedTuple):
    """What calibrates probabilities, and tells a photograph of something else."""

    temperature: float  # logits are divided by it
    quantiles: np.ndarray  # float32 (QUANTILES,)
    valid: CalibrationSet | None = None  # what promises rest on; earlier versions do not have it

    def ood_threshold(self, keep: float = KEEP) -> float:
        """Say how familiar the least familiar of a share (0..1) of valid's photographs is.

        It is a little less, so that the photograph itself is kept wherever its last digits come
        out otherwise: on another machine, in another company, from an exported file.
        """
        return self.quantiles[round(1000 * (1 - keep))].item() - ROUNDING


class ValidMetrics(NamedTuple):
    """How the network did on valid in the epoch that was kept."""

    epoch: int  # 0: the solved head
    valid_loss: float  # mean cross-entropy in nats, without the temperature
    valid_accuracy: float  # 0..1
    valid_images: int
    precision: str  # as PyTorch calls it, "torch.float32"


@dataclass(frozen=True)
class NetworkInfo:
    """What a network's file knows: how to prepare a photograph, and what the outputs mean."""

    arch: str
    preprocessing: Preprocessing
    categories: list[str]  # in the order of the network's outputs
    names: list[str]  # parallel to the categories
    calibration: Calibration
    metrics: ValidMetrics
    seed: int
    command: str  # that trained it
    date: str  # ISO 8601, UTC
    versions: dict[str, str]  # of Python and the packages

    def __getitem__(self, entry: str) -> Any:
        """Answer `info["names"]`, as applications of version 1 ask."""
        return getattr(self, entry)

    def entries(self) -> dict[str, Any]:
        """Turn it into plain data, under the names that files have."""
        return {
            "arch": self.arch,
            "preprocessing": preprocessing_entries(self.preprocessing),
            "categories": self.categories,
            "names": self.names,
            "calibration": {
                "temperature": self.calibration.temperature,
                "quantiles": self.calibration.quantiles.tolist(),
                "valid": _encode_valid(self.calibration.valid),
            },
            "figures": self.metrics._asdict(),
            "seed": self.seed,
            "command": self.command,
            "date": self.date,
            "versions": self.versions,
        }

    def summary(self) -> dict[str, Any]:
        """Say in plain data which network this is, for a report."""
        metrics = self.metrics
        return {
            "arch": self.arch,
            "image_size": self.preprocessing.crop,
            "epoch": metrics.epoch,
            "valid_accuracy": metrics.valid_accuracy,
            "valid_images": metrics.valid_images,
            "seed": self.seed,
            "date": self.date,
            "command": self.command,
            "versions": self.versions,
        }

    @classmethod
    def from_entries(cls, entries: dict[str, Any]) -> "NetworkInfo":
        """Read what `entries` wrote; entries of other names are ignored.

        Raises:
            KeyError, TypeError, ValueError: some are missing or impossible.
        """
        strings = dict.fromkeys(("arch", "command", "date"), str)
        check_types(entries, {**strings, "categories": list, "names": list, "seed": int})
        check_types(entries["versions"], dict.fromkeys(entries["versions"], str))
        check_types(entries.get("figures"), ValidMetrics.__annotations__)
        categories, names = entries["categories"], entries["names"]
        if not all(type(name) is str and name.isprintable() for name in categories + names):
            raise ValueError("impossible names")
        if len(names) != len(categories) or len(set(categories)) != len(categories):
            raise ValueError("impossible names")
        figures = {field: entries["figures"][field] for field in ValidMetrics._fields}
        return cls(
            preprocessing=check_preprocessing(entries["preprocessing"]),
            calibration=_check_calibration(entries["calibration"], len(categories)),
            metrics=ValidMetrics(**figures),
            **{
                key: entries[key]
                for key in ("arch", "categories", "names", "seed", "command", "date", "versions")
            },
        )


def check_types(entries: Any, expected: dict[str, Any]) -> None:
    """See that a dict has entries of some names, each of its type or of one of a tuple of types.

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


def _encode_valid(valid: CalibrationSet | None) -> dict[str, str] | None:
    """Turn what a network made of valid into text, as exported files have it: little-endian."""
    if valid is None:
        return None
    return {
        key: base64.b64encode(value.astype(kind).tobytes()).decode()
        for (key, kind), value in zip(CALIBRATION_SET.items(), valid, strict=True)
    }


def _check_valid(entries: Any, num_classes: int) -> CalibrationSet | None:
    """Read what a file says of valid, as text or as arrays.

    Raises:
        KeyError, TypeError, ValueError: it is impossible.
    """
    if entries is None:
        return None
    logs, labels, ood_score = (
        np.frombuffer(base64.b64decode(entries[key], validate=True), kind)
        if type(entries[key]) is str
        else np.asarray(entries[key])
        for key, kind in CALIBRATION_SET.items()
    )
    count = len(labels)
    if logs.ndim == 1:  # text has no shape
        logs = logs.reshape(count, num_classes)
    if (
        logs.shape != (count, num_classes)
        or labels.shape != (count,)
        or labels.dtype.kind != "i"
        or ood_score.shape != (count,)
        or not count
        or np.isnan(logs).any()
        or not (logs <= 0).all()
        or not np.isfinite(logs.max(1)).all()
        or not np.isfinite(ood_score).all()
        or not ((labels >= 0) & (labels < num_classes)).all()
    ):
        raise ValueError("impossible calibration")
    return CalibrationSet(
        *(
            each.astype(kind)
            for each, kind in zip((logs, labels, ood_score), CALIBRATION_SET.values())
        )
    )


def _check_calibration(entries: Any, num_classes: int) -> Calibration:
    check_types(entries, {"temperature": float})
    quantiles = np.asarray(entries["quantiles"])
    if (
        entries["temperature"] <= 0
        or quantiles.dtype not in (np.float32, np.float64)
        or quantiles.shape != (QUANTILES,)
        or not np.isfinite(quantiles).all()
        or (np.diff(quantiles) < 0).any()
    ):
        raise ValueError("impossible calibration")
    valid = _check_valid(entries.get("valid"), num_classes)
    return Calibration(entries["temperature"], quantiles.astype(np.float32), valid)


def preprocessing_entries(preprocessing: Preprocessing) -> dict[str, Any]:
    """Turn a preprocessing into plain data; see `check_preprocessing`."""
    return {
        field: [*value] if isinstance(value, tuple) else value
        for field, value in preprocessing._asdict().items()
    }


def check_preprocessing(entries: Any) -> Preprocessing:
    """Turn what a file says into a preprocessing.

    Raises:
        ValueError, TypeError: it is none that can be.
    """
    check_types(
        entries, {"resize": int, "crop": int, "mean": list, "std": list, "interpolation": str}
    )
    resize, crop, mean, std = (entries[key] for key in ("resize", "crop", "mean", "std"))
    if not (
        0 < crop <= IMAGE_SIZE.highest
        and crop <= resize <= 10 * crop
        and len(mean) == len(std) == 3
        and all(type(x) is float and math.isfinite(x) for x in mean + std)
        and min(std) > 0
        and entries["interpolation"] in ("bicubic", "bilinear")
    ):
        raise ValueError("impossible preprocessing")
    return Preprocessing(**{**entries, "mean": (*mean,), "std": (*std,)})
