"""What to ask a person about next: groups of photographs from which the head learns most.

A question is about one photograph, and about others that very probably show the same. The ones that
are asked about are the middles of clusters of what the head is not sure of (weighted k-means, as in
Zhdanov, "Diverse mini-batch active learning", 2019), so that a round does not repeat itself, begins
with what is typical, and finds categories that the head does not know.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from learning.head import SMOOTHING, project, standardise
from learning.regression import Regression
from reporting.metrics import wilson_interval

ROUND = 20  # questions
LARGEST_GROUP = 12  # photographs of a question
GUESSES = 5  # names of a question
SAME = 0.6  # how probably a photograph shows the same as the first of its group, at least

# With 1, 3 and 10 of each of Oxford's categories the stronger one names 46.9, 73.7 and 89.3 % of
# the others correctly, the weaker one 46.8, 72.4 and 88.6 %.
FEW, PENALTY_OF_FEW, PENALTY = 1500, 1e-2, 1e-3
ITERATIONS = 12  # of k-means

# Whether two photographs show the same: the weights of 1, their cosine, and how probably they have
# the same category, before anything is known. What is known then changes them, against a prior of
# this strength. The first questions have this many photographs.
PRIOR, STRENGTH, FIRST_GROUP = np.array([-2.5, 6.4, 1.0]), 0.1, 6
ENOUGH_PAIRS = 30

DRAWN = 4  # questions of a round about photographs drawn at random, for the estimate
LEAST, RECENT = 12, 60  # of these, without which nothing is estimated, and those that count


class Estimate(NamedTuple):
    """How many of the photographs that nobody has named the head would name correctly."""

    share: float  # 0..1
    low: float  # of its 95 % interval
    high: float
    gain: float  # of the share, by the last round, as the head sees it


class Question(NamedTuple):
    """What is asked: the name of the first photograph, and which of the others show the same."""

    photographs: list[int]  # indices
    guesses: list[str]  # names, the likeliest first


class Chooser:
    """Chooses questions about N photographs, and learns from the answers.

    Features (N, F) are overwritten. The same answers get the same questions.
    """

    def __init__(self, features: torch.Tensor):
        standardise(features)
        self.features, self.rows = features, project(features)
        self.names: list[str] = []
        self.probabilities = torch.zeros(len(features), 0)
        self.before = torch.zeros(len(features), dtype=torch.int64)  # the names of a round ago
        self.pairs: list[tuple[float, float, bool]] = []  # cosine, same category, same in fact
        self.drawn: set[int] = set()  # of the questions of a round, at random
        self.checks: list[list[int]] = []  # such ones that were answered, with their groups

    def learn(self, labels: Mapping[int, str]) -> None:
        """Fit the head to what is known: the names of some photographs, by index."""
        earlier, self.names = self.names, sorted({*labels.values()})
        numbers = {name: i for i, name in enumerate(self.names)}
        if len(earlier) > 1:
            places = torch.tensor([numbers.get(name, 0) for name in earlier])
            self.before = places[self.probabilities.argmax(1)]
        if len(self.names) < 2:
            self.probabilities = torch.ones(len(self.features), len(self.names))
            return
        known = [*labels]
        targets = torch.tensor([numbers[labels[i]] for i in known])
        head = fit(self.features[known], targets, len(self.names))
        self.probabilities = F.linear(self.features, *head).softmax(1)

    def choose(self, done: Iterable[int]) -> list[Question]:
        """Choose the next questions, about photographs that are not done."""
        left = np.setdiff1d(np.arange(len(self.features)), [*done])
        if not len(left):
            return []
        unsure = np.ones(len(left))
        if len(self.names) > 1:
            unsure = (1 - self.probabilities[left].max(1).values.numpy()).clip(1e-3)
        drawn = self._draw(left)
        count = min(ROUND, len(left)) - len(drawn)
        middles = left[find_middles(self.rows[left], unsure, count)] if count else drawn[:0]
        firsts = np.concatenate([np.setdiff1d(middles, drawn), drawn])
        weights = self._weigh_pairs()
        free = {*left.tolist()} - {*firsts.tolist()}
        questions = []
        for first in firsts.tolist():
            others = np.array(sorted(free), int)
            evidence = np.stack(
                [np.ones(len(others)), *(each.numpy() for each in self._compare(first, others))], 1
            )
            chances = 1 / (1 + np.exp(-evidence @ weights))
            order = np.argsort(-chances, kind="stable")
            most = LARGEST_GROUP if len(self.pairs) >= ENOUGH_PAIRS else FIRST_GROUP
            group = others[[i for i in order[: most - 1] if chances[i] >= SAME]].tolist()
            free -= {*group}
            questions.append(Question([first, *group], self._guess(first)))
        return questions

    def estimate(self, labels: Mapping[int, str], done: Iterable[int]) -> Estimate | None:
        """Estimate the accuracy on what is left, by the photographs that were drawn at random.

        Heads are fitted without these and their groups, a part at a time, and have to name them.
        Returns None where too few were drawn.
        """
        left = np.setdiff1d(np.arange(len(self.features)), [*done])
        groups = [group for group in self.checks[-RECENT:] if group[0] in labels]
        if len(groups) < LEAST or not len(left):
            return None
        numbers, right = {name: i for i, name in enumerate(self.names)}, 0
        for part in (groups[::2], groups[1::2]):
            apart = {i for group in part for i in group}
            known = [i for i in labels if i not in apart]
            targets = torch.tensor([numbers[labels[i]] for i in known])
            head = fit(self.features[known], targets, len(numbers))
            firsts = [group[0] for group in part]
            best = F.linear(self.features[firsts], *head).argmax(1).tolist()
            right += sum(self.names[b] == labels[i] for b, i in zip(best, firsts))
        chances = self.probabilities[left]
        before = chances.gather(1, self.before[left][:, None])[:, 0]
        gain = float((chances.max(1).values - before).mean())
        low, high = wilson_interval(right, len(groups))
        return Estimate(right / len(groups), low, high, gain)

    def take(self, first: int, same: Iterable[int], others: Iterable[int]) -> None:
        """Learn an answer: which photographs of a group show the same as its first, or do not."""
        same = [*same]
        if first in self.drawn:
            others_drawn = [group for group in self.checks if group[0] != first]  # if taken back
            self.checks = [*others_drawn, [first, *same]]
        for members, is_same in ((same, True), (others, False)):
            members = np.array([*members], int)
            cosines, agreement = (each.tolist() for each in self._compare(first, members))
            self.pairs += [(c, a, is_same) for c, a in zip(cosines, agreement)]

    def _compare(self, first: int, others: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines (n,), and how probably the head gives the same name to both (n,)."""
        known = self.probabilities
        agreement = (
            known[others] @ known[first] if len(self.names) > 1 else torch.zeros(len(others))
        )
        return self.rows[others] @ self.rows[first], agreement

    def _draw(self, left: np.ndarray) -> np.ndarray:
        """Draw photographs at random; their names will say how good the head is."""
        drawn = np.random.default_rng(len(left)).permutation(left)[:DRAWN]
        self.drawn = {*drawn.tolist()}
        return drawn

    def _weigh_pairs(self) -> np.ndarray:
        """Fit the weights by logistic regression (Newton's method)."""
        weights = PRIOR.copy()
        if len(self.pairs) < ENOUGH_PAIRS:
            return weights
        pairs = np.array(self.pairs, float)
        evidence = np.c_[np.ones(len(pairs)), pairs[:, :2]]
        for _ in range(25):
            chances = 1 / (1 + np.exp(-evidence @ weights))
            slope = evidence.T @ (chances - pairs[:, 2]) + STRENGTH * (weights - PRIOR)
            spread = chances * (1 - chances)
            curve = (evidence * spread[:, None]).T @ evidence + STRENGTH * np.eye(3)
            weights = weights - np.linalg.solve(curve, slope)
        return weights

    def _guess(self, index: int) -> list[str]:
        chances = self.probabilities[index]
        best = chances.topk(min(GUESSES, len(chances))).indices.tolist()
        return [self.names[i] for i in best]


def fit(features: torch.Tensor, targets: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """Fit a linear head for `count` categories to standardised features; return (C, F) and (C,)."""
    regression = Regression(features, count, SMOOTHING)
    penalty = PENALTY_OF_FEW if len(features) < FEW else PENALTY
    weight, bias = regression.solve([(regression.x, targets)], penalty, regression.zero, 1e-4)
    return weight if regression.axes is None else weight @ regression.axes.T, bias


def find_middles(rows: torch.Tensor, weights: np.ndarray, count: int) -> np.ndarray:
    """Cluster rows (N, D) of length 1 with weights (N,); return the row in each cluster's middle.

    The start is that of k-means++ (Arthur & Vassilvitskii, 2007).
    """
    rng = np.random.default_rng(0)
    starts = [int(rng.choice(len(rows), p=weights / weights.sum()))]
    far = 1 - rows @ rows[starts[0]]
    while len(starts) < count:
        chances = far.clamp_min(0).double().numpy() * weights
        if not chances.any():  # all others are copies
            break
        starts.append(int(rng.choice(len(rows), p=chances / chances.sum())))
        far = torch.minimum(far, 1 - rows @ rows[starts[-1]])
    centres, mass = rows[starts], torch.from_numpy(weights).float()
    for _ in range(ITERATIONS):
        nearest = (rows @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows * mass[:, None])
        centres = F.normalize(sums, dim=1)
    close, nearest = (rows @ centres.T).max(1)
    members = (np.flatnonzero(nearest.numpy() == i) for i in range(len(centres)))
    return np.array([each[int(close[each].argmax())] for each in members if len(each)])
