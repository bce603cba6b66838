"""Promises: how often they are kept, and how much is named.

    python benchmarks/promise.py FOLDER [FOLDER ...]

Each FOLDER is one of benchmarks/cross_validation.py, with the runs of its folds. Their test splits
hold photographs that nothing was chosen by. In each of 500 draws 818 of them, or one half, make the
promise, and the others tell whether it is kept. Nothing is trained.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import machine, make_parser

import data_utils
import model_utils
from formats.schema import CalibrationSet
from network.ood import ood_score
from prediction import promise
from prediction.promise import find_threshold, score
from running.threads import default_workers

DRAWS = 500
PROMISES = (0.99, 0.98, 0.95)
LIKE_VALID = 818  # photographs, as valid has for Oxford


class Known(NamedTuple):
    """The predictions for photographs whose categories are known."""

    certainty: np.ndarray  # the probability of the best name (V,)
    correct: np.ndarray  # whether it is correct (V,), bool
    ood_score: np.ndarray  # (V,)


def compare(valid: CalibrationSet) -> Known:
    """Compare predictions with the labels."""
    shares = np.exp(valid.log_probabilities.astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    return Known(shares.max(1), shares.argmax(1) == valid.labels, valid.ood_score)


def ask(checkpoint: Path, paths: list[str], labels: np.ndarray) -> Known:
    """Ask a network about photographs."""
    model, info = model_utils.load_checkpoint(checkpoint)
    batches = data_utils.load_batches(paths, info.preprocessing, default_workers())
    logits = model_utils.compute_logits(model, batches)
    ood_scores = ood_score(logits, model.class_means).numpy()
    logs = logits.log_softmax(1).numpy()
    return compare(CalibrationSet(logs, labels, ood_scores))


def held_out(folder: Path) -> Known:
    """Ask the network of each fold about the photographs that it has not seen; kept in a file."""
    kept = folder / "promise.npz"
    if not kept.exists():
        parts = []
        for fold in sorted(folder.glob("fold*")):
            split = data_utils.find_data(fold / "data").splits["test"]
            parts.append(ask(fold / "checkpoint.pth", split.paths, split.labels))
        joined = Known(*(np.concatenate(each) for each in zip(*parts)))
        np.savez(kept, **joined._asdict())
    with np.load(kept) as arrays:
        return Known(*(arrays[key] for key in Known._fields))


def try_draws(known: Known, scores: np.ndarray, wanted: float, size: int) -> str:
    """Make a promise by `size` photographs and test it on the others, many times."""
    rng = np.random.default_rng(0)
    broken, refused, shares = 0, 0, []
    for _ in range(DRAWS):
        first, second = np.split(rng.permutation(len(scores)), [size])
        limit = find_threshold(scores[first], known.correct[first], wanted)
        if limit is None:
            refused += 1
            continue
        named = scores[second] >= limit
        shares.append(named.mean())
        broken += known.correct[second][named].mean() < wanted
    said = f"broken {broken}, refused {refused} times of {DRAWS}"
    if not shares:
        return said
    return f"{said}; {np.mean(shares):.2%} named on average ({np.std(shares):.2%})"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    args = parser.parse_args()
    print(machine())
    for folder in args.folders:
        known = held_out(folder)
        print(f"{folder}: n = {len(known.correct)}, {known.correct.mean():.2%} correct")
        least = float(np.quantile(known.ood_score, 1 - promise.FAMILIAR))
        for name, scores in (
            ("probability alone", known.certainty),
            ("and familiar", score(known.certainty, known.ood_score, least)),
        ):
            for wanted in PROMISES:
                for size in (LIKE_VALID, len(known.correct) // 2):
                    said = try_draws(known, scores, wanted, size)
                    print(f"  {name}, promise {wanted} by {size}: {said}", flush=True)


if __name__ == "__main__":
    main()
