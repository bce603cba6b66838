"""Promises: how often they are kept, broken and refused, and how much is named.

    python benchmarks/promise.py CHECKPOINT LIKE UNLIKE

LIKE holds photographs as those that the network learned from, which it has not seen (a test split),
UNLIKE photographs of the same categories from elsewhere; both have a folder for each category. In
each of 500 draws a batch of 1,000 of them, or of a mixture, is promised something twice: by the
network's own valid, and by 100 of the batch that a person has checked. It also comes as a stream,
category by category. Nothing is trained.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from common import machine, make_parser

import data_utils
import model_utils
from formats.schema import CalibrationSet, NetworkInfo, Prediction
from network.ood import ood_score
from prediction.likeness import LOOKED_AT, Likeness
from prediction.promise import (
    FAMILIAR,
    SAMPLE_SEQUENCES,
    find_threshold,
    score_calibration,
)
from running.errors import InputError
from running.threads import default_workers

DRAWS, BATCH = 500, 1000
PROMISES = (0.99, 0.98, 0.95, 0.9, 0.8)
SHARES = {"like valid": 0.0, "10 % from elsewhere": 0.1, "30 %": 0.3, "all from elsewhere": 1.0}
CHECKED = 100


def ask(checkpoint: str, folder: str) -> tuple[CalibrationSet, NetworkInfo]:
    """Ask a network about the photographs of a folder whose categories it knows."""
    model, info = model_utils.load_checkpoint(checkpoint)
    paths = [
        path for path in sorted(Path(folder).glob("*/*")) if path.parent.name in info.categories
    ]
    labels = np.array([info.categories.index(path.parent.name) for path in paths])
    batches = data_utils.load_batches([*map(str, paths)], info.preprocessing, default_workers())
    logits = model_utils.compute_logits(model, batches)
    logs = logits.log_softmax(1).double().numpy()
    return CalibrationSet(logs, labels, ood_score(logits, model.class_means).numpy()), info


def take(known: CalibrationSet, rows: np.ndarray) -> CalibrationSet:
    """Choose some photographs."""
    return CalibrationSet(*(array[rows] for array in known))


def draw(
    rng: np.random.Generator, like: CalibrationSet, unlike: CalibrationSet, share: float
) -> CalibrationSet:
    """Draw a batch of which a share is from elsewhere."""
    others = round(share * BATCH)
    parts = [
        take(known, rng.permutation(len(known.labels))[:count])
        for known, count in ((like, BATCH - others), (unlike, others))
    ]
    whole = CalibrationSet(*(np.concatenate(arrays) for arrays in zip(*parts)))
    return take(whole, rng.permutation(BATCH))


def best_share(scores: np.ndarray, correct: np.ndarray, promise: float) -> float:
    """Return the largest share that a limit could have named without breaking the promise."""
    order = np.argsort(-scores, kind="stable")
    shares = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    kept = np.flatnonzero(shares >= promise)
    return (kept.max() + 1) / len(order) if len(kept) else 0.0


def is_refused(valid: CalibrationSet, names: list[str], batch: CalibrationSet) -> bool:
    """Whether predict.py finds that a batch in random order is unlike valid."""
    likeness = Likeness(valid, names)
    for logs, _, score in zip(*take(batch, np.arange(LOOKED_AT))):
        likeness.add(Prediction(np.exp(logs), score))
    return likeness.differ() is not None


def is_broken_off(valid: CalibrationSet, names: list[str], batch: CalibrationSet) -> bool:
    """Whether predict.py finds it while the categories of the batch come one after the other."""
    likeness = Likeness(valid, names)
    in_order = take(batch, np.argsort(batch.labels, kind="stable"))
    return any(
        likeness.add(Prediction(np.exp(logs), score)) and likeness.differ(is_stream=True)
        for logs, _, score in zip(*in_order)
    )


def main() -> None:
    parser = make_parser(__doc__, "checkpoint", "like", "unlike")
    args = parser.parse_args()
    print(machine())
    like, info = ask(args.checkpoint, args.like)
    unlike, _ = ask(args.checkpoint, args.unlike)
    valid = info.calibration.valid
    if valid is None:
        raise InputError("the checkpoint is of an earlier version")
    for name, known in (("valid", valid), ("like", like), ("unlike", unlike)):
        right = (known.log_probabilities.argmax(1) == known.labels).mean()
        print(f"{name}: n = {len(known.labels)}, {right:.2%} correct")
    least = info.calibration.ood_threshold(FAMILIAR)
    limits = {
        promise: find_threshold(*score_calibration(valid, least), promise) for promise in PROMISES
    }
    for kind, share in SHARES.items():
        rng = np.random.default_rng(0)
        refused, stopped, broken, none = 0, 0, Counter[tuple[float, str]](), Counter[float]()
        named: dict[float, list[float]] = {promise: [] for promise in PROMISES}
        best: dict[float, list[float]] = {promise: [] for promise in PROMISES}
        for _ in range(DRAWS):
            batch = draw(rng, like, unlike, share)
            scores, correct = score_calibration(batch, -np.inf)
            by_valid, _ = score_calibration(batch, least)
            is_named = not is_refused(valid, info.names, batch)
            refused += not is_named
            stopped += is_broken_off(valid, info.names, batch)
            for promise, limit in limits.items():
                if limit is not None:
                    safe = by_valid >= limit
                    wrong = is_named and safe.any() and correct[safe].mean() < promise
                    broken[promise, "valid"] += bool(wrong)
                rows = slice(CHECKED)  # a batch is in random order
                lowest = find_threshold(
                    scores[rows], correct[rows], promise, sequences=SAMPLE_SEQUENCES
                )
                none[promise] += lowest is None
                safe = scores >= (np.inf if lowest is None else lowest)
                broken[promise, "sample"] += bool(safe.any() and correct[safe].mean() < promise)
                named[promise].append(safe.mean())
                best[promise].append(best_share(scores, correct, promise))
        print(f"\n{kind}: refused {refused} of {DRAWS}, as streams broken off {stopped}")
        for promise in PROMISES:
            could = "" if limits[promise] is not None else " (valid cannot)"
            print(
                f"  promise {promise}: by valid broken {broken[promise, 'valid']}{could}; by "
                f"{CHECKED} checked broken {broken[promise, 'sample']}, impossible "
                f"{none[promise]}, named {np.mean(named[promise]):.1%} of "
                f"{np.mean(best[promise]):.1%}"
            )


if __name__ == "__main__":
    main()
