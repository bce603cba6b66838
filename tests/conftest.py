"""Shared by all tests: a small drawn data set, and one network trained on it."""

import csv
import os
import resource
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import draw_flowers  # noqa: E402
import torch  # noqa: E402

import model_utils  # noqa: E402
import predict  # noqa: E402
import train  # noqa: E402


class Run(NamedTuple):
    """What a script did."""

    code: int
    out: str
    err: str


FIGURES = {
    "epoch": 1,
    "valid_loss": 0.5,
    "valid_accuracy": 0.5,
    "valid_images": 2,
    "precision": "torch.float32",
}


def save_small(path: Path, categories: list[str], names: list[str]) -> None:
    """Write the checkpoint of a small untrained network of three categories."""
    torch.manual_seed(0)
    model, preprocessing, _ = model_utils.new_model("cnn", 3, 32)
    calibration = model_utils.Calibration(0.5, torch.eye(3), torch.linspace(0, 1, 1001))
    model_utils.save_checkpoint(
        path, model, "cnn", preprocessing, categories, names, calibration, FIGURES, 7, "python"
    )


CNN = ["--arch", "cnn", "--image_size", "32"]


def history_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def file_size_limit(size: int):
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
def run_script(capsys):
    """Call a script's main in this process: run_script("train", *arguments)."""

    def run(script: str, *arguments) -> Run:
        main = {"train": train.main, "predict": predict.main}[script]
        try:
            code = main([os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """Four kinds of drawn flowers: 12 for training, 4 for validation and test each."""
    folder = tmp_path_factory.mktemp("data") / "drawn"
    draw_flowers.draw_data(folder, train=12, valid=4, test=4, kinds=4)
    return folder


@pytest.fixture(scope="session")
def trained(drawn, tmp_path_factory) -> Path:
    """The folder in which `train.py drawn --epochs 1` left its files and out.txt, err.txt."""
    import contextlib

    folder = tmp_path_factory.mktemp("trained")
    with (
        open(folder / "out.txt", "w") as out,
        open(folder / "err.txt", "w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        assert train.main([str(drawn), "--epochs", "1", "--save_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def checkpoint(trained) -> Path:
    return trained / "checkpoint.pth"


@pytest.fixture(scope="session")
def photo(drawn) -> Path:
    return next((drawn / "valid" / "2").iterdir())


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real photographs, where FLOWERS_DATA names a folder with train/ and valid/."""
    if not os.environ.get("FLOWERS_DATA"):
        pytest.skip("FLOWERS_DATA names no folder of real photographs")
    return Path(os.environ["FLOWERS_DATA"])
