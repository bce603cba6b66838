"""Exported networks: what is believed of a file, and what is refused."""

import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import save_small

import model_utils
from formats import onnx_file
from formats.onnx_file import DIGITS, SEAL, load, seal
from running.errors import InputError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

IMAGE = np.random.default_rng(0).integers(255, size=(32, 32, 3), dtype=np.uint8)

# What version 1 of the format says of a network of three categories, to the letter.
TEXTS = {
    "format_version": "1",
    "arch": '"cnn"',
    "categories": '["1", "location", "Bl\\u00fcte"]',
    "names": '["daisy", "\\ud83c\\udf3b", "rose \\\\ \\""]',
    "preprocessing": '{"resize": 36, "crop": 32, "mean": [1.0, 2.0, 3.0], '
    '"std": [4.0, 5.0, 6.0], "interpolation": "bicubic"}',
    "calibration": '{"temperature": 0.5, "quantiles": ['
    + ", ".join(str(i / 1000) for i in range(1001))
    + "]}",
    "figures": '{"epoch": 1, "valid_loss": 0.5, "valid_accuracy": 0.5, "valid_images": 2, '
    '"precision": "torch.float32"}',
    "seed": "7",
    "command": '"python train.py"',
    "date": '"2026-01-01T00:00:00+00:00"',
    "versions": '{"python": "3.11"}',
}


def graph(nodes, *weights, output=("probabilities", "familiarity")) -> "onnx.ModelProto":
    """A network of the right form, whatever its layers are."""
    helper, kind = onnx.helper, onnx.TensorProto
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("images", kind.UINT8, ["N", 32, 32, 3])],
            [
                helper.make_tensor_value_info(output[0], kind.FLOAT, ["N", 3]),
                helper.make_tensor_value_info(output[1], kind.FLOAT, ["N"]),
            ],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )


def filled(many: list[int], few: list[int], probability: float = 1 / 3) -> "onnx.ModelProto":
    """A network whose outputs are blocks of these sizes, all of one probability and of 0.5."""
    tensor, kind = onnx.helper.make_tensor, onnx.TensorProto
    return graph(
        [
            onnx.helper.make_node(
                "ConstantOfShape",
                [name],
                [output],
                value=tensor("value", kind.FLOAT, [1], [value]),
            )
            for name, output, value in (
                ("many", "probabilities", probability),
                ("few", "familiarity", 0.5),
            )
        ],
        tensor("many", kind.INT64, [len(many)], many),
        tensor("few", kind.INT64, [len(few)], few),
    )


def content_of(network: "onnx.ModelProto", **texts: str) -> bytes:
    """Serialise a network with the metadata of version 1, some of them other ones."""
    onnx.helper.set_model_props(network, {**TEXTS, **texts})
    return network.SerializeToString()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def assert_refused(path: Path) -> str:
    """See that a file ends in one sentence that names it, before or when it predicts."""
    with pytest.raises(InputError) as refusal:
        load(path).predict(IMAGE)
    sentence = str(refusal.value)
    assert str(path) in sentence
    assert sentence.isprintable()
    return sentence


# --- A file as it was exported --------------------------------------------------------


def test_the_content_tells_exported_networks(tmp_path, run_script, checkpoint):
    exported, renamed = tmp_path / "exported.pth", tmp_path / "checkpoint.onnx"
    write(exported, seal(content_of(filled([1, 3], [1]))))
    write(renamed, checkpoint.read_bytes())
    assert onnx_file.is_exported(exported)
    assert run_script("predict", exported, "--info").out.startswith("network: cnn\n")
    assert not onnx_file.is_exported(renamed)
    same = [run_script("predict", path, "--info") for path in (renamed, checkpoint)]
    assert same[0] == same[1]
    os.mkfifo(tmp_path / "pipe")
    for other in ("missing", ".", "pipe", write(tmp_path / "empty", b"")):
        assert not onnx_file.is_exported(tmp_path / other)


# --- A file that was changed since ----------------------------------------------------


def test_a_changed_file_is_used_but_told_apart(tmp_path):
    whole = seal(content_of(filled([1, 3], [1])))
    other_tool = onnx.load_from_string(whole)
    other_tool.producer_name = "another tool"
    for content in (
        whole[: -len(SEAL) - DIGITS],
        whole[:-1] + (b"0" if whole[-1:] != b"0" else b"1"),
        other_tool.SerializeToString(),
        content_of(filled([1, 3], [1]), names='["a", "b", "c"]'),
    ):
        network = load(write(tmp_path / "a.onnx", content))
        assert not network.sealed
        assert network.predict(IMAGE).probabilities.sum() == pytest.approx(1)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A small exported network."""
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    save_small(path.with_suffix(".pth"), ["1", "2", "3"], ["daisy", "poppy", "rose"])
    model_utils.export(path, path.with_suffix(".pth"))
    return path


def damage(whole: bytes, rng: random.Random) -> bytes:
    """Flip bits of a file, cut it off, or take out, repeat or overwrite a piece of it."""
    size = len(whole)
    if rng.random() < 0.5:
        content = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        return bytes(content)
    start = rng.randrange(size)
    end = rng.choice([size, rng.randint(start, size), min(size, start + rng.randrange(50))])
    before, piece, after = whole[:start], whole[start:end], whole[end:]
    return rng.choice(
        [
            before,
            before + after,
            before + piece + piece + after,
            before + bytes(len(piece)) + after,
            before + rng.randbytes(len(piece)) + after,
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", ["any", "without the weights"])
def test_a_damaged_file_predicts_or_ends_in_a_sentence(small, tmp_path, part):
    whole = small.read_bytes()
    if part != "any":  # which are most of its bytes
        network = onnx.load_from_string(whole)
        for weights in network.graph.initializer:
            if len(weights.raw_data) > 1000:
                weights.raw_data = bytes(len(weights.raw_data))
        onnx.helper.set_model_props(network, {p.key: p.value for p in network.metadata_props[:-1]})
        whole = seal(network.SerializeToString())
        places = [i for i, byte in enumerate(whole) if byte]
        assert len(places) < 100_000
    path, rng = tmp_path / "a.onnx", random.Random(part)
    predicted = refused = 0
    for _ in range(300):
        if part == "any":
            content = damage(whole, rng)
        else:
            content = bytearray(whole)
            for place in rng.choices(places, k=rng.randint(1, 8)):
                content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        start = time.monotonic()
        try:
            network = load(path)
            network.predict(IMAGE)
        except InputError:
            assert_refused(path)
            refused += 1
        else:
            assert network.sealed == (bytes(content) == whole)
            predicted += 1
        assert time.monotonic() - start < 60
    assert min(predicted, refused) > 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        b"\x08\x08",  # a version, and nothing else
        b"a text",
        b"\xff\xd8\xff\xe0 as of a JPEG",
        b"PK\x03\x04 as of a checkpoint",
        b"\x08" + b"\xff" * 20,  # a number without an end
        b"\x08\x08" * 10**6,  # fields without an end
        b"\x08\x08\x3a\xff\xff\xff\xff\x0f" + bytes(100),  # a network that is cut off
        filled([1, 3], [1]).SerializeToString(),  # without metadata
        content_of(filled([1, 3], [1])).replace(b'"daisy"', b'"d\xffisy"'),  # no UTF-8
    ],
    ids=lambda content: content[:12].hex() or "empty",
)
def test_another_file_is_one_sentence(tmp_path, content):
    assert "damaged or no network" in assert_refused(write(tmp_path / "a.onnx", content))


# --- Files that nobody vouches for ----------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", '["a", "b", "\\u001b[31m"]'),
        ("names", "[" * 100_000),
        ("preprocessing", TEXTS["preprocessing"].replace("32", "33")),  # not the network's size
        ("categories", '["1", "2"]'),  # not the network's number
        ("seed", "9" * 10_000),
        ("format_version", "2"),
        ("calibration", ""),
    ],
    ids=lambda text: text[:20],
)
def test_other_metadata_are_refused(tmp_path, key, text):
    content = content_of(filled([1, 3], [1]), **{key: text})
    for each in (content, seal(content)):
        assert_refused(write(tmp_path / "a.onnx", each))


@pytest.mark.parametrize("place", ["missing", "a folder", "/dev/zero"])
def test_what_is_no_file(tmp_path, place):
    path = tmp_path / "a.onnx"
    if place == "a folder":
        path.mkdir()
    elif place != "missing":
        path.symlink_to(place)
    assert_refused(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "a.onnx"
    with open(path, "wb") as file:
        file.write(b"\x08\x08")
        file.truncate(2**31)  # takes no room on the disk
    start = time.monotonic()
    assert_refused(path)
    assert time.monotonic() - start < 5
