"""Peak resident memory of training, and of predicting more and more photographs.

python benchmarks/memory.py flowers
"""

import tempfile
from pathlib import Path

from common import machine, make_parser, run, run_train

import data_utils

PREDICT = """
import sys, data_utils, model_utils
from network.devices import keep_freed_memory
keep_freed_memory()
model, info = model_utils.load_checkpoint(sys.argv[1])
paths = data_utils.find_data(sys.argv[2]).splits["train"].paths
paths = [paths[i % len(paths)] for i in range(int(sys.argv[3]))]
for batch in data_utils.load_batches(paths, info.preprocessing, 2):
    model_utils.predict(model, [batch])
"""


def main() -> None:
    args = make_parser(__doc__, "data_dir").parse_args()
    count = len(data_utils.find_data(args.data_dir).splits["train"].paths)
    print(f"{machine()}; {count} photographs in train")
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (0, 1):
            program = run_train(args.data_dir, folder, "--epochs", epochs)
            print(f"train.py --epochs {epochs}: {program.peak:.0f} MiB at most", flush=True)
        for inputs in (100, 1000, 10_000):
            program = run("-c", PREDICT, Path(folder, "checkpoint.pth"), args.data_dir, inputs)
            print(f"predicting {inputs}: {program.peak:.0f} MiB at most", flush=True)


if __name__ == "__main__":
    main()
