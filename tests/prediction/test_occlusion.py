"""Maps of the evidence for a name are hot where a network looks, and nowhere else."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import as_if_it_had_learned
from PIL import Image

from formats.schema import Prediction
from images.decode import Preprocessing
from model_utils import for_inference, new_model, predict_each
from prediction.occlusion import DARKEST, compute_occlusion_map, light_evidence


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


def test_only_the_evidence_is_lit(photograph, tmp_path):
    path = tmp_path / "leaves.png"
    Image.fromarray(photograph[:, :70]).save(path)
    preprocessing = Preprocessing(70, 70, (0, 0, 0), (1, 1, 1))
    ask = looking_at(slice(50, 60), slice(10, 20))
    lit = light_evidence(ask, preprocessing, str(path), 0)
    assert abs(lit[55, 15].astype(int) - photograph[55, 15]).max() < 40
    assert np.array_equal(
        lit[:30, 40:], (photograph[:30, 40:70] * np.float32(DARKEST)).astype(np.uint8)
    )
    none = light_evidence(looking_at(slice(50, 60), slice(10, 20), 0), preprocessing, str(path), 0)
    assert none.max() <= 255 * DARKEST
    assert light_evidence(ask, preprocessing, str(tmp_path / "gone.png"), 0) is None
