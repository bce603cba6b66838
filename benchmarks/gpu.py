"""On a GPU: seconds to an accuracy, and whether the CPU agrees.

    python benchmarks/gpu.py flowers

Without a GPU the CPU does all of it, which shows that the benchmark works and nothing else.
"""

import json
import tempfile
from pathlib import Path

import torch
from common import machine, make_parser, read_history, run_train

import data_utils
import model_utils
from images.decode import ACCELERATOR_BATCH, load_batches
from network.devices import find_device
from running.threads import default_workers

WANTED = 0.985


def describe_run(folder: Path, seed: int) -> None:
    """Print the accuracy of a run, and after how many seconds without its start-up."""
    report = json.loads((folder / "report.json").read_text())
    rows = read_history(folder)
    clock, reached = report["seconds"]["reading every photograph once"], "never"
    for row in rows:
        clock += float(row["seconds"])
        if float(row["valid_accuracy"]) >= WANTED and reached == "never":
            reached = f"after {clock:.1f} s"
    best = max(float(row["valid_accuracy"]) for row in rows)
    print(
        f"seed {seed}: {WANTED:.1%} of valid {reached}, {best:.2%} at best; all epochs "
        f"{clock:.1f} s, start-up {report['seconds']['start']:.1f} s",
        flush=True,
    )


def compare_devices(checkpoint: Path, data: data_utils.DataSet, device: torch.device) -> None:
    """Compare the names and probabilities of a device with those of the CPU in float32."""
    results = []
    for place, precision in ((torch.device("cpu"), torch.float32), (device, None)):
        model, info = model_utils.load_checkpoint(checkpoint, place, precision)
        paths, workers = data.splits["valid"].paths, default_workers()
        batches = load_batches(paths, info.preprocessing, workers, ACCELERATOR_BATCH)
        results.append(model_utils.predict(model, batches))
    cpu, there = results
    print(
        f"{device} against the CPU in float32, n = {len(cpu)}: "
        f"{(cpu.argmax(1) != there.argmax(1)).sum()} other names, probabilities differ by "
        f"{(cpu - there).abs().max():.4f} at most",
        flush=True,
    )


def main() -> None:
    parser = make_parser(__doc__, "data_dir")
    parser.add_argument("--arch", default="efficientnet_lite0")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = data_utils.find_data(args.data_dir)
    print(f"{machine()}, n = {len(data.splits['valid'].paths)}")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            run_train(args.data_dir, folder, "--gpu", "--arch", args.arch, "--seed", seed)
            describe_run(Path(folder), seed)
        device = find_device(gpu=True)
        compare_devices(Path(folder, "checkpoint.pth"), data, device)


if __name__ == "__main__":
    main()
