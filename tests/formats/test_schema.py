"""What a network's file knows comes back as it was, and is never believed unchecked."""

import base64
import copy
import dataclasses
import json
import math

import numpy as np
import pytest

from formats.schema import (
    KEEP,
    QUANTILES,
    Calibration,
    CalibrationSet,
    NetworkInfo,
    ValidMetrics,
    check_preprocessing,
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


def encode(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def assert_same(one: NetworkInfo, other: NetworkInfo) -> None:
    np.testing.assert_array_equal(one.calibration.quantiles, other.calibration.quantiles)
    for here, there in zip(one.calibration.valid, other.calibration.valid, strict=True):
        np.testing.assert_array_equal(here, there)
        assert here.dtype == there.dtype
    one, other = (
        dataclasses.replace(each, calibration=each.calibration._replace(quantiles=None, valid=None))
        for each in (one, other)
    )
    assert one == other


def test_entries_come_back_also_through_json():
    entries = INFO.entries()
    assert_same(NetworkInfo.from_entries(entries), INFO)
    assert_same(NetworkInfo.from_entries(json.loads(json.dumps(entries))), INFO)
    assert_same(NetworkInfo.from_entries({**entries, "head": 1, "state_dict": {}}), INFO)


def test_applications_may_ask_by_entry():
    assert INFO["names"] == INFO.names
    assert INFO["preprocessing"].crop == 32


IMPOSSIBLE = {
    "arch": [7, None],
    "categories": [[], 3, ["1", "1", "2"], ["1", "2"], [["1"], "2", "3"], ["1", "\n", "3"]],
    "names": [["a", "b", "\x1b[31m"], ["a", "b", "\ud800"], ["a"], "abc"],
    "preprocessing": [
        {},
        None,
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
        {},
        {"temperature": math.nan},
        {"temperature": 0.0},
        {"temperature": 1},
        {"quantiles": [0.0]},
        {"quantiles": [math.nan] * QUANTILES},
        {"quantiles": [-i / QUANTILES for i in range(QUANTILES)]},
        {"quantiles": ["0"] * QUANTILES},
        {"valid": {}},
        {"valid": "x"},
        *(
            {"valid": {**INFO.entries()["calibration"]["valid"], field: value}}
            for field, value in (
                ("labels", encode(np.array([0, 3], np.int32))),
                ("labels", encode(np.array([0, -1], np.int32))),
                ("labels", encode(np.array([0], np.int32))),
                ("labels", ""),
                ("labels", "abc"),
                ("labels", 5),
                ("familiarity", encode(np.array([0, math.nan], np.float32))),
                ("log_probabilities", encode(np.zeros((2, 2), np.float16))),
                ("log_probabilities", encode(np.full((2, 3), math.nan, np.float16))),
                ("log_probabilities", encode(np.ones((2, 3), np.float16))),
                ("log_probabilities", "%"),
            )
        ),
    ],
    "figures": [None, {"epoch": None}, {"valid_accuracy": math.inf}, {"valid_images": 2.5}],
    "seed": [True, 1.5, "0"],
    "command": [None],
    "date": [20260101],
    "versions": [{"python": 3}, "x"],
}


@pytest.mark.parametrize("key", IMPOSSIBLE)
def test_impossible_entries_are_refused(key):
    for change in [*IMPOSSIBLE[key], "is missing"]:
        entries = copy.deepcopy(INFO.entries())
        if change == "is missing":
            del entries[key]
        elif isinstance(change, dict) and change and isinstance(entries[key], dict):
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
    with pytest.raises(ValueError, match="no dict"):
        check_types([], {})


def test_a_preprocessing_is_what_its_entries_say():
    assert check_preprocessing(INFO.entries()["preprocessing"]) == INFO.preprocessing


def test_the_least_familiar_of_a_share():
    calibration = Calibration(1.0, np.linspace(0, 1, QUANTILES, dtype=np.float32))
    for keep, least in ((1, 0), (0, 1), (0.9, 0.1)):
        assert calibration.ood_threshold(keep) < least
        assert calibration.ood_threshold(keep) == pytest.approx(least, abs=2e-5)
    assert calibration.ood_threshold() == calibration.ood_threshold(KEEP)


def test_a_file_of_an_earlier_version_knows_nothing_of_valid():
    entries = copy.deepcopy(INFO.entries())
    del entries["calibration"]["valid"]
    assert NetworkInfo.from_entries(entries).calibration.valid is None
