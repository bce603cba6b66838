"""What a hundred thousand photographs and a million file names take, by repeating photographs.

    python benchmarks/scale.py flowers

The photographs are links to those of ten categories of a data folder, each under many names. A run
trains on them for one epoch, at 96 x 96 pixels so that it ends soon: its activations are still more
than may be kept in memory.
"""

import tempfile
from pathlib import Path

import numpy as np
from common import link_photographs, machine, make_parser, run, run_train

import data_utils

CATEGORIES = 10

# Lists and compares photographs; their digests are made up, as reading a million takes long. (What
# `run` measures is at least what the program had that started this one.)
NAMES = """
import os, re, sys
import data_utils
data = data_utils.find_data(sys.argv[1])
data_utils.inspect(data, None, [os.urandom(16) for path in data.paths])
print(int(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1]) * 1024)
"""

# Beginnings of what train.py says of the cache and of epochs.
LINES = ("activations of the frozen layers", " head", "    1")


def repeat(data: data_utils.DataSet, folder: Path, count: int) -> None:
    """Fill train with links under `count` names; valid gets one to each photograph of its own."""
    for name in ("train", "valid"):
        chosen = np.flatnonzero(data.splits[name].labels < CATEGORIES)
        chosen = np.resize(chosen, count) if name == "train" else chosen
        link_photographs(folder, data, name, chosen)


def main() -> None:
    parser = make_parser(__doc__, "data_dir")
    parser.add_argument("--photographs", type=int, default=100_000)
    args = parser.parse_args()
    data = data_utils.find_data(args.data_dir)
    print(machine())

    peaks = {}  # bytes
    for count in (1000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            repeat(data, Path(folder), count)
            peaks[count] = int(run("-c", NAMES, folder).out)
    print(
        f"a million file names: {peaks[1_000_000] / 2**20:.0f} MiB, "
        f"{(peaks[1_000_000] - peaks[1000]) / 999_000:.0f} bytes each",
        flush=True,
    )

    with tempfile.TemporaryDirectory() as folder:
        repeat(data, Path(folder, "data"), args.photographs)
        flags = ("--epochs", 1, "--image_size", 96)
        program = run_train(Path(folder, "data"), Path(folder, "run"), *flags)
    print(
        f"{args.photographs} photographs, one epoch of the tail: {program.seconds:.0f} s, "
        f"{program.peak:.0f} MiB"
    )
    print(*(line for line in program.out.splitlines() if line.startswith(LINES)), sep="\n")


if __name__ == "__main__":
    main()
