"""Where networks compute, and in which precision; no accelerator is needed for these tests."""

import ctypes
import os

import numpy as np
import pytest
import torch

import network.devices
from images.batches import ACCELERATOR_BATCH, EVALUATION_BATCH
from network.checkpoint import new_model
from network.classifier import chain
from network.devices import (
    describe_device,
    find_device,
    keep_freed_memory,
    learning_precision,
    move_if_it_fits,
    native_precision,
    rows_at_once,
    to_device,
)
from running.environment import Launch
from running.errors import InputError

CPU = torch.device("cpu")


def pretend(monkeypatch, kind: str | None, count: int = 1) -> list:
    """Let PyTorch believe in an accelerator; return the devices that are chosen."""
    chosen = []
    device = None if kind is None else torch.device(kind)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.fixture(autouse=True)
def tf32():
    """Choosing a GPU is for a whole process; what it changes is put back."""
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_the_cpu_is_chosen_where_no_accelerator_is_wanted_or_there_is_none(monkeypatch):
    pretend(monkeypatch, "cuda")
    assert find_device(gpu=False) == CPU
    pretend(monkeypatch, None)
    assert find_device(gpu=True) == CPU


def test_every_process_gets_a_gpu_of_its_own(monkeypatch):
    chosen = pretend(monkeypatch, "cuda", 2)
    for rank in (0, 1):
        device = find_device(True, Launch(rank + 2, 4, rank, 2))
        assert device == torch.device("cuda", rank)
    assert chosen == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert torch.backends.cudnn.allow_tf32 is False


def test_more_processes_than_gpus_is_one_sentence(monkeypatch):
    chosen = pretend(monkeypatch, "cuda", 2)
    words = "torchrun has started more processes than the 2 accelerators of this machine"
    with pytest.raises(InputError, match=words):
        find_device(True, Launch(0, 3, 0, 3))
    assert chosen == []


def test_another_kind_of_accelerator_is_taken_as_it_is(monkeypatch):
    chosen = pretend(monkeypatch, "mps")
    assert find_device(True) == torch.device("mps")
    assert chosen == []


@pytest.mark.parametrize(
    ("device", "wanted", "processes", "threads", "kind", "expected"),
    [
        ("cpu", False, 1, 1, None, ["device: cpu, 1 thread"]),
        ("cpu", False, 1, 4, None, ["device: cpu, 4 threads"]),
        ("cpu", False, 2, 1, None, ["device: cpu, 2 processes of 1 thread"]),
        (
            "cpu",
            True,
            1,
            2,
            None,
            [
                "device: cpu, 2 threads",
                "warning: --gpu, but PyTorch finds no accelerator here; the CPU does the work",
            ],
        ),
        (
            "cpu",
            False,
            1,
            2,
            "cuda:0",
            ["device: cpu, 2 threads", "hint: an accelerator (cuda:0) is idle; try --gpu"],
        ),
        ("cuda:0", True, 1, 2, "cuda:0", ["device: cuda:0"]),
        ("cuda:0", True, 3, 2, "cuda:0", ["device: 3 processes of one cuda"]),
    ],
)
def test_what_is_said_of_the_device(
    monkeypatch, device, wanted, processes, threads, kind, expected
):
    pretend(monkeypatch, kind)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert [*describe_device(torch.device(device), wanted, processes)] == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, torch.float32),
        ({"avx512": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_the_native_precision_is_what_the_cpu_multiplies(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert native_precision(CPU) == expected
    assert native_precision(torch.device("cuda")) == torch.float32


def test_an_older_pytorch_does_not_tell_and_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
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


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_learns_in_the_half_precision_that_it_has(monkeypatch, native, expected):
    class OnGpu:
        mean = torch.empty(0, device="meta")

    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a: asked.append(a) or native)
    monkeypatch.setattr(OnGpu, "mean", type("Mean", (), {"device": torch.device("cuda")}))
    assert learning_precision(OnGpu()) == expected
    assert asked == [(False,)]  # emulated, it would be slow


def test_arrays_and_tensors_come_to_the_cpu_uncopied():
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    there = to_device(array, CPU)
    assert torch.is_tensor(there)
    assert (there.numpy() == array).all()
    tensor = torch.ones(3)
    assert to_device(tensor, CPU) is tensor
    assert to_device(tensor, torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize(("free", "moves"), [(3 * 4000, True), (3 * 4000 - 1, False)])
def test_a_large_tensor_moves_where_a_third_of_the_memory_will_do(monkeypatch, free, moves):
    x = torch.ones(1000)
    assert move_if_it_fits(x, CPU) is x
    moved = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: moved.append(device) or "there")
    cuda = torch.device("cuda")
    assert move_if_it_fits(x, cuda) is ("there" if moves else x)
    assert moved == [cuda] * moves


def test_a_cpu_computes_small_batches():
    assert rows_at_once(CPU) == EVALUATION_BATCH
    assert rows_at_once(torch.device("cuda")) == ACCELERATOR_BATCH


@pytest.mark.parametrize("library", ["glibc", "another", "not posix"])
def test_freed_memory_is_kept_where_the_library_can(monkeypatch, library):
    calls = []

    class Library:
        if library != "another":

            def mallopt(self, parameter, value):
                calls.append((parameter, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(os, "name", "nt" if library == "not posix" else "posix")
    keep_freed_memory()
    monkeypatch.undo()  # pytest itself needs to know the system
    expected = [(-8, 2), (-4, 0), (-1, 2**31 - 1)]
    assert calls == (expected if library == "glibc" else [])
