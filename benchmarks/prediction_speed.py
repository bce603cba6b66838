"""How quick prediction is: one photograph from a cold start, many, and four programs at once.

    python benchmarks/prediction_speed.py checkpoint.pth PHOTOGRAPHS --exported flowers.onnx

The usual loop takes the same network from the package timm, which the rest does without.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from common import ROOT, machine, make_parser, run

import data_utils
import predict
from images.decode import EVALUATION_BATCH
from prediction.inputs import read_each
from running.console import Console
from running.environment import require
from running.threads import default_workers, map_ahead

LOOP = """
import sys, time, timm, torch
from PIL import Image
from torchvision import transforms
transform = transforms.Compose([
    transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)])
body = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
paths = sys.argv[1:]
with torch.no_grad():
    body(transform(Image.open(paths[0]).convert("RGB"))[None])
    started = time.perf_counter()
    for path in paths:
        body(transform(Image.open(path).convert("RGB"))[None])
    print(len(paths) / (time.perf_counter() - started))
"""


def cold(image: str, checkpoint: str, rounds: int) -> None:
    """Compare one photograph with importing torch, in turns."""
    run("-c", "import torch")  # into the disk's cache
    imports, predictions = [], []
    for _ in range(rounds):
        imports.append(run("-c", "import torch").seconds)
        predictions.append(run(ROOT / "predict.py", image, checkpoint).seconds)
    imported, predicted = statistics.median(imports), statistics.median(predictions)
    print(
        f"one photograph, cold: {predicted:.2f} s, {predicted / imported:.2f} times "
        f'`python -c "import torch"` ({imported:.2f} s); medians of {rounds}'
    )


def exported(image: str, checkpoint: str, network: str, rounds: int) -> None:
    """Compare one photograph with the exported network and with the checkpoint, in turns."""
    seconds: dict[str, list[float]] = {checkpoint: [], network: []}
    for _ in range(rounds + 1):
        for path, times in seconds.items():
            times.append(run(ROOT / "predict.py", image, path).seconds)
    with_torch, without = (statistics.median(times[1:]) for times in seconds.values())
    print(
        f"one photograph, cold, exported: {without:.2f} s, {without / with_torch:.2f} times the "
        f"checkpoint ({with_torch:.2f} s); medians of {rounds}"
    )


def crowded(image: str, checkpoint: str) -> None:
    """Compare four programs at once with one."""
    command = [sys.executable, str(ROOT / "predict.py"), image, checkpoint]
    for count in (1, 4):
        started = time.perf_counter()
        processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
        for process in processes:
            process.wait()
        seconds = time.perf_counter() - started
        print(f"predict.py, {count} at once: {seconds:.2f} s")


def many(paths: list[str], file: str, count: int, rounds: int) -> float:
    """Compare a list of photographs with the network alone, in turns; return the first's rate."""
    predict_each, info, _ = predict.load_network(file, False, EVALUATION_BATCH, Console(""))
    inputs = [(paths[i % len(paths)], None) for i in range(count)]
    read = partial(read_each, preprocessing=info.preprocessing)
    some = [*map(read, inputs[:100])]
    sources: list[Callable[[], Iterable[Any]]] = [
        lambda: map_ahead(read, inputs, default_workers(), 3 * EVALUATION_BATCH),
        lambda: (some[i % len(some)] for i in range(count)),  # nothing is decoded
    ]
    rates: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for source, seen in zip(sources, rates):
            started = time.perf_counter()
            for _ in predict_each(source()):
                pass
            seen.append(count / (time.perf_counter() - started))
    shares = [ours / alone for ours, alone in zip(*(seen[1:] for seen in rates))]
    ours, alone = (statistics.median(seen[1:]) for seen in rates)
    print(
        f"many, {os.path.basename(file)}: {ours:.0f} photographs a second (n = {count}), "
        f"{statistics.median(shares):.0%} of the network alone ({alone:.0f}); medians of "
        f"{rounds}, {min(shares):.0%} to {max(shares):.0%}",
        flush=True,
    )
    return ours


def usual_loop(paths: list[str], ours: float) -> None:
    """Compare with what is usual."""
    loop = float(run("-c", LOOP, *paths).out)
    print(
        f"that is {ours / loop:.1f} times the one-at-a-time loop with torchvision ({loop:.0f} a "
        f"second, n = {len(paths)})"
    )


def main() -> None:
    parser = make_parser(__doc__, "checkpoint", "folder")
    text = "the checkpoint as predict.py --export writes it"
    parser.add_argument("--exported", type=os.path.abspath, help=text)
    parser.add_argument("--count", type=int, default=2040, help="inputs, from the folder in turn")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    require("timm", "the usual loop")
    paths = data_utils.find_photographs(args.folder)
    print(f"{machine()}; {len(paths)} photographs", flush=True)
    cold(paths[0], args.checkpoint, args.rounds)
    if args.exported:
        exported(paths[0], args.checkpoint, args.exported, args.rounds)
    crowded(paths[0], args.checkpoint)
    ours = many(paths, args.checkpoint, args.count, 5)
    if args.exported:
        many(paths, args.exported, args.count, 5)
    usual_loop(paths[: args.count // 10], ours)


if __name__ == "__main__":
    main()
