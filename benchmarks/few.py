"""Few photographs: accuracy from 1 to 40 a category, and on folders of other subjects.

    python benchmarks/few.py runs/few --flowers flowers --each 5 10 20 --draws 5
    python benchmarks/few.py runs/few --folders outside/trash outside/grocery
    python benchmarks/few.py runs/few --folders outside/trash --earlier ../earlier --usual

A draw of Oxford's photographs has so many of each category to learn from, five for validation and
up to twenty for the test. A folder that has a train and a valid, but no test, is tested by its
valid and validated by what train.py splits off; one without a valid is divided into three parts,
each of which is the test once. `--earlier` runs the train.py of another folder on the same
photographs. `--usual` does what PyTorch's tutorial on transfer learning does with the same network
and weights (all layers, SGD at 0.001 that falls to a tenth every seven epochs, batches of 4,
torchvision's random crops) for as many seconds as this train.py took. What is done is kept in the
folder and not run again.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import ROOT, link_photographs, machine, make_parser, run, usual_loader
from torch import nn
from torch.nn import functional as F

import data_utils
from data_utils import DataSet, Split
from network.architectures import find_architecture
from network.weights import load_weights
from reporting.calibration import calibration_error, softmax
from running.console import no_progress

VALID, TEST, PARTS = 5, 20, 3


class Task(NamedTuple):
    """Photographs to learn from and to be tested by."""

    name: str
    data: DataSet  # its one split, "all", has all of them
    splits: dict[str, np.ndarray]  # indices


def gather(folder: str | Path) -> tuple[DataSet, dict[str, np.ndarray]]:
    """Put all photographs of a folder into one split; return the indices of its own splits, too."""
    data = data_utils.find_data(folder)
    paths, labels = [*data.paths], np.concatenate([s.labels for s in data.splits.values()])
    ends = np.cumsum([len(split.labels) for split in data.splits.values()])
    own = dict(zip(data.splits, np.split(np.arange(len(labels)), ends[:-1])))
    for name in data.split_off:  # which is left to the versions that are compared
        own.setdefault("train", np.array([], int))
        own["train"] = np.concatenate([own["train"], own.pop(name, np.array([], int))])
    return data._replace(splits={"all": Split(paths, labels)}), own


def draw(folder: str, each: int, seed: int) -> Task:
    """Draw so many photographs of each category."""
    data, _ = gather(folder)
    labels = data.splits["all"].labels
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), int)
    for category in range(len(data.categories)):
        mine = order[labels[order] == category]
        rank[mine] = np.arange(len(mine))
    ends = {"train": each, "valid": each + VALID, "test": each + VALID + TEST}
    splits, start = {}, 0
    for name, end in ends.items():
        splits[name] = np.flatnonzero((rank >= start) & (rank < end))
        start = end
    return Task(f"flowers-{each}-{seed}", data, splits)


def divide(folder: str) -> Iterator[Task]:
    """Make the tasks of a folder of another subject."""
    data, own = gather(folder)
    name = Path(folder).name
    if "valid" in own:
        yield Task(name, data, {"train": own["train"], "test": own["valid"]})
        return
    part = np.random.default_rng(0).permutation(len(own["train"])) % PARTS
    for i in range(PARTS):
        splits = {"train": own["train"][part != i], "test": own["train"][part == i]}
        yield Task(f"{name}-{i}", data, splits)


def learn(script: Path, photographs: Path, save_dir: Path) -> dict[str, Any]:
    """Run a train.py without flags; return the figures of its report."""
    program = run(script, photographs, "--save_dir", save_dir)
    report = json.loads((save_dir / "report.json").read_text())
    for file in save_dir.glob("*.pth"):
        file.unlink()
    return {
        "right": report["top1"]["right"],
        "photographs": report["photographs"],
        "mean_category_accuracy": report["mean_category_accuracy"],
        "calibration_error": report["calibration"]["test"]["expected_calibration_error"],
        "seconds": program.seconds,
    }


def run_usual(folder: Path, seconds: float) -> dict[str, Any]:
    """Learn as PyTorch's tutorial does for so many seconds, and test."""
    from torchvision import transforms

    started = time.perf_counter()
    data = data_utils.find_data(folder)
    normalise = [transforms.ToTensor(), transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)]
    random = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *normalise]
    central = [transforms.Resize(256), transforms.CenterCrop(224), *normalise]
    train = usual_loader(data.splits["train"], random, 4, shuffle=True)
    test = usual_loader(data.splits["test"], central, 32)
    architecture = find_architecture("efficientnet_lite0")
    assert architecture.imagenet
    torch.manual_seed(0)
    body = architecture.build()
    load_weights(body, *architecture.imagenet(no_progress))
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(1280, len(data.categories)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    epoch = 0
    while time.perf_counter() - started < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.1 ** (epoch // 7)
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            if time.perf_counter() - started > seconds:
                break
        epoch += 1
    taken = time.perf_counter() - started
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(images) for images, _ in test]).numpy()
    labels = data.splits["test"].labels
    correct = logits.argmax(1) == labels
    recalls = [correct[labels == c].mean() for c in np.unique(labels)]
    return {
        "right": int(correct.sum()),
        "photographs": len(labels),
        "mean_category_accuracy": float(np.mean(recalls)),
        "calibration_error": calibration_error(softmax(logits).max(1), correct),
        "seconds": taken,
        "epochs": epoch,
    }


def print_table(folder: Path, methods: list[str]) -> None:
    """Print what is done, by task."""
    print("task              method    accuracy              per-class  calibration  seconds")
    errors: dict[str, list[float]] = {method: [] for method in methods}
    for path in sorted(folder.glob("*/figures.json")):
        figures = json.loads(path.read_text())
        for method in methods:
            if method not in figures:
                continue
            row = figures[method]
            share = row["right"] / row["photographs"]
            errors[method].append(1 - share)
            print(
                f"{path.parent.name:16}  {method:8}  {share:7.2%} ({row['right']:4} of "
                f"{row['photographs']:4})  {row['mean_category_accuracy']:9.2%}  "
                f"{row['calibration_error']:11.4f}  {row['seconds']:7.0f}"
            )
    for method, found in errors.items():
        if found:
            print(f"mean error, {method}: {np.mean(found):.2%} (n = {len(found)} tasks)")


def main() -> None:
    parser = make_parser(__doc__, "folder")
    parser.add_argument("--flowers", help="Oxford 102 Flowers")
    parser.add_argument("--each", type=int, nargs="*", default=[1, 2, 5, 10, 20, 40])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--folders", nargs="*", default=[])
    parser.add_argument("--earlier", help="the folder of another version")
    parser.add_argument("--usual", action="store_true")
    args = parser.parse_args()
    tasks = [task for folder in args.folders for task in divide(folder)]
    if args.flowers:
        tasks += [draw(args.flowers, k, seed) for k in args.each for seed in range(args.draws)]
    print(machine())
    for task in tasks:
        place = Path(args.folder, task.name)
        place.mkdir(parents=True, exist_ok=True)
        kept = place / "figures.json"
        figures = json.loads(kept.read_text()) if kept.exists() else {}
        photographs = place / "data"
        if not photographs.exists():
            for name, indices in task.splits.items():
                whole = task.data._replace(splits={name: task.data.splits["all"]})
                link_photographs(photographs, whole, name, indices)

        if args.earlier and "earlier" not in figures:
            script = Path(args.earlier).resolve() / "train.py"
            figures["earlier"] = learn(script, photographs, place / "earlier")
        if "now" not in figures:
            figures["now"] = learn(ROOT / "train.py", photographs, place / "now")
        if args.usual and "usual" not in figures:
            figures["usual"] = run_usual(photographs, math.ceil(figures["now"]["seconds"]))
        kept.write_text(json.dumps(figures, indent=2) + "\n")
        shutil.rmtree(photographs)
        print(task.name, json.dumps(figures), flush=True)
    print_table(Path(args.folder), ["earlier", "now", "usual"])


if __name__ == "__main__":
    main()
