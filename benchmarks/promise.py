"""Promises: how often they are kept, how much is named, and what foreign photographs do to them.

    python benchmarks/promise.py FOLDER [FOLDER ...] [--foreign CHECKPOINT KNOWN FOREIGN]

Each FOLDER is one of benchmarks/cross_validation.py, with the runs of its folds. Their test splits
hold photographs that nothing was chosen by. In each of 500 draws 818 of them, or one half, make the
promise, and the others tell whether it is kept. Nothing is trained.

--foreign names the photographs of KNOWN, a folder of categories of a network, mixed with so many of
FOREIGN, a folder or a list of other photographs, that these are 30 %; the promise is that of the
checkpoint.
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
FOREIGN = 0.3
FAMILIAR = (1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.9, 0.8)
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
    """Ask a network about photographs; of foreign ones the label is -1."""
    model, info = model_utils.load_checkpoint(checkpoint)
    batches = data_utils.load_batches(paths, info.preprocessing, default_workers())
    logits = model_utils.compute_logits(model, batches)
    ood_scores = ood_score(logits, model.class_means).numpy()
    logs = logits.log_softmax(1).numpy()
    known = compare(CalibrationSet(logs, np.maximum(labels, 0), ood_scores))
    return known._replace(correct=known.correct & (labels >= 0))


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
    """Make a promise by so many of the photographs, and look at the others, many times."""
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


def try_foreign(own: Known, known: Known, foreign: Known) -> None:
    """Mix foreign photographs in, and count them as wrong where they are named.

    For several shares of valid, `own`, that are familiar enough for a name.
    """
    ratio = FOREIGN / (1 - FOREIGN) * len(known.correct) / len(foreign.correct)
    for share in FAMILIAR:
        least = float(np.quantile(own.ood_score, 1 - share))
        scores = score(own.certainty, own.ood_score, least)
        made = {wanted: find_threshold(scores, own.correct, wanted) for wanted in PROMISES}
        wanted, limit = next(
            ((w, limit) for w, limit in made.items() if limit is not None), (0.0, None)
        )
        if limit is None:
            print(f"  familiar {share}: no promise can be kept")
            continue
        named = score(known.certainty, known.ood_score, least) >= limit
        accepted = score(foreign.certainty, foreign.ood_score, least) >= limit
        wrong = (named & ~known.correct).sum() + ratio * accepted.sum()
        print(
            f"  familiar {share}, promise {wanted}: {named.mean():.1%} of the known and "
            f"{accepted.mean():.1%} of the foreign named; "
            f"{wrong / (named.sum() + ratio * accepted.sum()):.2%} of the names wrong"
        )


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--foreign", nargs=3, type=Path, metavar=("CHECKPOINT", "KNOWN", "FOREIGN"))
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
    if args.foreign:
        checkpoint, folder, others = args.foreign
        _, info = model_utils.load_checkpoint(checkpoint)
        assert info.calibration.valid
        own = compare(info.calibration.valid)
        paths = data_utils.find_photographs(folder)
        labels = np.array([info.categories.index(Path(path).parent.name) for path in paths])
        known = ask(checkpoint, paths, labels)
        found = data_utils.find_photographs(others) if others.is_dir() else []
        found = (found or others.read_text().splitlines())[:: max(1, len(found) // 2000)]
        foreign = ask(checkpoint, found, np.full(len(found), -1))
        print(f"{len(known.correct)} known, {len(foreign.correct)} foreign of {others}")
        try_foreign(own, known, foreign)


if __name__ == "__main__":
    main()
