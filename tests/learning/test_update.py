"""What an update says of the run before it."""

import numpy as np

from images.decode import Preprocessing
from images.manifest import Manifest, compare
from learning.run import HISTORY, Run
from learning.update import describe_known, describe_tuning
from running.settings import Settings

PREPROCESSING = Preprocessing(36, 32, (0.0,) * 3, (1.0,) * 3)


def row(epoch, accuracy, saved=1):
    return dict(zip(HISTORY, (epoch, 0.5, 0.5, 0.5, accuracy, 9.0, saved), strict=True))


def manifest(train, categories=("2", "10", "rose"), first=0):
    digests = np.arange(first, first + train, dtype=np.uint8)[:, None].repeat(16, 1)
    labels = np.arange(train) % len(categories)
    none = np.empty((0, 16), np.uint8), np.empty(0, np.int64)
    return Manifest([*categories], {"train": (digests, labels), "valid": none})


def update_of(photographs: Manifest) -> Run:
    return Run(Settings(), None, PREPROCESSING, "weights", 0, manifest=photographs, is_update=True)


def test_tuned_layers_and_forgotten_categories_are_mentioned():
    update = update_of(manifest(60, ("2", "10")))
    changes = compare(manifest(100), update.manifest)
    assert [*describe_tuning(update, changes)] == []  # of a head alone
    update.tuned_history = [row(0, 0.9), row(1, 0.95), row(2, 0.94, 0)]
    epochs, forgotten = describe_tuning(update, changes)
    assert "from 90.00% to 95.00%" in epochs
    assert "--update --epochs 2" in epochs
    assert "category rose" in forgotten


def test_figures_that_are_too_good_are_called_so():
    known, none = {"valid": 3, "test": 2}, {"valid": 0, "test": 0}
    [both] = describe_known(known, known)
    assert both.startswith("3 of valid and 2 of test came from train")
    assert "both networks" in both
    [one] = describe_known(none, known)
    assert one.startswith("3 of valid came from train, where the earlier network learned")
    assert [*describe_known(none, none)] == []
