"""Runs that are killed at random moments and go on, against one that is left in peace.

    python tests/benchmarks/kill.py

Each run is sent SIGKILL, SIGTERM or SIGINT at a random moment, one in three runs once more, and
is then started again as a batch job would be: with --resume, where there is something to go on
from. In the end its checkpoint, history and report must be those of the uninterrupted run, but
for times, memory and dates.
"""

import argparse
import collections
import csv
import hashlib
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import draw_flowers
import torch
from common import ROOT, machine

import model_utils

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Before Python has come to main(), a signal ends it as it ends any program.
EXIT_CODES = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}
NETWORKS = {
    "cnn, with dropout": [
        "--arch",
        "cnn",
        "--image_size",
        "32",
        "--hidden_units",
        "32",
        "--epochs",
        "4",
        "--batch_size",
        "8",
    ],
    "tail of the default network": ["--image_size", "64", "--epochs", "2", "--batch_size", "8"],
}


def result_of(folder: Path) -> dict[str, Any]:
    """Read all that two runs have in common if they came to the same."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: plain(each)
                for key, each in value.items()
                if key not in ("seconds", "date", "command", "peak_memory_mib")
            }
        if torch.is_tensor(value):  # short, so that a difference can be printed
            return hashlib.sha256(value.numpy().tobytes()).hexdigest()
        return value

    with open(folder / "history.csv", newline="") as file:
        history = [plain(row) for row in csv.DictReader(file)]
    return {
        "checkpoint": plain(model_utils.read_archive(folder / "checkpoint.pth")),
        "history": history,
        "report": plain(json.loads((folder / "report.json").read_text())),
    }


def start(data: Path, folder: Path, options: list[str]) -> subprocess.Popen:
    """Start a run, or go on with one."""
    resume = ["--resume"] if (folder / "last.pth").exists() else []
    with open(folder.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, ROOT / "train.py", data, *options, "--save_dir", folder, *resume],
            stdout=log,
            stderr=log,
        )


def kill(
    process: subprocess.Popen, number: signal.Signals, after: float, log: Path
) -> float | None:
    """Send a signal after some seconds; return how long the end took, None if it came before."""
    try:
        code = process.wait(after)
        late = None
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        sent = time.perf_counter()
        code = process.wait(60)
        late = time.perf_counter() - sent
    if code not in (0, *EXIT_CODES[number]):
        sys.exit(f"a run that was sent {number.name} ended with {code}:\n{log.read_text()}")
    return None if code == 0 else late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50, help="half of each network")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    print(machine())
    rng = random.Random(args.seed)
    equal = 0
    late = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "data")
        draw_flowers.draw_data(data, train=12, valid=4, test=4, kinds=4)
        for name, options in NETWORKS.items():
            peace = Path(scratch, "peace", name)
            peace.parent.mkdir(exist_ok=True)
            started = time.perf_counter()
            if start(data, peace, options).wait():
                sys.exit(peace.with_suffix(".log").read_text())
            seconds = time.perf_counter() - started
            expected = result_of(peace)
            print(f"{name}: {seconds:.1f} s without interruption", flush=True)
            for i in range(args.runs // len(NETWORKS)):
                folder = Path(scratch, f"{name} {i}")
                kills = 1 + (rng.random() < 1 / 3)
                while kills:
                    number = rng.choice(SIGNALS)
                    took = kill(
                        start(data, folder, options),
                        number,
                        rng.uniform(0, seconds),
                        folder.with_suffix(".log"),
                    )
                    if took is None:  # it had come to its end before
                        shutil.rmtree(folder)
                    else:
                        late[number].append(took)
                        kills -= 1
                code = start(data, folder, options).wait()
                same = code == 0 and result_of(folder) == expected
                if not same:
                    print(
                        f"  run {i} differs, exit code {code}:\n"
                        + folder.with_suffix(".log").read_text()
                    )
                equal += same
    for number, seconds in late.items():
        print(
            f"{number.name}: {len(seconds)} times; seconds until the end: median "
            f"{statistics.median(seconds):.1f}, at most {max(seconds):.1f}"
        )
    print(f"{equal} of {args.runs} runs equal the uninterrupted one")


if __name__ == "__main__":
    main()
