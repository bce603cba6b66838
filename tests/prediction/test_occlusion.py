"""Maps of the evidence for a name are hot where a network looks, and nowhere else."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import as_if_it_had_learned

from formats.schema import Prediction
from model_utils import for_inference, new_model, predict_each
from prediction.occlusion import GRID, compute_occlusion_map, cover_each, log_odds


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Leaves of noise, not square."""
    return np.random.default_rng(0).integers(0, 256, (70, 84, 3), np.uint8)


def looking_at(rows: slice, columns: slice, sign: float = 1.0):
    """A network that finds its first name the likelier the more contrast a place has."""

    def ask(items):
        for key, image in items:
            logit = sign * image[rows, columns].std() / 20
            first = 1 / (1 + np.exp(-logit))
            yield key, Prediction(np.array([first, 1 - first], np.float32), 1.0)

    return ask


def test_the_hottest_place_is_where_the_network_looks(photograph):
    evidence = compute_occlusion_map(looking_at(slice(50, 60), slice(12, 24)), photograph, 0)
    assert evidence.shape == (70, 84)
    assert evidence.dtype == np.float32
    row, column = np.unravel_index(evidence.argmax(), evidence.shape)
    assert 48 <= row < 62
    assert 10 <= column < 26
    far = evidence[:30, 50:]
    assert abs(far).max() < 0.01 * evidence.max()


def test_every_place_is_covered_and_the_rest_stays(photograph):
    changed = [(covered != photograph).any(2) for covered in cover_each(photograph)]
    assert len(changed) == GRID**2
    assert np.logical_or.reduce(changed).mean() > 0.99
    # A square of the grid and half of each neighbour, less at the edges.
    assert max(each.mean() for each in changed) < 1.2 * (2 / GRID) ** 2
    assert min(each.mean() for each in changed) > 0.8 * (1.5 / GRID) ** 2


def test_odds_tell_certain_from_more_certain():
    def odds(other):
        return log_odds(np.array([1, other], np.float32), 0)

    assert odds(1e-9) == pytest.approx(np.log(1e9), rel=1e-4)
    assert odds(1e-12) > odds(1e-9)
    assert np.isfinite(odds(0.0))
    assert np.isfinite(log_odds(np.array([0, 1], np.float32), 0))
    assert np.isfinite(log_odds(np.array([1], np.float32), 0))


@pytest.mark.parametrize(
    ("arch", "hidden"), [("cnn", ()), ("cnn", (8,)), ("efficientnet_lite0", ()), ("resnet18", ())]
)
def test_every_architecture_has_a_map(arch, hidden):
    if arch == "resnet18":
        pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model, _, _ = new_model(arch, 3, 64, hidden, weights="none")
    as_if_it_had_learned(model.body)
    model = for_inference(model)
    model.class_means = torch.eye(3)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    evidence = compute_occlusion_map(partial(predict_each, model, batch_size=8), image, 1)
    assert evidence.shape == (64, 64)
    assert np.isfinite(evidence).all()
    assert evidence.std() > 0
