"""Cross-validation: the error of a command on photographs that its network has never seen.

    python benchmarks/cross_validation.py flowers runs/default
    python benchmarks/cross_validation.py flowers runs/default --folds 0 3
    python benchmarks/cross_validation.py flowers runs/head -- --epochs 0

All labelled photographs of the folder are divided into five folds. Each is once the test split
of a run of train.py on the others, of which a tenth is for validation, so that nothing was
chosen by the fold. Copies of one photograph stay together. A fold that is done is kept in its
folder and not run again; what is printed sums up the folds that are done.
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import link_photographs, machine, make_parser, run_train

import data_utils
from data_utils import Split
from images.copies import group_copies

FOLDS = 5


def deal(labels: np.ndarray, groups: np.ndarray, parts: int) -> np.ndarray:
    """Deal photographs out to parts (N,): of each category as many to each, groups together.

    It is the same for the same photographs; nothing is random but the order of the dealing.
    """
    part_of: dict[int, int] = {}
    dealt = np.zeros((parts, labels.max() + 1), int)
    draws = np.random.default_rng(0)
    for i in draws.permutation(len(labels)):
        counts = dealt[:, labels[i]]
        part = part_of.setdefault(
            groups[i], int(min(range(parts), key=lambda p: (counts[p], dealt[p].sum())))
        )
        dealt[part, labels[i]] += 1
    return np.array([part_of[group] for group in groups])


def wilson(right: int, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of a share (Wilson, JASA 1927)."""
    z, share = 1.96, right / count
    middle = (share + z * z / 2 / count) / (1 + z * z / count)
    half = math.sqrt(share * (1 - share) / count + z * z / 4 / count**2) / (1 + z * z / count)
    return middle - z * half, middle + z * half


def spread(values: Sequence[float]) -> str:
    """Format the mean of the folds and its 95 % interval, by Student's t."""
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return f"{mean:.4f}"
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}[count]
    half = t * float(np.std(values, ddof=1)) / math.sqrt(count)
    return f"{mean:.4f} ({mean - half:.4f} to {mean + half:.4f})"


def print_table(reports: dict[int, dict[str, Any]]) -> None:
    """Print what the folds that are done came to."""
    rights = [report["top1"]["right"] for report in reports.values()]
    counts = [report["photographs"] for report in reports.values()]
    means = [report["mean_category_accuracy"] for report in reports.values()]
    errors = [
        report["calibration"]["test"]["expected_calibration_error"] for report in reports.values()
    ]
    seconds = [sum(report["seconds"].values()) for report in reports.values()]
    print("fold  accuracy            mean per-class  calibration error  seconds")
    for fold, *row in zip(reports, rights, counts, means, errors, seconds):
        right, count, mean, error, second = row
        print(
            f"{fold:4}  {right / count:.4f} ({right}/{count})  {mean:14.4f}  {error:17.4f}  "
            f"{second:7.0f}"
        )
    right, count = sum(rights), sum(counts)
    low, high = wilson(right, count)
    print(
        f"accuracy {right / count:.4f} ({low:.4f} to {high:.4f}): {count - right} of {count} wrong"
    )
    print(f"mean per-class accuracy {spread(means)}")
    print(f"expected calibration error {spread(errors)}")
    print(f"seconds {np.mean(seconds):.0f} a fold")


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Divide the command line at -- into our own and train.py's."""
    parser = make_parser(__doc__, "data_dir", "folder")
    parser.add_argument("--folds", type=int, nargs="*", choices=range(FOLDS), default=range(FOLDS))
    parser.epilog = "what follows -- is for train.py"
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:end]), words[end + 1 :]


def main() -> None:
    args, flags = parse()
    data = data_utils.find_data(args.data_dir)
    whole = Split([*data.paths], np.concatenate([s.labels for s in data.splits.values()]))
    paths, labels = whole
    groups = group_copies(paths)
    folds = deal(labels, groups, FOLDS)
    print(machine())
    print(f"{len(paths)} photographs, {len(paths) - len({*groups.tolist()})} of them copies")
    print("train.py flags:", *flags)
    for fold in args.folds:
        folder = Path(args.folder, f"fold{fold}")
        if (folder / "report.json").exists():
            continue
        split = np.where(folds == fold, "test", "train")
        rest = np.flatnonzero(folds != fold)
        split[rest[deal(labels[rest], groups[rest], 10) == 0]] = "valid"
        shutil.rmtree(folder / "data", ignore_errors=True)  # of a run that was broken off
        for name in ("train", "valid", "test"):
            chosen = np.flatnonzero(split == name)
            link_photographs(folder / "data", data._replace(splits={name: whole}), name, chosen)
        run_train(folder / "data", folder, *flags)
    found = {fold: Path(args.folder, f"fold{fold}", "report.json") for fold in range(FOLDS)}
    reports = {fold: json.loads(p.read_text()) for fold, p in found.items() if p.exists()}
    if not reports:
        sys.exit("no fold is done yet")
    print_table(reports)


if __name__ == "__main__":
    main()
