"""What a network's file knows comes back as it was, and is never believed unchecked."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest

from formats.onnx_file import to_texts
from formats.schema import (
    KEEP,
    QUANTILES,
    Calibration,
    CalibrationSet,
    NetworkInfo,
    ValidMetrics,
    check_types,
)
from images.decode import Preprocessing

VALID = CalibrationSet(
    np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])).astype(np.float16),
    np.array([0, 2], np.int32),
    np.array([0.5, 0.75], np.float32),
)

INFO = NetworkInfo(
    arch="cnn",
    preprocessing=Preprocessing(36, 32, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bilinear"),
    categories=["1", "21", "location"],
    names=["daisy", "fire lily", "Blüte"],
    calibration=Calibration(0.5, np.linspace(-1, 1, QUANTILES, dtype=np.float32), VALID),
    metrics=ValidMetrics(3, 0.25, 0.75, 16, "torch.float32"),
    seed=7,
    command="python train.py flowers",
    date="2026-01-01T00:00:00+00:00",
    versions={"python": "3.11.7"},
)


def from_json(info: NetworkInfo) -> NetworkInfo:
    return NetworkInfo.from_entries({k: json.loads(text) for k, text in to_texts(info).items()})


@pytest.mark.parametrize(
    "there_and_back", [from_json, lambda i: NetworkInfo.from_entries(i.entries())]
)
@pytest.mark.parametrize("valid", [VALID, None])
def test_what_a_file_knows_comes_back(there_and_back, valid):
    info = dataclasses.replace(INFO, calibration=INFO.calibration._replace(valid=valid))
    again = there_and_back(info)
    np.testing.assert_array_equal(again.calibration.quantiles, info.calibration.quantiles)
    for ours, theirs in zip(again.calibration.valid or (), valid or (), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert dataclasses.replace(again, calibration=info.calibration) == info


IMPOSSIBLE = {
    "categories": [[], 3, ["1", "1", "2"], ["1", "2"], [["1"], "2", "3"], ["1", "\n", "3"]],
    "names": [["a", "b", "\x1b[31m"], ["a", "b", "\ud800"], "abc"],
    "preprocessing": [
        {"resize": 10**6, "crop": 10**6},
        {"crop": 0},
        {"resize": 31},
        {"crop": True},
        {"std": [1.0, 0.0, 1.0]},
        {"mean": [1.0, math.nan, 1.0]},
        {"mean": [1.0, 1.0]},
        {"interpolation": "nearest"},
    ],
    "calibration": [
        {"temperature": math.nan},
        {"temperature": 0.0},
        {"quantiles": [0.0]},
        {"quantiles": [math.nan] * QUANTILES},
        {"quantiles": [-i / QUANTILES for i in range(QUANTILES)]},
        {"valid": {}},
        *(
            {"valid": {**INFO.entries()["calibration"]["valid"], field: value}}
            for field, value in (
                ("labels", np.array([0, 3], np.int32)),
                ("labels", np.array([0, -1], np.int32)),
                ("labels", np.array([0], np.int32)),
                ("labels", "abc"),
                ("familiarity", np.array([0, math.nan], np.float32)),
                ("log_probabilities", np.zeros((2, 2), np.float16)),
                ("log_probabilities", np.full((2, 3), math.nan, np.float16)),
                ("log_probabilities", np.ones((2, 3), np.float16)),
            )
        ),
    ],
    "figures": [{"epoch": None}, {"valid_accuracy": math.inf}, {"valid_images": 2.5}],
    "seed": [True, 1.5],
    "versions": [{"python": 3}],
}


@pytest.mark.parametrize("key", IMPOSSIBLE)
def test_impossible_values_are_refused(key):
    for change in IMPOSSIBLE[key]:
        entries = copy.deepcopy(INFO.entries())
        if isinstance(change, dict):
            entries[key].update(change)
        else:
            entries[key] = change
        with pytest.raises((KeyError, TypeError, ValueError)):
            NetworkInfo.from_entries(entries)


def test_numbers_are_finite_and_true_is_none():
    check_types({"a": 1, "b": 0.5, "c": None}, {"a": int, "b": float, "c": (str, type(None))})
    for value in (True, 1.0, None, "1"):
        with pytest.raises(ValueError, match="a is of another type"):
            check_types({"a": value}, {"a": int})
    with pytest.raises(ValueError, match="not finite"):
        check_types({"a": math.inf}, {"a": float})


def test_a_threshold_keeps_its_share_of_valid():
    calibration = Calibration(1.0, np.linspace(0, 1, QUANTILES, dtype=np.float32))
    for keep, least in ((1, 0), (0, 1), (0.9, 0.1)):
        assert calibration.ood_threshold(keep) < least
        assert calibration.ood_threshold(keep) == pytest.approx(least, abs=2e-5)
    assert calibration.ood_threshold() == calibration.ood_threshold(KEEP)
