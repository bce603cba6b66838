"""Wrong labels: photographs whose own category is improbable to what has not learned from them."""

import numpy as np
import torch

from checking.copies import LONGEST_CHAIN
from images.copies import group_pairs
from learning.head import FOLDS, out_of_fold, project, standardise
from reporting.calibration import fit_temperature, softmax
from running.console import Progress, no_progress

NEIGHBOURS = 30  # of a photograph

CLOSENESS = 10.0  # a neighbour counts as exp(CLOSENESS x cosine)
# No category is less probable than that to heads, and to neighbours: none of them knows all.
HEADS_FLOOR, NEIGHBOURS_FLOOR = 1e-4, 0.02


def find_neighbours(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find each photograph's nearest ones: indices and cosines (N, k), the nearest first.

    Features (N, F) are standardised in place, and compared as `learning.head.project` says.
    """
    standardise(features)
    rows, count = project(features), len(features)
    found = []
    for start in range(0, count, 1024):
        cosines = rows[start : start + 1024] @ rows.T
        cosines.diagonal(start).fill_(-2)
        found.append(cosines.topk(min(NEIGHBOURS, count - 1), 1))
    values, indices = zip(*found)
    return torch.cat(indices), torch.cat(values)


def score_labels(
    features: torch.Tensor,
    labels: np.ndarray,
    pairs: np.ndarray,
    neighbours: torch.Tensor,
    cosines: torch.Tensor,
    progress: Progress = no_progress,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Score how suspicious each label is, by what has not learned from the photograph.

    Linear probes that were fitted on other photographs, and the labels of its neighbours, vote as
    if they were independent; copies, in pairs (P, 2), have no vote for each other. Features
    (N, F) are overwritten. Returns scores (N,), the share 0..1 of the best other category in the
    sum of its weight and the label's; that category (N,); the probes' logits (N, C); and how many
    labels are wrong, about.
    """
    copies = group_pairs(pairs, len(labels), LONGEST_CHAIN)
    # The first of each set of copies is dealt out, category by category; the others follow it.
    _, first, number = np.unique(copies, return_index=True, return_inverse=True)
    folds = np.empty(len(first), int)
    folds[np.argsort(labels[first], kind="stable")] = np.arange(len(first)) % FOLDS
    targets = torch.from_numpy(labels)
    logits = out_of_fold(features, targets, torch.from_numpy(folds[number]), progress).numpy()

    by_heads = softmax(logits / fit_temperature(logits, labels))
    weights = (CLOSENESS * cosines).exp()
    ties = np.arange(len(labels))[:, None] * len(labels) + neighbours.numpy()
    both = np.concatenate([pairs, pairs[:, ::-1]]) @ [len(labels), 1]
    weights[torch.from_numpy(np.isin(ties, both))] = 0
    votes = torch.zeros(logits.shape).scatter_add_(1, targets[neighbours], weights)
    by_neighbours = (votes / votes.sum(1, keepdim=True).clamp_min(1e-30)).numpy()
    evidence = np.log(by_heads + HEADS_FLOOR) + np.log(by_neighbours + NEIGHBOURS_FLOOR)
    scores, best = _score(evidence, labels)
    wrong = count_wrong(scores, _score(evidence, mislabel(evidence, labels))[0])
    return scores, best, logits, wrong


def _score(evidence: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of labels (N,) by evidence (N, C), and the best other categories (N,)."""
    rows = np.arange(len(labels))
    others = evidence.copy()
    others[rows, labels] = -np.inf
    best = others.argmax(1)
    return 1 / (1 + np.exp(evidence[rows, labels] - evidence[rows, best])), best


def mislabel(evidence: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw a wrong label for each photograph (N,).

    Half of them are any, half those which its category is most likely to be confused with.
    """
    rng, count = np.random.default_rng(0), evidence.shape[1]
    mean = np.stack([evidence[labels == c].sum(0) for c in range(count)])
    np.fill_diagonal(mean, -np.inf)
    any_other = (labels + rng.integers(1, count, len(labels))) % count
    return np.where(rng.random(len(labels)) < 0.5, any_other, mean.argmax(1)[labels])


def count_wrong(scores: np.ndarray, of_wrong: np.ndarray) -> float:
    """Estimate how many labels are wrong: twice as many as score above half of wrong ones.

    `of_wrong` are the scores that photographs would have under wrong labels (N,). So high hardly
    any right label scores.
    """
    return min(2.0 * int((scores > np.median(of_wrong)).sum()), float((scores > 0.5).sum()))
