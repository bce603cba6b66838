"""Half-precision weights: written where no name of the user's photographs changes."""

import numpy as np
import pytest
from conftest import small_info
from PIL import Image

from images.decode import Preprocessing
from network.export import add_metadata, as_file
from prediction.halves import choose_weights, compare
from running.errors import InputError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def answering(index: int) -> bytes:
    """An exported file whose network gives one answer whatever it sees."""
    helper, numpy, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    values = {"probabilities": np.eye(3, dtype=np.float32)[[index]], "familiarity": np.float32([1])}
    network = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", [f"{name}.is"], [name]) for name in values],
            "g",
            [helper.make_tensor_value_info("images", kind.UINT8, ["N", 32, 32, 3])],
            [
                helper.make_tensor_value_info(name, kind.FLOAT, ["N", *value.shape[1:]])
                for name, value in values.items()
            ],
            [numpy.from_array(value, f"{name}.is") for name, value in values.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    preprocessing = Preprocessing(36, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic")
    add_metadata(network, small_info(preprocessing))
    return as_file(network)


ONE, OTHER = (answering(index) for index in (0, 1))


@pytest.fixture
def photographs(tmp_path):
    """A folder of three pictures."""
    for i in range(3):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_halves_are_taken_where_no_name_changes(photographs):
    halved = answering(0)
    kept, note = choose_weights(ONE, halved, [str(photographs)])
    assert kept is halved
    assert note == "half-precision weights: no name of 3 photographs changes"


def test_halves_are_left_where_a_name_changes(photographs):
    kept, note = choose_weights(ONE, OTHER, [str(photographs)])
    assert kept is ONE
    assert note == "float32 weights: half precision changes 3 names of 3 photographs"
    assert choose_weights(ONE, OTHER, [str(photographs / "0.png")])[1].endswith(
        "1 name of 1 photograph"
    )


def test_without_photographs_nothing_is_known(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    kept, note = choose_weights(ONE, OTHER, [])
    assert kept is ONE
    assert note.startswith("float32 weights; with photographs")


def test_what_cannot_be_read_is_counted(photographs):
    (photographs / "3.jpg").write_bytes(b"none")
    paths = [str(photographs), "missing.jpg"]
    assert compare(ONE, ONE, paths) == (3, 0, 2)
    assert choose_weights(ONE, ONE, paths)[1].endswith(" (2 more cannot be read)")
    for none in (["missing.jpg"], [str(photographs / "3.jpg")]):
        with pytest.raises(InputError, match="none of the photographs to compare names on"):
            choose_weights(ONE, ONE, none)


def test_a_package_that_is_missing_is_named(photographs, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs onnxruntime: pip install onnxruntime"):
        choose_weights(ONE, ONE, [str(photographs)])
