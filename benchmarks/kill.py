"""Runs that are killed at random moments and go on, against one that is left in peace.

    python benchmarks/kill.py

Each run is sent SIGKILL, SIGTERM or SIGINT at a random moment, one in three runs once more, and
is then started again as a batch job would be: with --resume, where there is something to go on
from. In the end its checkpoint, history and report must be those of the uninterrupted run, but
for times, memory and dates.
"""

import collections
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

import torch
from common import ROOT, machine, make_parser, read_history

from formats.pth import read_archive
from images.drawn import draw_data

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Before Python has come to main(), a signal ends it as it ends any program.
EXIT_CODES = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}
NETWORKS = {
    "cnn, with dropout": [
        *("--arch", "cnn", "--image_size", "32", "--hidden_units", "32"),
        *("--epochs", "4", "--batch_size", "8"),
    ],
    "tail of the default network": ["--image_size", "64", "--epochs", "2", "--batch_size", "8"],
}
# Entries that differ between two runs that came to the same.
VARYING = ("seconds", "date", "command", "peak_memory_mib", "versions")


def result_of(folder: Path) -> dict[str, Any]:
    """Read all that two runs have in common if they came to the same."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items() if key not in VARYING}
        if torch.is_tensor(value):  # short, so that a difference can be printed
            return hashlib.sha256(value.numpy().tobytes()).hexdigest()
        return value

    return {
        "checkpoint": plain(read_archive(folder / "checkpoint.pth")),
        "history": [plain(row) for row in read_history(folder)],
        "report": plain(json.loads((folder / "report.json").read_text())),
    }


def start(data: Path, folder: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """Start a run, or go on with one."""
    resume = ["--resume"] if (folder / "last.pth").exists() else []
    command = [sys.executable, str(ROOT / "train.py"), str(data), "--save_dir", str(folder)]
    with open(folder.with_suffix(".log"), "ab") as log:
        return subprocess.Popen([*command, *options, *resume], stdout=log, stderr=log)


def kill(
    process: subprocess.Popen[bytes], number: signal.Signals, after: float, log: Path
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


def interrupt(
    data: Path, folder: Path, options: list[str], seconds: float, rng: random.Random
) -> list[tuple[signal.Signals, float]]:
    """Kill a run once or twice; return each signal and the seconds until the end."""
    late: list[tuple[signal.Signals, float]] = []
    kills = 1 + (rng.random() < 1 / 3)
    while len(late) < kills:
        number = rng.choice(SIGNALS)
        process = start(data, folder, options)
        took = kill(process, number, rng.uniform(0, seconds), folder.with_suffix(".log"))
        if took is None:  # it had come to its end before
            shutil.rmtree(folder)
        else:
            late.append((number, took))
    return late


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=int, default=50, help="half of each network")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    print(machine())
    rng = random.Random(args.seed)
    equal = 0
    late: dict[signal.Signals, list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "data")
        draw_data(data, train=12, valid=4, test=4, kinds=4)
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
                for number, took in interrupt(data, folder, options, seconds, rng):
                    late[number].append(took)
                code = start(data, folder, options).wait()
                same = code == 0 and result_of(folder) == expected
                if not same:
                    log = folder.with_suffix(".log").read_text()
                    print(f"  run {i} differs, exit code {code}:\n{log}")
                equal += same
    for number, times in late.items():
        print(
            f"{number.name}: {len(times)} times; seconds until the end: median "
            f"{statistics.median(times):.1f}, at most {max(times):.1f}"
        )
    print(f"{equal} of {args.runs} runs equal the uninterrupted one")


if __name__ == "__main__":
    main()
