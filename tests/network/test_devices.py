"""Where networks compute, and in which precision; no accelerator is needed for these tests."""

import pytest
import torch

import network.devices
from network.checkpoint import new_model
from network.classifier import chain
from network.devices import (
    describe_device,
    find_device,
    learning_precision,
    native_precision,
)

CPU = torch.device("cpu")


@pytest.fixture
def pretend(monkeypatch):
    """Return a function that makes PyTorch believe in an accelerator, which returns a record."""
    before = torch.backends.cudnn.allow_tf32

    def pretend(kind: str | None, count: int = 1) -> list:
        chosen, device = [], None if kind is None else torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        return chosen

    yield pretend
    torch.backends.cudnn.allow_tf32 = before


def test_an_accelerator_is_taken_where_it_is_wanted_and_there(pretend):
    pretend("mps")
    assert find_device(gpu=True) == torch.device("mps")
    assert find_device(gpu=False) == CPU
    assert "hint" in [*describe_device(CPU, False, 1)][1]
    pretend(None)
    assert find_device(gpu=True) == CPU
    assert "warning: --gpu" in [*describe_device(CPU, True, 1)][1]


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_the_native_precision_is_what_the_cpu_multiplies(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert native_precision(CPU) == expected
    assert native_precision(torch.device("cuda")) == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in PyTorch 2.6
    assert native_precision(CPU) == torch.float32


def test_learning_is_in_bfloat16_only_where_that_is_quicker(monkeypatch):
    monkeypatch.setattr(network.devices, "native_precision", lambda device: torch.bfloat16)
    cnn, lite0 = (
        new_model(arch, 3, 32, weights="none")[0] for arch in ("cnn", "efficientnet_lite0")
    )
    assert learning_precision(cnn) == torch.bfloat16
    assert learning_precision(lite0) == torch.float32
    last = len(chain(lite0.body)) - 2  # a convolution of all channels, and pooling
    assert learning_precision(lite0, last) == torch.bfloat16
