"""What work on many photographs may use: memory, and the disk where memory is short."""

import os
from types import SimpleNamespace

import pytest

from learning.resources import ProcessGroup, Resources


def test_processes_share_memory_and_half_of_the_free_disk(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=600))
    resources = Resources(folder=tmp_path, total_memory=1000, processes=ProcessGroup(1, 3))
    assert resources.memory == 333
    assert (resources.fits_on_disk(100), resources.fits_on_disk(101)) == (True, False)


@pytest.mark.parametrize("free", [10**9, 1000], ids=["file", "memory"])
def test_where_memory_is_short_a_file_without_a_name_has_to_do(tmp_path, monkeypatch, free):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    numbers = Resources(folder=tmp_path, total_memory=0).allocate(300)
    assert numbers.zero_().sum() == 0
    assert os.listdir(tmp_path) == []
