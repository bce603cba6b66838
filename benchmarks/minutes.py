"""Whether `train.py --minutes N` keeps its word.

    python benchmarks/minutes.py flowers 1 2 5 10 20

Each run is timed from its start to its exit.
"""

import argparse
import json
import tempfile
from pathlib import Path

from common import machine, make_parser, run_train


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
    args = parser.parse_args()
    print(machine(), flush=True)
    for minutes in args.minutes:
        measure(args, minutes)


if __name__ == "__main__":
    main()
