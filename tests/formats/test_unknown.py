"""Files that are no checkpoint of train.py: each kind gets a sentence of its own."""

import argparse
import io
import pickle
import struct
import time
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch
from archives import rezipped, saved, with_pickle
from torch import nn

from formats.pth import read_archive
from formats.unknown import MOST_OPCODES, TENSOR, describe_unknown_file, follow_pickle
from images.decode import LFS_POINTER
from network.checkpoint import read_entries
from network.weights import read_weights
from prediction.inputs import check_checkpoint_file
from running.errors import InputError

MODEL = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
STATE = MODEL.state_dict()
STUDENTS = {"arch": "resnet18", "class_to_idx": {"1": 0, "10": 1}, "state_dict": STATE, "epochs": 3}
OURS = {"format_version": 4, "state_dict": dict(STATE)}


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


SAVED = 'torch.save({}, "weights.pth") writes what train.py --weights takes'
NOT_READ = f"which is not read here; in the project it comes from, {SAVED}".format(
    "model.state_dict()"
)
WHOLE = f"holds a whole Python object (torch.nn.modules.container.Sequential), {NOT_READ}"
START = "python train.py DATA_DIR --arch {} --weights {{path}} starts from"
IS_STATE = "is a state dict of PyTorch, which knows no categories; " + START.format("NAME") + " it"
DAMAGED = "is damaged or no checkpoint of train.py"

# What is in a file, and what is said of it, to the letter.
KINDS = {
    "nothing": (b"", "is empty"),
    "a pointer": (
        LFS_POINTER + b"v1\noid sha256:00\nsize 9\n",
        "is a Git LFS pointer; git lfs pull fetches the file itself",
    ),
    "a page": (b"<!doctype html>", DAMAGED),
    "an ONNX file": (b"\x08\x08\x3a\x00", "is an ONNX file, which only predict.py reads"),
    "safetensors": (
        struct.pack("<Q", 2) + b'{"a": 1}',
        "is a safetensors file; " + SAVED.format("safetensors.torch.load_file('{path}')"),
    ),
    "a state dict": (saved(STATE), IS_STATE),
    "a plain state dict": (saved(dict(STATE)), IS_STATE),
    "a state dict of old": (saved_before_zip(STATE), IS_STATE),
    "parameters": (saved(dict(MODEL.named_parameters())), IS_STATE),
    "a model": (saved(MODEL), WHOLE),
    "a model of old": (saved_before_zip(MODEL), WHOLE),
    "TorchScript": (
        scripted(),
        "is a TorchScript archive; " + SAVED.format("torch.jit.load('{path}').state_dict()"),
    ),
    "a student's": (
        saved(STUDENTS),
        "is a checkpoint of another project, with the entries arch, class_to_idx, state_dict, "
        f"epochs; {START.format('resnet18')} its weights, if they fit that network",
    ),
    "a tutorial's": (
        saved({"model_state_dict": STATE, "arch": "; rm -rf", **dict.fromkeys("abcdef", 1)}),
        "is a checkpoint of another project, with the entries model_state_dict, arch, a, b, c, d "
        f"and 2 more; {START.format('NAME')} its weights, if they fit that network",
    ),
    "a student's with a model": (
        saved({**STUDENTS, "classifier": MODEL}),
        "is a file of another project, with the entries arch, class_to_idx, state_dict, epochs, "
        "classifier, and holds a Python object (torch.nn.modules.container.Sequential), "
        + NOT_READ,
    ),
    "another's settings": (
        saved({"args": argparse.Namespace(lr=1)}),
        "is a file of another project, with the entry args, and holds a Python object "
        f"(argparse.Namespace), {NOT_READ}",
    ),
    "no weights": (
        saved({"\x1b[31m": 1, "model": {"a": 1}}),
        "is not a checkpoint of train.py: it is a file of another project, with the entries "
        "\\x1b[31m, model, and holds no state dict that train.py --weights could start from",
    ),
    "a list": (saved([1, 2]), "is not a checkpoint of train.py"),
    "ours, cut off": (saved(OURS)[:-100], DAMAGED),
    "a state dict, cut off": (saved(STATE)[:-100], DAMAGED),
    "an archive of something else": (rezipped(saved(1)).replace(b"data.pkl", b"mata.pkl"), DAMAGED),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_sentence(path, kind):
    content, words = KINDS[kind]
    path.write_bytes(content)
    sentence = f"{path} {words}".replace("{path}", str(path))
    with pytest.raises(InputError) as caught:
        read_entries(path, "calibration")
    assert str(caught.value) == describe_unknown_file(path) == sentence
    assert sentence.isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_archive_is_told_before_torch_is_there(path, kind):
    content, words = KINDS[kind]
    path.write_bytes(content)
    if kind == "an ONNX file" or zipfile.is_zipfile(path):
        check_checkpoint_file(str(path))
    else:
        with pytest.raises(InputError) as caught:
            check_checkpoint_file(str(path))
        assert str(caught.value) == f"{path} {words}".replace("{path}", str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_of_fewer_kinds(path, kind):
    content, words = KINDS[kind]
    path.write_bytes(content)
    if "--arch" in words:  # what it says has to be true
        assert {*read_weights(path, "cnn")} == {*STATE}
    else:
        with pytest.raises(InputError) as caught:
            read_weights(path, "cnn")
        of_data = "holds no state dict" if "is not a checkpoint" in words else words
        of_data = of_data.replace("checkpoint of train.py", "file of weights")
        assert str(caught.value) == f"{path} {of_data}".replace("{path}", str(path))


def test_ours_is_damaged_if_it_is(path):
    whole = saved(OURS)
    numbers = STATE["0.weight"].numpy().tobytes()
    assert numbers in whole
    path.write_bytes(whole.replace(numbers, bytes(len(numbers))))
    with pytest.raises(InputError, match=f"{path} {DAMAGED}"):
        read_archive(path)


def test_no_permission_is_no_damage(path, monkeypatch):
    path.write_bytes(saved(STATE))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    for module in ("builtins", "io"):
        monkeypatch.setattr(f"{module}.open", refuse)
    for read in (
        lambda: check_checkpoint_file(str(path)),
        lambda: read_archive(path),
        lambda: read_weights(path, "cnn"),
    ):
        with pytest.raises(InputError, match="a.pth cannot be read: Permission denied"):
            read()


def test_a_name_for_the_shell_is_quoted(tmp_path):
    path = tmp_path / "my weights.pth"
    path.write_bytes(saved(STATE))
    assert f"--weights '{path}' starts" in describe_unknown_file(path)


# --- Pickles --------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_followed(protocol):
    value = {"a": "b", "b": {"c": 1, 2: "a"}, "one": {"a": {"b": "b"}}, "list": [{"x": "y"}]}
    value |= {f"{i}": "a" for i in range(2000)}  # which are set by the thousand
    kept = {**value, "b": {"c": None}, "list": None}
    assert follow_pickle(io.BytesIO(pickle.dumps(value, protocol))) == (kept, None)
    _, alien = follow_pickle(io.BytesIO(pickle.dumps([OrderedDict(a=print)], protocol)))
    assert alien in ("builtins.print", "__builtin__.print")


def test_tensors_are_told_from_other_numbers():
    with io.BytesIO(saved_before_zip({"a": torch.ones(2), "b": 2})) as file:
        for _ in range(3):
            follow_pickle(file)
        assert follow_pickle(file) == ({"a": TENSOR, "b": None}, None)


@pytest.mark.parametrize("content", [b"", b"}", b"a.", b"(", b"e.", b"h\x00.", b"q\x00", b"N\x86."])
def test_what_is_no_pickle_raises(content):
    with pytest.raises((ValueError, IndexError, KeyError)):
        follow_pickle(io.BytesIO(content))


def test_endless_opcodes_take_no_time(path):
    path.write_bytes(with_pickle(b"N0" * 1_900_000 + b"N."))
    start = time.monotonic()
    assert describe_unknown_file(path) == f"{path} {DAMAGED}"
    assert time.monotonic() - start < 5
    few = b"N0" * (MOST_OPCODES // 2 - 1)
    assert follow_pickle(io.BytesIO(few + b"N.")) == (None, None)
    with pytest.raises(ValueError, match="no end"):
        follow_pickle(io.BytesIO(few + b"N0N."))
