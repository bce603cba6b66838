"""Shared by all tests: a small drawn data set, and networks trained on it."""

import csv
import dataclasses
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from running.threads import prepare_threads

prepare_threads()  # before torch is imported, as the scripts do

import torch
from torch import nn

import data_utils
import model_utils
import predict
import train
from formats.schema import Calibration, NetworkInfo, ValidMetrics
from images.drawn import draw_data

ROOT = Path(__file__).resolve().parent.parent

# So that drawings, of which there are few, are judged by valid. tests/test_few.py has the others.
data_utils.LEAST_VALID = 10

CNN = ["--arch", "cnn", "--image_size", "32"]
ONE_EPOCH = ["--epochs", "1", "--batch_size", "16"]

METRICS = ValidMetrics(1, 0.5, 0.5, 2, "torch.float32")
CALIBRATION = Calibration(0.5, np.linspace(0, 1, 1001, dtype=np.float32))


class Run(NamedTuple):
    """What a script did."""

    code: int
    out: str
    err: str


class Killed(BaseException):
    """The machine is gone."""


def die(*_, **__):
    raise Killed


def small_info(preprocessing, **changes) -> NetworkInfo:
    """What the file of a small network of three categories knows."""
    categories, names = ["2", "10", "rose"], ["orchid", "10", "rose"]
    known = "cnn", preprocessing, categories, names, CALIBRATION, METRICS
    info = NetworkInfo(*known, 7, "python", "2026-01-01T00:00:00+00:00", {"python": "3"})
    return dataclasses.replace(info, **changes)


def save_small(path: Path, categories: list[str], names: list[str], side: int = 32):
    """Write the checkpoint of a small untrained network of three categories; return the network."""
    torch.manual_seed(0)
    model, preprocessing, _ = model_utils.new_model("cnn", 3, side)
    info = small_info(preprocessing, categories=categories, names=names)
    model_utils.save_checkpoint(path, model, info, torch.eye(3))
    return model


def as_if_it_had_learned(body: nn.Module) -> nn.Module:
    """Give BatchNorm statistics that are not those of a new network."""
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.running_var, 0.5, 1)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
    return body.eval()


def random_images(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Noise as networks see it: uint8 (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, side, side, 3), np.uint8))


def history_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow above `size` bytes, as on a full disk.

    Only around the call that is tested: pytest's own report may be such a file, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def put(tmp_path):
    """Return a function that makes empty files: put("1/a.jpg", ...)."""

    def put(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return put


@pytest.fixture
def run_script(capsys):
    """Call a script's main in this process: run_script("train", *arguments)."""

    def run(script: str, *arguments) -> Run:
        main = {"train": train.main, "predict": predict.main}[script]
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:  # argparse
            code = stop.code
        return Run(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """Four kinds of drawn flowers: 12 for training, 4 for validation and test each."""
    folder = tmp_path_factory.mktemp("data") / "drawn"
    draw_data(folder, train=12, valid=4, test=4, kinds=4)
    return folder


@pytest.fixture(scope="session")
def trained(drawn, tmp_path_factory) -> Path:
    """The folder in which `train.py drawn` with `ONE_EPOCH` left its files and out.txt, err.txt."""
    folder = tmp_path_factory.mktemp("trained")
    with (
        open(folder / "out.txt", "w") as out,
        open(folder / "err.txt", "w") as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        assert train.main([str(drawn), *ONE_EPOCH, "--save_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def checkpoint(trained) -> Path:
    return trained / "checkpoint.pth"


@pytest.fixture(scope="session")
def cnn(drawn, tmp_path_factory) -> Path:
    """The folder of a run of the basic CNN, whose checkpoint loads in no time."""
    folder = tmp_path_factory.mktemp("cnn")
    assert train.main([str(drawn), *CNN, "--epochs", "8", "--save_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def photo(drawn) -> Path:
    return next((drawn / "valid" / "2").iterdir())


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real photographs, where FLOWERS_DATA names a folder with train/ and valid/."""
    if not os.environ.get("FLOWERS_DATA"):
        pytest.skip("FLOWERS_DATA names no folder of real photographs")
    return Path(os.environ["FLOWERS_DATA"])
