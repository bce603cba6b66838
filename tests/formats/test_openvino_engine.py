"""OpenVINO computes an exported network only where it agrees with ONNX Runtime."""

import importlib.util

import numpy as np
import pytest
from conftest import ROOT, save_small

import model_utils
from formats import onnx_file, openvino_engine
from formats.openvino_engine import TOLERANCE, accelerate
from formats.schema import Prediction

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp("small") / "small.pth"
    save_small(checkpoint, ["1", "2", "3"], ["daisy", "iris", "rose"])
    model_utils.export(checkpoint.with_suffix(".onnx"), checkpoint)
    return str(checkpoint.with_suffix(".onnx"))


def test_the_bundled_network_names_drawn_flowers_alike():
    openvino = pytest.importorskip("openvino")
    path = str(ROOT / "assets" / "flowers102.onnx")
    network = onnx_file.load(path)
    faster = accelerate(network, path)
    has_bfloat16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert faster.engine.startswith("OpenVINO" if has_bfloat16 else "ONNX Runtime")
    image = np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    one, other = network.predict(image), faster.predict(image)
    assert one.probabilities == pytest.approx(other.probabilities, abs=TOLERANCE)
    assert one.ood_score == pytest.approx(other.ood_score, abs=TOLERANCE)


def shifted(by):
    """Return what stands for an engine whose probabilities are wrong by so much."""

    def compile(network, content):
        def predict(image):
            probabilities, ood_score = network.predict(image)
            return Prediction(probabilities + by, ood_score)

        return network._replace(predict=predict, engine="another")

    return compile


def fail(network, content):
    raise RuntimeError("an operation is not known")


@pytest.mark.parametrize(
    ("compile", "is_used"),
    [
        (shifted(0), True),
        (shifted(TOLERANCE * 1.5), False),
        (shifted(np.nan), False),
        (fail, False),
        (lambda network, content: None, False),  # without bfloat16
    ],
)
def test_another_engine_is_used_where_it_agrees(path, monkeypatch, compile, is_used):
    network = onnx_file.load(path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(openvino_engine, "_compile", compile)
    assert accelerate(network, path).engine == ("another" if is_used else network.engine)


def test_without_openvino_nothing_changes(path, monkeypatch):
    network = onnx_file.load(path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert accelerate(network, path) is network
