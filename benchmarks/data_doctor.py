"""The data check: wrong labels and near duplicates that were planted into real photographs.

    python benchmarks/data_doctor.py flowers runs/doctor

Of all photographs 3 % get a wrong label: half of them one at random, half that of the category
that theirs is most confused with. Average precision is that of the ranking by suspicion, of each
half against the photographs with their own labels. Then 200 near duplicates are put beside them:
stored with quality 40, cropped to 85 % anywhere, mirrored, of half the size; and all of it at once.
Last, heads are fitted to train as it is, with the planted labels, and corrected, and evaluated on
valid: corrected by a user who looks and accepts what is wrong indeed, and by one who accepts
blindly.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from common import describe_splits, machine, make_parser
from PIL import Image, ImageOps
from torch import nn

import data_utils
from checking.check import measure_images
from checking.copies import LONGEST_CHAIN, find_copies
from checking.labels import find_neighbours, score_labels
from data_utils import DataSet
from images.copies import group_pairs
from images.decode import typical_side
from learning.head import FOLDS, SMOOTHING, fit_linear_head, out_of_fold
from learning.resources import Resources
from learning.run import Run, new_run
from reporting.calibration import softmax
from running.console import no_progress
from running.settings import Settings
from running.threads import default_workers

WRONG, COPIES = 0.03, 200
BLINDLY = 0.9  # the suspicion from which somebody accepts without looking
KINDS = ("quality 40", "cropped", "mirrored", "half size", "all at once")


class Seen(NamedTuple):
    """All photographs of a folder, looked at once."""

    data: DataSet
    run: Run
    resources: Resources
    features: torch.Tensor  # (N, F)
    small: np.ndarray  # (N, S, S, 3)
    labels: np.ndarray  # (N,)
    pairs: np.ndarray  # (P, 2), near duplicates


def look(data_dir: str) -> Seen:
    data = data_utils.find_data(data_dir)
    labels = np.concatenate([split.labels for split in data.splits.values()])
    resources = Resources(default_workers())
    side, cpu = typical_side(data.paths), torch.device("cpu")
    run = new_run(Settings(), len(data.categories), side, cpu, resources)
    features, statistics = measure_images(data.paths, run, resources)
    small = np.stack([each.small for each in statistics])
    nearest = find_neighbours(features.clone())[0][:, :5]
    began = time.perf_counter()
    pairs, alike, _ = find_copies(small, nearest, labels, no_progress)
    least = f", with a correlation of {alike[-1]:.4f} or more" if len(pairs) else ""
    seconds = time.perf_counter() - began
    print(f"near duplicates of the folder itself: {len(pairs)} pairs{least} ({seconds:.1f} s)")
    return Seen(data, run, resources, features, small, labels, pairs)


# --- Wrong labels ---------------------------------------------------------------------


def most_confused(seen: Seen) -> np.ndarray:
    """Find the category that each one is most confused with: (C,)."""
    folds = torch.arange(len(seen.labels)) % FOLDS
    labels = torch.from_numpy(seen.labels)
    shares = softmax(out_of_fold(seen.features.clone(), labels, folds).numpy())
    mean = np.stack([shares[seen.labels == c].mean(0) for c in range(shares.shape[1])])
    np.fill_diagonal(mean, 0)
    return mean.argmax(1)


def plant(labels: np.ndarray, confused: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """Return labels with wrong ones, and which are at random and which to the most confused."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(labels), round(WRONG * len(labels)), replace=False)
    first, second = np.array_split(chosen, 2)
    planted, kinds = labels.copy(), np.zeros(len(labels), int)
    planted[first] = (labels[first] + rng.integers(1, len(confused), len(first))) % len(confused)
    planted[second] = confused[labels[second]]
    kinds[first], kinds[second] = 1, 2
    return planted, kinds == 1, kinds == 2


def average_precision(scores: np.ndarray, found: np.ndarray, left_out: np.ndarray) -> float:
    """Average the precision at each of those to be found, in the order of their scores."""
    scores, found = scores[~left_out], found[~left_out]
    hits = found[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def accuracy(seen: Seen, labels: np.ndarray, kept: np.ndarray) -> float:
    """Fit a head to the photographs of train that are kept; return its accuracy on valid."""
    count = len(seen.data.splits["train"].paths)
    rows = torch.from_numpy(np.flatnonzero(kept[:count]))
    head = nn.Linear(seen.features.shape[1], len(seen.data.categories))
    fit_linear_head(head, seen.features[rows][:, None], torch.from_numpy(labels)[rows], SMOOTHING)
    valid = slice(count, count + len(seen.data.splits["valid"].paths))
    with torch.no_grad():
        named = head(seen.features[valid]).argmax(1).numpy()
    return float((named == seen.labels[valid]).mean())


def try_labels(seen: Seen, seeds: list[int]) -> None:
    confused = most_confused(seen)
    everything = np.ones(len(seen.labels), bool)
    clean = accuracy(seen, seen.labels, everything)
    print(f"head on train as it is: {clean:.2%} of valid")
    for seed in seeds:
        planted, at_random, to_confused = plant(seen.labels, confused, seed)
        began = time.perf_counter()
        features = seen.features.clone()
        neighbours = find_neighbours(features)
        scores, best, _, number = score_labels(features, planted, seen.pairs, *neighbours)
        seconds = time.perf_counter() - began
        print(
            f"seed {seed}: average precision "
            f"{average_precision(scores, at_random, to_confused):.4f} at random, "
            f"{average_precision(scores, to_confused, at_random):.4f} to the most confused"
        )
        wrong = at_random | to_confused
        listed, blindly = scores > 0.5, scores > BLINDLY
        results = [
            accuracy(seen, planted, everything),
            accuracy(seen, np.where(wrong & listed, best, planted), everything),
            accuracy(seen, np.where(blindly, best, planted), everything),
        ]
        back = [(each - results[0]) / (clean - results[0]) for each in results[1:]]
        print(
            f"seed {seed}: listed {listed.sum()}, with {(wrong & listed).sum()} of {wrong.sum()}, "
            f"of which {number:.0f} were expected; "
            f"head on planted labels {results[0]:.2%}, corrected by looking {results[1]:.2%} "
            f"({back[0]:.0%} won back), blindly {results[2]:.2%} ({back[1]:.0%}); {seconds:.1f} s"
        )


# --- Near duplicates --------------------------------------------------------------------


def change(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    if kind in ("cropped", "all at once"):
        sides = round(0.85 * width), round(0.85 * height)
        left = int(rng.integers(0, width - sides[0] + 1))
        top = int(rng.integers(0, height - sides[1] + 1))
        image = image.crop((left, top, left + sides[0], top + sides[1]))
    if kind in ("mirrored", "all at once"):
        image = ImageOps.mirror(image)
    if kind in ("half size", "all at once"):
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return image


def try_copies(seen: Seen, folder: Path, seed: int, kinds: tuple[str, ...]) -> None:
    rng = np.random.default_rng(seed)
    count = len(seen.labels)
    sources = rng.choice(count, COPIES, replace=False)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, i in enumerate(sources.tolist()):
        kind = kinds[number % len(kinds)]
        with Image.open(seen.data.paths[i]) as image:
            copy = change(image.convert("RGB"), kind, rng)
        paths.append(str(folder / f"{number}.jpg"))
        copy.save(paths[-1], quality=40 if kind in ("quality 40", "all at once") else 75)
    more, statistics = measure_images(paths, seen.run, seen.resources)
    small = np.concatenate([seen.small, np.stack([each.small for each in statistics])])
    labels = np.concatenate([seen.labels, seen.labels[sources]])
    nearest = find_neighbours(torch.cat([seen.features, more]))[0][:, :5]
    pairs, alike, _ = find_copies(small, nearest, labels, no_progress)
    own = group_pairs(seen.pairs, count, LONGEST_CHAIN)
    groups = np.concatenate([own, own[sources]])
    found = {tuple(pair) for pair in pairs.tolist()}
    missed = [kinds[n % len(kinds)] for n, i in enumerate(sources) if (i, count + n) not in found]
    others = [pair for pair in found if groups[pair[0]] != groups[pair[1]]]
    share = 1000 * len(others) / len(labels)
    print(
        f"seed {seed}, {', '.join(kinds)}: recall {1 - len(missed) / COPIES:.3f} (missed: "
        f"{missed or 'none'}); {len(others)} other pairs, {share:.2f} in a thousand photographs; "
        f"lowest correlation {alike[-1]:.4f}"
    )


def main() -> None:
    parser: argparse.ArgumentParser = make_parser(__doc__, "data_dir", "folder")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    print(machine())
    seen = look(args.data_dir)
    print(f"{seen.data.folder}, {describe_splits(seen.data)}")
    for seed in args.seeds:
        try_copies(seen, Path(args.folder, str(seed)), seed, KINDS[:4])
        try_copies(seen, Path(args.folder, f"{seed}all"), seed, KINDS[4:])
    try_labels(seen, args.seeds)


if __name__ == "__main__":
    main()
