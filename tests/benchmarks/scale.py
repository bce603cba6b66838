"""What a hundred thousand photographs and a million file names take, by repeating photographs.

    python tests/benchmarks/scale.py flowers

The photographs are links to those of a data folder, each under many names. A run trains on them
for one epoch, with small pictures so that it ends within the hour; how much of the kept
activations lies in memory and how much in a file is as it would be with large ones.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, machine, run

import data_utils


def repeat(data: data_utils.DataSet, folder: Path, count: int) -> None:
    """Fill train with links under `count` names; valid gets one to each photograph of its own."""
    for name, split in data.splits.items():
        if name == "test":
            continue
        number = count if name == "train" else len(split.paths)
        for category in data.categories:
            (folder / name / category).mkdir(parents=True)
        for i in range(number):
            place = i % len(split.paths)
            os.symlink(split.paths[place], folder / name / data.categories[split.labels[place]]
                       / f"photograph_{i:07}.jpg")


def memory_of_names(folder: Path) -> int:
    """Measure what a process has at most that lists the photographs, in bytes."""
    script = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import data_utils
data_utils.find_data(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    return int(subprocess.run([sys.executable, "-c", script, ROOT, folder], check=True,
                              capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--photographs", type=int, default=100_000)
    parser.add_argument("--image_size", type=int, default=64)
    args = parser.parse_args()
    data = data_utils.find_data(os.path.abspath(args.data_dir))
    print(machine())

    peaks = {}
    for count in (1000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            repeat(data, Path(folder), count)
            peaks[count] = memory_of_names(Path(folder))
    print(f"a million file names: {peaks[1_000_000] / 2**20:.0f} MiB, "
          f"{(peaks[1_000_000] - peaks[1000]) / 999_000:.0f} bytes each", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        repeat(data, Path(folder, "data"), args.photographs)
        program = run(ROOT / "train.py", Path(folder, "data"), "--epochs", 1, "--image_size",
                      args.image_size, "--save_dir", Path(folder, "run"))
    print(f"{args.photographs} photographs, {args.image_size} x {args.image_size} pixels, one epoch "
          f"of the tail: {program.seconds:.0f} s, {program.peak:.0f} MiB")
    print(*(line for line in (program.err + program.out).splitlines()
            if line.startswith(("the other layers", " head", "    1", "seconds"))), sep="\n")


if __name__ == "__main__":
    main()
