"""Shared by the benchmarks: the machine, the command line, programs with a clock, photographs."""

import argparse
import csv
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data_utils import DataSet, Split  # noqa: E402
from running.threads import default_workers  # noqa: E402

# --- What is measured, and where ------------------------------------------------------


def make_parser(doc: str | None, *paths: str) -> argparse.ArgumentParser:
    """Make the parser of a benchmark that takes some paths; its docstring says what it is."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    for path in paths:
        parser.add_argument(path, type=os.path.abspath)  # programs are run in another folder
    return parser


def machine() -> str:
    """Describe where the figures are from."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    about = dict(re.findall(r"^(.+?)\s*: (.*)$", text, re.MULTILINE))
    flags = {*about.get("flags", "").split()}
    return (
        f"{default_workers()} processors ({about.get('model name', 'unknown processor')}, "
        f"{'' if flags & {'avx512_bf16', 'amx_bf16'} else 'no '}bfloat16, "
        f"{'' if 'avx512f' in flags else 'no '}AVX-512), Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def describe_splits(data: DataSet) -> str:
    """Count the photographs of each split."""
    return ", ".join(f"{name}: n = {len(split.paths)}" for name, split in data.splits.items())


# --- Programs -------------------------------------------------------------------------


class Program(NamedTuple):
    """What a program took, and what it said."""

    seconds: float
    cpu: float  # seconds of all processors together
    peak: float  # resident memory, MiB; no less than the benchmark's own
    out: str
    err: str


def run(*arguments: object) -> Program:
    """Run Python with some arguments in a process of its own, and wait for its end."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        cpu = usage.ru_utime + usage.ru_stime
        program = Program(seconds, cpu, usage.ru_maxrss / 1024, out.read(), err.read())
    if process.returncode:
        sys.exit(f"{arguments} ended with exit code {process.returncode}: {program.err}")
    return program


def run_train(data_dir: str | Path, save_dir: str | Path, *flags: object) -> Program:
    """Run train.py."""
    return run(ROOT / "train.py", data_dir, "--save_dir", save_dir, *flags)


def read_history(folder: str | Path) -> list[dict[str, str]]:
    """Read the rows of a run's history.csv."""
    with open(Path(folder, "history.csv"), newline="") as file:
        return [*csv.DictReader(file)]


# --- Photographs ----------------------------------------------------------------------


def link_photographs(folder: Path, data: DataSet, name: str, indices: np.ndarray) -> None:
    """Add links to some photographs of a split, which may come repeatedly, to a data folder."""
    paths, labels = data.splits[name]
    places = {i: folder / name / data.categories[i] for i in np.unique(labels[indices]).tolist()}
    for place in places.values():
        place.mkdir(parents=True)
    for number, i in enumerate(indices.tolist()):
        link = f"{number:07}_{os.path.basename(paths[i])}"
        os.symlink(paths[i], places[labels[i]] / link)


class Photographs(Dataset[tuple[torch.Tensor, int]]):
    """The photographs of a split, transformed one by one, with their labels."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], torch.Tensor]):
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.split.paths[index]).convert("RGB")
        return self.transform(image), self.split.labels[index]


def usual_loader(
    split: Split, transforms: Sequence[Callable[[Any], Any]], batch_size: int, shuffle: bool = False
) -> DataLoader:
    """Load a split as is usual: by torchvision's transforms and a DataLoader."""
    from torchvision.transforms import Compose

    return DataLoader(Photographs(split, Compose(transforms)), batch_size, shuffle, num_workers=2)
