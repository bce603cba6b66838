"""What a network's file knows beside its weights, the same for a checkpoint and for ONNX.

`NetworkInfo.entries` turns it into plain data and arrays, which formats/pth.py keeps as tensors
and formats/onnx_file.py as JSON. `NetworkInfo.from_entries` checks all that a file says of it.
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

# Answers that are not names: the photograph looks like nothing in the training data, its name is
# not certain enough for the promise, or it cannot be read.
UNKNOWN, REVIEW, UNREADABLE = NO_NAMES = "unknown", "review", "unreadable"

ROUNDING = 1e-5  # of an OOD score, which is a cosine

# Numbers that a file keeps of valid's photographs; of more of them it keeps a random part.
LARGEST_VALID = 1_000_000

QUANTILES = 1001  # of the OOD scores of valid's photographs, from the lowest to the highest

# The entries that files hold as they are
PLAIN = {
    "arch": str,
    "categories": list,
    "names": list,
    "seed": int,
    "command": str,
    "date": str,
    "versions": dict,
}

# What files call the fields of `CalibrationSet`, and their types there.
CALIBRATION_SET = {"log_probabilities": "<f2", "labels": "<i4", "familiarity": "<f4"}


class Prediction(NamedTuple):
    """What a network predicts for a photograph."""

    probabilities: np.ndarray  # float32 (C,), 0..1
    ood_score: float  # -1..1: the highest cosine similarity of its logits with a class mean


class CalibrationSet(NamedTuple):
    """Predictions for the photographs of valid, each with the temperature fitted on the others."""

    log_probabilities: np.ndarray  # float16 (V, C)
    labels: np.ndarray  # the index of each one's category: int32 (V,)
    ood_score: np.ndarray  # float32 (V,)


class Calibration(NamedTuple):
    """What calibrates probabilities and detects photographs of something else."""

    temperature: float  # logits are divided by it
    quantiles: np.ndarray  # float32 (QUANTILES,)
    valid: CalibrationSet | None = None  # what promises rest on; earlier versions do not have it

    def ood_threshold(self, keep: float = KEEP) -> float:
        """Return the OOD score that a share (0..1) of valid's photographs reaches.

        It is a little lower, so that the photograph at the threshold is kept where its last digits
        differ: on another machine, in another batch, from an exported file.
        """
        return self.quantiles[round(1000 * (1 - keep))].item() - ROUNDING


class ValidMetrics(NamedTuple):
    """Metrics of the network on valid, or in a cross-validation, in the epoch that was kept."""

    epoch: int  # 0: the linear probe
    valid_loss: float  # mean cross-entropy in nats, without the temperature
    valid_accuracy: float  # 0..1
    valid_images: int
    precision: str  # as PyTorch calls it, "torch.float32"
    folds: int = 0  # of a cross-validation, in the place of valid


@dataclass(frozen=True)
class NetworkInfo:
    """How to prepare a photograph for a network, and what its outputs mean."""

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
        """Turn it into plain data and, of the calibration, arrays, under the names of files."""
        calibration, valid = self.calibration, self.calibration.valid
        kept = {
            "temperature": calibration.temperature,
            "quantiles": calibration.quantiles,
            "valid": valid
            and {key: x.astype(kind) for (key, kind), x in zip(CALIBRATION_SET.items(), valid)},
        }
        return {
            **{field: getattr(self, field) for field in PLAIN},
            "preprocessing": preprocessing_entries(self.preprocessing),
            "calibration": kept,
            "figures": {k: v for k, v in self.metrics._asdict().items() if k != "folds" or v},
        }

    def summary(self) -> dict[str, Any]:
        """Describe the network in plain data, for a report."""
        chosen = "epoch", "valid_accuracy", "valid_images", "folds"
        return {
            "arch": self.arch,
            "image_size": self.preprocessing.crop,
            **{key: getattr(self.metrics, key) for key in chosen},
            **{key: getattr(self, key) for key in ("seed", "date", "command", "versions")},
        }

    @classmethod
    def from_entries(cls, entries: dict[str, Any]) -> "NetworkInfo":
        """Read what `entries` wrote; entries of other names are ignored.

        Arrays may also be tensors, lists or little-endian bytes in base64. Raises AttributeError,
        KeyError, TypeError or ValueError if some are missing or impossible.
        """
        check_types(entries, PLAIN)
        check_types(entries["versions"], dict.fromkeys(entries["versions"], str))
        figures = {"folds": 0} | (entries.get("figures") or {})  # earlier versions have no folds
        check_types(figures, ValidMetrics.__annotations__)
        categories, names = entries["categories"], entries["names"]
        if (
            not all(type(name) is str and name.isprintable() for name in categories + names)
            or len(names) != len(categories)
            or len(set(categories)) != len(categories)
        ):
            raise ValueError("impossible names")
        return cls(
            preprocessing=check_preprocessing(entries["preprocessing"]),
            calibration=_check_calibration(entries["calibration"], len(categories)),
            metrics=ValidMetrics(*(figures[field] for field in ValidMetrics._fields)),
            **{key: entries[key] for key in PLAIN},
        )


def check_types(entries: Any, expected: dict[str, Any]) -> None:
    """Raise ValueError unless a dict has these entries, each of its type or of one of several.

    Numbers are finite, and True is no number.
    """
    if type(entries) is not dict:
        raise ValueError("no dict")
    for key, types in expected.items():
        value = entries.get(key)
        if type(value) not in (types if isinstance(types, tuple) else (types,)):
            raise ValueError(f"{key} is of another type")
        if type(value) is float and not math.isfinite(value):
            raise ValueError(f"{key} is not finite")


def _check_calibration(entries: Any, num_classes: int) -> Calibration:
    check_types(entries, {"temperature": float})
    quantiles = np.asarray(entries["quantiles"])
    if (
        entries["temperature"] <= 0
        or quantiles.dtype.kind != "f"
        or quantiles.shape != (QUANTILES,)
        or not np.isfinite(quantiles).all()
        or (np.diff(quantiles) < 0).any()
    ):
        raise ValueError("impossible calibration")
    valid = entries.get("valid")
    return Calibration(
        entries["temperature"],
        quantiles.astype(np.float32),
        None if valid is None else _check_calibration_set(valid, num_classes),
    )


def _check_calibration_set(entries: Any, num_classes: int) -> CalibrationSet:
    logs, labels, ood_scores = (
        np.frombuffer(base64.b64decode(entries[key], validate=True), kind)
        if type(entries[key]) is str
        else np.asarray(entries[key])
        for key, kind in CALIBRATION_SET.items()
    )
    logs = logs.reshape(len(labels), num_classes)
    if (
        labels.dtype.kind != "i"
        or not labels.shape == ood_scores.shape == (len(logs),) != (0,)
        or np.isnan(logs).any()
        or not (logs <= 0).all()
        or not np.isfinite(logs.max(1)).all()
        or not np.isfinite(ood_scores).all()
        or not ((labels >= 0) & (labels < num_classes)).all()
    ):
        raise ValueError("impossible calibration")
    arrays = zip((logs, labels, ood_scores), CALIBRATION_SET.values())
    return CalibrationSet(*(array.astype(kind) for array, kind in arrays))


def preprocessing_entries(preprocessing: Preprocessing) -> dict[str, Any]:
    """Turn a preprocessing into plain data; see `check_preprocessing`."""
    return {
        field: [*value] if isinstance(value, tuple) else value
        for field, value in preprocessing._asdict().items()
    }


def check_preprocessing(entries: Any) -> Preprocessing:
    """Read what `preprocessing_entries` wrote; raise TypeError or ValueError if impossible."""
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
