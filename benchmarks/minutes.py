"""Whether `train.py --minutes N` keeps its word.

    python benchmarks/minutes.py flowers 1 2 5 10 20
    python benchmarks/minutes.py flowers 1 2 5 --busy

Each run is timed from its start to its exit. With --busy, a program that keeps one processor busy
comes and goes every half minute.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import machine, make_parser, run_train

PERIOD = 30  # seconds


@contextmanager
def other_work() -> Iterator[None]:
    """Keep a processor busy in every other period."""
    done = threading.Event()

    def come_and_go() -> None:
        while True:
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stops = done.wait(PERIOD)
            busy.kill()
            busy.wait()
            if stops or done.wait(PERIOD):
                return

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def measure(args: argparse.Namespace, minutes: float) -> None:
    """Print what became of a run."""
    with tempfile.TemporaryDirectory() as folder:
        program = run_train(args.data_dir, folder, "--minutes", minutes)
        report = json.loads(Path(folder, "report.json").read_text())
    share = program.seconds / 60 / minutes
    plans = [line for line in program.out.splitlines() if "plan" in line or "too late" in line]
    print(
        f"--minutes {minutes:g}: {program.seconds:.1f} s, {share:.1%} of it; "
        f"{report['top1']['share']:.2%} of {report['photographs']} correct ({report['split']}); "
        + " | ".join(plans),
        flush=True,
    )


def main() -> None:
    parser = make_parser(__doc__, "data_dir")
    parser.add_argument("minutes", type=float, nargs="+")
    parser.add_argument("--busy", action="store_true", help="with other work beside it")
    args = parser.parse_args()
    print(machine() + (", other work beside it" if args.busy else ""), flush=True)
    for minutes in args.minutes:
        if args.busy:
            with other_work():
                measure(args, minutes)
        else:
            measure(args, minutes)


if __name__ == "__main__":
    main()
