"""What an update says of the run before it."""

import numpy as np

from images.decode import Preprocessing
from images.manifest import Manifest, compare
from learning.run import HISTORY, Run
from learning.update import describe_known, describe_tuning
from running.settings import Settings


def test_tuned_layers_and_forgotten_categories_are_mentioned():
    digests = np.arange(60, dtype=np.uint8)[:, None].repeat(16, 1)
    before = Manifest(["2", "10", "rose"], {"train": (digests, np.arange(60) % 3)})
    after = Manifest(["2", "10"], {"train": (digests[:40], np.arange(40) % 2)})
    preprocessing = Preprocessing(36, 32, (0.0,) * 3, (1.0,) * 3)
    run = Run(Settings(), None, preprocessing, "weights", 0, manifest=after, is_update=True)
    changes = compare(before, after)
    assert [*describe_tuning(run, changes)] == []  # of a head alone
    run.tuned_history = [
        dict(zip(HISTORY, (epoch, 0.5, 0.5, accuracy, 9.0)))
        for epoch, accuracy in enumerate((0.9, 0.96, 0.95))
    ]
    epochs, forgotten = describe_tuning(run, changes)
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
