"""Shared by the benchmarks: what the machine is, and programs run with a clock."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))


def machine() -> str:
    """Describe where the figures are from."""
    import torch

    model = "unknown processor"
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if "model name" in line), model)
    return (
        f"{len(os.sched_getaffinity(0))} processors ({model}), Python "
        f"{platform.python_version()}, torch {torch.__version__}"
    )


class Program(NamedTuple):
    """What a program took."""

    seconds: float
    peak: float  # resident memory, MiB
    out: str
    err: str


def run(*arguments: object, **environment: str) -> Program:
    """Run Python with some arguments in a process of its own, and wait for its end."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stderr=err,
            text=True,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        err.seek(0)
        said = err.read()
    if status:
        sys.exit(f"{arguments} ended with status {status}: {said}")
    return Program(seconds, usage.ru_maxrss / 1024, out, said)
