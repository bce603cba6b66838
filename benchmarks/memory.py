"""Peak resident memory of training, and of predicting more and more photographs.

python tests/benchmarks/memory.py flowers
"""

import argparse
import os
import tempfile
from pathlib import Path

from common import ROOT, machine, run

import data_utils

PREDICT = """
import sys, data_utils, model_utils
model_utils.keep_freed_memory()
model, info = model_utils.load_checkpoint(sys.argv[1])
paths = data_utils.find_data(sys.argv[2]).splits["train"].paths
paths = [paths[i % len(paths)] for i in range(int(sys.argv[3]))]
for batch in data_utils.load_batches(paths, info["preprocessing"], 2):
    model_utils.predict(model, [batch])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    args = parser.parse_args()
    data_dir = os.path.abspath(args.data_dir)
    count = len(data_utils.find_data(data_dir).splits["train"].paths)
    print(f"{machine()}; {count} photographs in train")
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (0, 1):
            program = run(ROOT / "train.py", data_dir, "--epochs", epochs, "--save_dir", folder)
            print(f"train.py --epochs {epochs}: {program.peak:.0f} MiB at most", flush=True)
        for inputs in (100, 1000, 10_000):
            program = run("-c", PREDICT, Path(folder, "checkpoint.pth"), data_dir, inputs)
            print(f"predicting {inputs}: {program.peak:.0f} MiB at most", flush=True)


if __name__ == "__main__":
    main()
