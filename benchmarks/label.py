"""Labelling a heap: accuracy on what nobody has named, by answers given, with a simulated person.

    python benchmarks/label.py flowers outside/grocery outside/trash --seeds 5

The labels of all photographs of a folder are hidden. A group's name and each photograph that is
clicked away count as an answer; of a group of which most do not belong, the person says "only the
first", which counts as one more. The head is fitted at the question that reaches so many answers,
which may be in the middle of a round. Accuracy is that on a tenth of the photographs that is kept
apart and never shown, another one for each seed, since what groups leave is the hardest. Beside it,
with the same features and the same head, photographs one by one: at random; the centres of k-means
(Lowe et al., "Labelling by k-means", 2024); the smallest margin; TypiClust (Hacohen et al., "Active
learning on a budget", ICML 2022).
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from common import machine, make_parser

import data_utils
from labelling.choose import ROUND, Chooser, find_middles
from labelling.features import measure
from learning.resources import Resources
from running.settings import Settings
from running.threads import default_workers

# After each question: answers given, and names by photograph.
Course: TypeAlias = Iterator[tuple[int, dict[int, str]]]
# Labels photographs, but not those that are kept apart, by a seed.
Way: TypeAlias = Callable[[Chooser, list[str], list[int], int], Course]
# Picks a round of the photographs that are left, by those that are known.
Known: TypeAlias = dict[int, str]
Pick: TypeAlias = Callable[[Chooser, np.ndarray, Known, np.random.Generator], Sequence[int]]

MARKS = (50, 100, 200, 300, 500, 1000)  # answers


def ours(chooser: Chooser, labels: list[str], apart: list[int], seed: int) -> Course:
    known: dict[int, str] = {}
    answers = 0
    while questions := chooser.choose([*known, *apart]):
        for first, *group in (question.photographs for question in questions):
            name = labels[first]
            same = [i for i in group if labels[i] == name]
            away = [i for i in group if labels[i] != name]
            is_alone = len(away) > len(group) / 2 and len(group) > 1
            if is_alone:
                same, away = [], []
            chooser.take(first, same, away)
            known |= dict.fromkeys([first, *same], name)
            answers += 1 + is_alone + len(away)
            yield answers, known
        chooser.learn(known)


def one_by_one(pick: Pick) -> Way:
    """Make a way that asks about photographs alone, by what picks a round of them."""

    def way(chooser: Chooser, labels: list[str], apart: list[int], seed: int) -> Course:
        known: dict[int, str] = {}
        rng = np.random.default_rng(seed)
        while len(left := np.setdiff1d(np.arange(len(labels)), [*known, *apart])):
            for i in pick(chooser, left, known, rng):
                known[i] = labels[i]
                yield len(known), known
            chooser.learn(known)

    return way


def pick_random(
    chooser: Chooser, left: np.ndarray, known: Known, rng: np.random.Generator
) -> Sequence[int]:
    return rng.permutation(left)[:ROUND].tolist()


def pick_centres(
    chooser: Chooser, left: np.ndarray, known: Known, rng: np.random.Generator
) -> Sequence[int]:
    return left[
        find_middles(chooser.rows[left], np.ones(len(left)), min(ROUND, len(left)))
    ].tolist()


def pick_margin(
    chooser: Chooser, left: np.ndarray, known: Known, rng: np.random.Generator
) -> Sequence[int]:
    if len(chooser.names) < 2:
        return pick_random(chooser, left, known, rng)
    best = chooser.probabilities[left].topk(2).values
    return left[(best[:, 0] - best[:, 1]).argsort()[:ROUND].numpy()].tolist()


def pick_typical(
    chooser: Chooser, left: np.ndarray, known: Known, rng: np.random.Generator
) -> Sequence[int]:
    """As many clusters as there will be labels; of the largest without one the most typical."""
    rows = chooser.rows
    count = min(len(known) + ROUND, len(rows))
    centres = rows[find_middles(rows, np.ones(len(rows)), count)]
    cluster = (rows @ centres.T).argmax(1).numpy()
    labelled = (
        np.bincount(cluster[[*known]], minlength=len(centres)) if known else np.zeros(len(centres))
    )
    sizes = np.bincount(cluster, minlength=len(centres))
    picked: list[int] = []
    for i in np.lexsort((-sizes, labelled)):
        members = np.setdiff1d(np.flatnonzero(cluster == i), [*known])
        if len(members):
            near = (rows[members] @ rows[members].T).topk(min(20, len(members))).values.mean(1)
            picked.append(int(members[int(near.argmax())]))
        if len(picked) == ROUND:
            break
    return picked


WAYS = {
    "ours": ours,
    "random": one_by_one(pick_random),
    "k-means": one_by_one(pick_centres),
    "margin": one_by_one(pick_margin),
    "TypiClust": one_by_one(pick_typical),
}


def accuracy(chooser: Chooser, labels: Sequence[str], indices: Sequence[int]) -> float:
    """Return the share of photographs that the head names rightly."""
    best = chooser.probabilities[list(indices)].argmax(1).tolist()
    return float(np.mean([chooser.names[b] == labels[i] for b, i in zip(best, indices)]))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=1000, help="answers")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    args = parser.parse_args()
    print(machine(), flush=True)
    marks = [mark for mark in MARKS if mark <= args.most]
    for folder in args.folders:
        data = data_utils.find_data(folder)
        paths = data.paths
        numbers = np.concatenate([split.labels for split in data.splits.values()])
        resources = Resources(default_workers(), ".")
        features = measure(paths, Settings(epochs=0), False, None, resources)
        for name in args.ways:
            found: dict[int, list[float]] = {mark: [] for mark in marks}
            errors: list[tuple[float, bool]] = []
            for seed in range(args.seeds):
                labels = [data.categories[i] for i in numbers]
                order = np.random.default_rng(seed).permutation(len(labels))
                apart = order[: len(labels) // 10].tolist()
                chooser, left = Chooser(features.clone()), [*marks]
                for answers, known in WAYS[name](chooser, labels, apart, seed):
                    if answers < left[0]:
                        continue
                    chooser.learn(known)
                    share = accuracy(chooser, labels, apart)
                    while left and answers >= left[0]:
                        found[left.pop(0)].append(share)
                    if name == "ours" and (said := chooser.estimate(known, known)):
                        rest = np.setdiff1d(np.arange(len(labels)), [*known])
                        share = accuracy(chooser, labels, rest.tolist())
                        errors.append((said.share - share, said.low <= share <= said.high))
                    if not left:
                        break
            text = ", ".join(
                f"{mark}: {statistics.mean(each):.1%} ({min(each):.1%} to {max(each):.1%})"
                for mark, each in found.items()
                if each
            )
            print(f"{Path(folder).name}, {name}: {text}", flush=True)
            if errors:
                far = statistics.mean(error for error, _ in errors)
                inside = statistics.mean(is_in for _, is_in in errors)
                print(
                    f"  estimated minus true: {far:+.1%} on average; {inside:.0%} in the interval"
                )


if __name__ == "__main__":
    main()
