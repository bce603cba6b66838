"""The cache of activations: rows in memory or in a file, and what a killed run left in it."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from learning.cache import PATTERN, discard_leftovers, open_cache
from learning.distributed import ProcessGroup
from learning.resources import Resources

SHAPE = (3, 5, 2, 4)  # views, photographs
SIZE = 3 * 5 * 2 * 4 * 4
ALL = np.arange(5)


@pytest.fixture(params=["memory", "file"])
def opened(request, tmp_path):
    memory = SIZE if request.param == "memory" else SIZE - 1
    cache = open_cache(SHAPE, torch.float32, "abc", Resources(folder=tmp_path, total_memory=memory))
    assert (cache.file is None) == (request.param == "memory")
    return cache


def in_file(folder, identity="abc", dtype=torch.float32):
    return open_cache(SHAPE, dtype, identity, Resources(folder=folder, total_memory=0))


def test_rows_come_back_by_photograph_and_view(opened):
    photographs, views = np.array([4, 0, 2]), np.array([1, 0, 1])
    rows = torch.rand(3, 2, 4)
    assert opened.missing(photographs, views).all()
    opened.write(photographs, views, rows)
    assert opened.missing(photographs, views).all()  # they do not count yet
    opened.mark_filled(photographs, views)
    assert opened.read(photographs, views).equal(rows)
    assert opened.read(photographs[::-1].copy(), views[::-1].copy()).equal(rows.flip(0))
    assert opened.missing(ALL, np.ones(5, int)).tolist() == [True, True, False, True, False]
    assert opened.missing(ALL, np.zeros(5, int)).tolist() == [False, True, True, True, True]
    assert opened.filled.sum() == 3


def test_where_it_is_kept_is_said_in_words(tmp_path):
    there = Resources(folder=tmp_path, total_memory=SIZE)
    assert open_cache(SHAPE, torch.float32, "abc", there).location == "in memory (0.0 MB)"
    assert in_file(tmp_path).location == f"in a file in {tmp_path} (0.0 MB)"


def test_a_file_outlives_a_run_that_is_killed(tmp_path):
    first = in_file(tmp_path)
    views = np.array([0, 1, 2, 1, 0])
    rows = torch.rand(5, 2, 4)
    first.write(ALL, views, rows)
    first.mark_filled(ALL, views)
    again = in_file(tmp_path)
    assert (again.filled == first.filled).all()
    assert again.filled.sum() == 5
    assert again.read(ALL, views).equal(rows)
    assert not in_file(tmp_path, "another").filled.any()
    # One of another size is no cache of this.
    assert not in_file(tmp_path, dtype=torch.float16).filled.any()


@pytest.mark.parametrize("damage", ["is gone", "is half there", "is too long"])
def test_without_a_whole_note_nothing_is_filled(tmp_path, damage):
    first = in_file(tmp_path)
    first.write(ALL, ALL % 3, torch.rand(5, 2, 4))
    first.mark_filled(ALL, ALL % 3)
    if damage == "is gone":
        first.note.unlink()
    else:
        first.note.write_bytes(b"\xff" * (1 if damage == "is half there" else 3))
    assert not in_file(tmp_path).filled.any()


def test_rows_are_on_the_disk_before_the_note_of_them(tmp_path, monkeypatch):
    cache, order = in_file(tmp_path), []
    cache.write(ALL, ALL % 3, torch.rand(5, 2, 4))
    flush = cache.mapped.flush

    class Mapped:
        def flush(self):
            order.append(cache.note.exists())
            flush()

    cache.mapped = Mapped()
    cache.mark_filled(ALL, ALL % 3)
    assert order == [False]
    assert cache.note.exists()


def test_other_kinds_of_numbers_are_kept_too(tmp_path):
    cache = in_file(tmp_path, dtype=torch.bfloat16)
    rows = torch.rand(5, 2, 4).bfloat16()
    cache.write(ALL, ALL % 3, rows)
    assert cache.read(ALL, ALL % 3).equal(rows)
    assert os.path.getsize(cache.file) == SIZE // 2


@pytest.mark.parametrize("problem", ["a full disk", "no such call", "no room after all"])
def test_a_file_that_the_disk_cannot_hold_is_not_tried(tmp_path, monkeypatch, problem):
    def fallocate(*_):
        raise OSError(28, "No space left on device")

    if problem == "a full disk":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * SIZE - 1))
    elif problem == "no such call":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", fallocate)
    assert in_file(tmp_path) is None
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_there_needs_no_more_room(tmp_path, monkeypatch):
    in_file(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert in_file(tmp_path) is not None
    assert in_file(tmp_path, "another") is None


def test_discarding_leaves_nothing(opened, tmp_path):
    opened.write(ALL, ALL % 3, torch.rand(5, 2, 4))
    opened.mark_filled(ALL, ALL % 3)
    assert len(os.listdir(tmp_path)) == len(opened.files) == (2 if opened.file else 0)
    opened.discard()
    assert os.listdir(tmp_path) == []
    opened.discard()  # once more is no error


def test_leftovers_of_killed_runs_are_cleared_but_not_what_is_in_use(tmp_path):
    used, left = in_file(tmp_path, "used"), in_file(tmp_path, "left")
    for cache in (used, left):
        cache.mark_filled(ALL, ALL % 3)
    (tmp_path / "activations.tmp").write_text("mine")
    resources = Resources(folder=tmp_path)
    discard_leftovers(resources, used.files)
    assert {*os.listdir(tmp_path)} == {used.file.name, used.note.name, "activations.tmp"}
    discard_leftovers(resources, [])
    assert os.listdir(tmp_path) == ["activations.tmp"]


@pytest.mark.parametrize("rank", [0, 1])
def test_what_another_process_uses_is_not_cleared(tmp_path, monkeypatch, rank):
    mine, others, left = (tmp_path / PATTERN.replace("*", name) for name in ("a", "b", "c"))
    for path in (mine, others, left):
        path.touch()
    monkeypatch.setattr(ProcessGroup, "gather_objects", lambda self, part: [*part, others])
    discard_leftovers(Resources(folder=tmp_path, processes=ProcessGroup(rank, 2)), [mine])
    assert left.exists() == (rank == 1)  # one process alone clears them
    assert mine.exists()
    assert others.exists()
