"""Files that are no checkpoint of train.py: a sentence names what each is, and what to type."""

import argparse
import io
import struct
import warnings
import zipfile

import pytest
import torch
from archives import rezipped, saved
from torch import nn

from images.decode import LFS_POINTER
from network.checkpoint import read_entries
from network.weights import read_weights
from prediction.inputs import check_checkpoint_file
from running.errors import InputError

MODEL = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
STATE = MODEL.state_dict()
STUDENTS = {"arch": "resnet18", "class_to_idx": {"1": 0, "10": 1}, "state_dict": STATE, "epochs": 3}


def saved_before_zip(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def scripted() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.jit.save(torch.jit.script(MODEL), file)
    return file.getvalue()


SEQUENTIAL = "(torch.nn.modules.container.Sequential)"
START = "python train.py DATA_DIR --arch {} --weights {{path}} starts from"
DAMAGED = "is damaged or no checkpoint of train.py"

# What is in a file, and what its sentence has to name.
KINDS = {
    "nothing": (b"", "is empty"),
    "a pointer": (LFS_POINTER + b"v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    "a page": (b"<!doctype html>", DAMAGED),
    "an ONNX file": (b"\x08\x08\x3a\x00", "is an ONNX file"),
    "safetensors": (struct.pack("<Q", 2) + b'{"a": 1}', "safetensors.torch.load_file('{path}')"),
    "a state dict": (saved(STATE), START.format("NAME")),
    "parameters": (saved(dict(MODEL.named_parameters())), START.format("NAME")),
    "a state dict of old": (saved_before_zip(STATE), START.format("NAME")),
    "a student's": (saved(STUDENTS), START.format("resnet18")),
    "a tutorial's": (
        saved({"model_state_dict": STATE, "arch": "; rm -rf", **dict.fromkeys("abcdef", 1)}),
        START.format("NAME"),
    ),
    "a model": (saved(MODEL), SEQUENTIAL),
    "a model of old": (saved_before_zip(MODEL), SEQUENTIAL),
    "a student's with a model": (saved({**STUDENTS, "classifier": MODEL}), SEQUENTIAL),
    "another's settings": (saved({"args": argparse.Namespace(lr=1)}), "(argparse.Namespace)"),
    "TorchScript": (scripted(), "torch.jit.load('{path}').state_dict()"),
    "no weights": (saved({"\x1b[31m": 1, "model": {"a": 1}}), r"(\x1b[31m, model)"),
    "a list": (saved([1, 2]), "is not a checkpoint of train.py"),
    "ours, cut off": (saved({"format_version": 4, "state_dict": dict(STATE)})[:-100], DAMAGED),
    "an archive of something else": (rezipped(saved(1)).replace(b"data.pkl", b"mata.pkl"), DAMAGED),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


def assert_sentence(caught, path, words: str) -> None:
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} ")
    assert words.replace("{path}", str(path)) in sentence
    assert sentence.isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_is_named(path, kind):
    content, words = KINDS[kind]
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_entries(path, "calibration")
    assert_sentence(caught, path, words)
    if kind != "an ONNX file" and not zipfile.is_zipfile(path):  # found before torch is loaded
        with pytest.raises(InputError) as caught:
            check_checkpoint_file(str(path))
        assert_sentence(caught, path, words)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_sentence_says_of_weights_is_true(path, kind):
    content, words = KINDS[kind]
    path.write_bytes(content)
    if "--arch" in words:
        assert {*read_weights(path, "cnn")} == {*STATE}
    else:
        with pytest.raises(InputError, match="a.pth"):
            read_weights(path, "cnn")
