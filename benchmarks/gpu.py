"""On a GPU: seconds to an accuracy, whether the CPU agrees, and what compiling would bring.

    python tests/benchmarks/gpu.py flowers

Without a GPU the CPU does all of it, which shows that the benchmark works and nothing else.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from common import ROOT, machine, run

import data_utils

WANTED = 0.985


def describe_run(folder: Path, seed: int) -> None:
    """Say what a run has come to, and when: in seconds behind its start-up."""
    report = json.loads((folder / "report.json").read_text())
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
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


def compare_devices(checkpoint: Path, data: data_utils.DataSet, device) -> None:
    """Compare the names and probabilities of a device with those of the CPU in float32."""
    import torch

    import model_utils

    here = torch.device("cpu"), torch.float32
    results = []
    for place, precision in (here, (device, None)):
        model, info = model_utils.load_checkpoint(checkpoint, place, precision)
        batches = data_utils.load_batches(
            data.splits["valid"].paths,
            info["preprocessing"],
            data_utils.default_workers(),
            data_utils.ACCELERATOR_BATCH,
        )
        results.append(model_utils.predict(model, batches))
    cpu, there = results
    print(
        f"{device} against the CPU in float32, n = {len(cpu)}: "
        f"{(cpu.argmax(1) != there.argmax(1)).sum()} other names, probabilities differ by "
        f"{(cpu - there).abs().max():.4f} at most",
        flush=True,
    )


def compare_compiled(data: data_utils.DataSet, arch: str, device, epochs: int) -> None:
    """Time epochs of all layers with the network as it is, and compiled."""
    import torch

    import model_utils
    import train

    paths, labels = data.splits["train"]
    for kind in ("as it is", "compiled"):
        model, preprocessing, _ = model_utils.new_model(arch, len(data.categories))
        model.to(device).frozen_statistics = True
        learner = model if kind == "as it is" else torch.compile(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        activations = model_utils.Activations(
            model, 0, paths, preprocessing, workers=data_utils.default_workers()
        )
        size = train.FINE_TUNING.batch_size
        whole = np.arange(len(labels) // size * size)  # another shape would compile again
        seconds = []
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            batches = activations.batches(whole, np.full(len(whole), epoch), size)
            train.train_one_epoch(
                model,
                learner,
                0,
                batches,
                torch.from_numpy(labels[whole]),
                torch.full((len(whole),), 1 / size),
                optimizer,
                model,
                epoch,
                train.FINE_TUNING,
            )
            seconds.append(f"{time.perf_counter() - started:.1f}")
        print(f"epochs of the network {kind}, n = {len(whole)}: {', '.join(seconds)} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--arch", default="efficientnet_lite0")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="with and without compiling")
    args = parser.parse_args()
    data_dir = os.path.abspath(args.data_dir)
    data = data_utils.find_data(data_dir)
    print(f"{machine()}, n = {len(data.splits['valid'].paths)}")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            run(
                ROOT / "train.py",
                data_dir,
                "--gpu",
                "--arch",
                args.arch,
                "--seed",
                seed,
                "--save_dir",
                folder,
            )
            describe_run(Path(folder), seed)
        import model_utils

        device = model_utils.find_device(gpu=True)
        compare_devices(Path(folder, "checkpoint.pth"), data, device)
    compare_compiled(data, args.arch, device, args.epochs)


if __name__ == "__main__":
    main()
