"""Weights in half precision: which ones, and what is computed with them."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from network.export import FEWEST_HALVED, halve_weights  # noqa: E402


def network(**weights: np.ndarray) -> "onnx.ModelProto":
    """A network that adds up the products of its input, N x 64, with each of its weights."""
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("MatMul", ["x", name], [f"{name}.x"]) for name in weights]
    nodes.append(helper.make_node("Sum", [f"{name}.x" for name in weights], ["y"]))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", kind.FLOAT, ["N", 64])],
            [helper.make_tensor_value_info("y", kind.FLOAT, ["N", "M"])],
            [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def run(model: "onnx.ModelProto") -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": random(5, 64)})[0]


def test_only_weights_that_fit_and_save_something_are_halved():
    large = random(64, 32)
    beyond = large.copy()
    beyond[0, 0] = 70_000  # more than float16 holds
    weights = {
        "large": large,
        "beyond": beyond,
        "few": random(64, FEWEST_HALVED // 64 - 1)[:, :1],
        "vector": random(64),
        "double": large.astype(np.float64),
    }
    model = network(**weights)
    halved = halve_weights(model)
    kinds = {each.name: each.data_type for each in halved.graph.initializer}
    assert kinds.pop("large.half") == onnx.TensorProto.FLOAT16
    assert kinds.keys() == weights.keys() - {"large"}
    before = {each.name: each.data_type for each in model.graph.initializer}
    assert kinds == {name: before[name] for name in kinds}
    assert [node.op_type for node in halved.graph.node].count("Cast") == 1
    assert before["large"] == onnx.TensorProto.FLOAT  # the network itself is as it was


def test_a_halved_network_computes_in_float32():
    large = random(64, 32)
    halved = halve_weights(network(w=large))
    onnx.checker.check_model(halved)
    rounded = run(network(w=large.astype(np.float16).astype(np.float32)))
    assert np.array_equal(run(halved), rounded)
    assert not np.array_equal(run(network(w=large)), rounded)
