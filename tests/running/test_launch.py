"""What torchrun says of a process."""

import pytest

from running.environment import Launch

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture(autouse=True)
def without_torchrun(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_torchrun_a_process_is_the_only_one(monkeypatch):
    launch = Launch.from_environment()
    assert launch == Launch() == (0, 1, 0, 1)
    assert launch.is_rank_zero
    assert not launch.is_distributed
    monkeypatch.setenv("WORLD_SIZE", "4")  # some batch systems set that, too
    assert Launch.from_environment() == Launch()


def test_torchruns_variables_are_read(monkeypatch):
    for name, value in zip(VARIABLES, "5823"):
        monkeypatch.setenv(name, value)
    launch = Launch.from_environment()
    assert launch == Launch(rank=5, size=8, local_rank=2, local_world_size=3)
    assert not launch.is_rank_zero
    assert launch.is_distributed


def test_variables_that_are_missing_have_their_defaults(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    assert Launch.from_environment() == Launch()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_is_the_primary_one(rank):
    assert Launch(rank, 2).is_rank_zero == (rank == 0)
    assert Launch(rank, 2).is_distributed
