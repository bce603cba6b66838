"""What work on many photographs may use: memory, and the disk where memory is short."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import learning.resources
from learning.distributed import ProcessGroup
from learning.resources import Resources


def test_processes_share_the_memory():
    assert Resources(total_memory=1000).memory == 1000
    assert Resources(total_memory=1000, processes=ProcessGroup(1, 3)).memory == 333


def test_the_default_is_read_when_resources_are_made(monkeypatch):
    assert Resources().memory == learning.resources.CACHE_MEMORY
    monkeypatch.setattr(learning.resources, "CACHE_MEMORY", 77)
    assert Resources().memory == 77


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_files_take_half_of_the_free_disk_of_all_processes_together(
    monkeypatch, tmp_path, size, fits
):
    asked = []

    def disk_usage(folder):
        asked.append(folder)
        return SimpleNamespace(free=600)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert Resources(folder=tmp_path, processes=ProcessGroup(0, 3)).fits_on_disk(size) == fits
    assert asked == [tmp_path]


def test_numbers_lie_in_memory_or_else_in_a_file_without_a_name(tmp_path, monkeypatch):
    mapped, memmap = [], np.memmap
    monkeypatch.setattr(np, "memmap", lambda *a, **k: mapped.append(k["shape"]) or memmap(*a, **k))
    in_memory = Resources(folder=tmp_path, total_memory=4 * 6).allocate(2, 3)
    assert mapped == []
    in_file = Resources(folder=tmp_path, total_memory=4 * 6 - 1).allocate(2, 3)
    assert mapped == [(2, 3)]
    for numbers in (in_memory, in_file):
        assert numbers.dtype == torch.float32
        assert numbers.shape == (2, 3)
        numbers.copy_(torch.arange(6).view(2, 3))
        assert numbers.sum() == 15
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("problem", ["a full disk", "no such call", "no such folder"])
def test_without_room_on_the_disk_memory_has_to_do(tmp_path, monkeypatch, problem):
    folder = tmp_path
    if problem == "a full disk":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    elif problem == "no such call":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        folder = tmp_path / "nowhere"
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    monkeypatch.setattr(np, "memmap", None)
    numbers = Resources(folder=folder, total_memory=0).allocate(300)
    assert numbers.shape == (300,)
    assert os.listdir(tmp_path) == []
