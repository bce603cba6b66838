"""What a hundred thousand photographs and a million file names take, by repeating photographs.

    python tests/benchmarks/scale.py flowers

The photographs are links to those of ten categories of a data folder, each under many names. A run
trains on them for one epoch, at 96 x 96 pixels so that it ends soon: its activations are still more
than may be kept in memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, machine, run

import data_utils

CATEGORIES = 10


def repeat(data: data_utils.DataSet, folder: Path, count: int) -> None:
    """Fill train with links under `count` names; valid gets one to each photograph of its own."""
    for name, split in data.splits.items():
        if name == "test":
            continue
        chosen = [
            (path, data.categories[label])
            for path, label in zip(split.paths, split.labels)
            if label < CATEGORIES
        ]
        for category in data.categories[:CATEGORIES]:
            (folder / name / category).mkdir(parents=True)
        for i in range(count if name == "train" else len(chosen)):
            path, category = chosen[i % len(chosen)]
            os.symlink(path, folder / name / category / f"photograph_{i:07}.jpg")


def memory_of_names(folder: Path) -> int:
    """Measure what a process has at most that lists and compares photographs, in bytes.

    Their digests are made up, as reading a million photographs takes long. (getrusage would
    count what this process had when it started that one, which is more.)
    """
    script = """
import os, re, sys
sys.path.insert(0, sys.argv[1])
import data_utils
data = data_utils.find_data(sys.argv[2])
digests = {path: os.urandom(16) for split in data.splits.values() for path in split.paths}
data_utils.find_problems(data, [], digests, [])
data_utils.fingerprint(data, sys.argv[2], digests)
print(int(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1]) * 1024)
"""
    return int(
        subprocess.run(
            [sys.executable, "-c", script, ROOT, folder], check=True, capture_output=True, text=True
        ).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--photographs", type=int, default=100_000)
    args = parser.parse_args()
    data = data_utils.find_data(os.path.abspath(args.data_dir))
    print(machine())

    peaks = {}
    for count in (1000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            repeat(data, Path(folder), count)
            peaks[count] = memory_of_names(Path(folder))
    print(
        f"a million file names: {peaks[1_000_000] / 2**20:.0f} MiB, "
        f"{(peaks[1_000_000] - peaks[1000]) / 999_000:.0f} bytes each",
        flush=True,
    )

    with tempfile.TemporaryDirectory() as folder:
        repeat(data, Path(folder, "data"), args.photographs)
        program = run(
            ROOT / "train.py",
            Path(folder, "data"),
            "--epochs",
            1,
            "--image_size",
            96,
            "--save_dir",
            Path(folder, "run"),
        )
    print(
        f"{args.photographs} photographs, one epoch of the tail: {program.seconds:.0f} s, "
        f"{program.peak:.0f} MiB"
    )
    print(
        *(
            line
            for line in (program.err + program.out).splitlines()
            if line.startswith(("the other layers", " head", "    1", "seconds"))
        ),
        sep="\n",
    )


if __name__ == "__main__":
    main()
