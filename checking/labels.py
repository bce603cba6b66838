"""Wrong labels: photographs whose own category is improbable to what has not learned from them."""

import numpy as np
import torch

from learning.head import FOLDS, out_of_fold
from reporting.calibration import fit_temperature, softmax
from running.console import Progress, no_progress

CLOSENESS = 10.0  # a neighbour counts as exp(CLOSENESS x cosine)
# No category is less probable than that to heads, and to neighbours: none of them knows all.
HEADS_FLOOR, NEIGHBOURS_FLOOR = 1e-4, 0.02


def score_labels(
    features: torch.Tensor,
    labels: np.ndarray,
    copies: np.ndarray,
    neighbours: tuple[torch.Tensor, torch.Tensor],
    progress: Progress = no_progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Weigh each category for each photograph, by what has not learned from it: log weights (N, C).

    Linear probes that were fitted on other photographs, and the labels of its neighbours, vote as
    if they were independent; copies, which share a number (N,), have no vote for each other.
    Differences within a row count. The second result are the probes' logits (N, C). Features (N, F)
    are overwritten.
    """
    folds = divide(labels, copies)
    logits = out_of_fold(
        features, torch.from_numpy(labels), torch.from_numpy(folds), progress
    ).numpy()
    by_heads = softmax(logits / fit_temperature(logits, labels))
    indices, cosines = neighbours
    weights = (CLOSENESS * cosines).exp()
    groups = torch.from_numpy(copies)
    weights[groups[indices] == groups[:, None]] = 0
    votes = torch.zeros(logits.shape).scatter_add_(1, torch.from_numpy(labels)[indices], weights)
    by_neighbours = (votes / votes.sum(1, keepdim=True).clamp_min(1e-30)).numpy()
    evidence = np.log(by_heads + HEADS_FLOOR) + np.log(by_neighbours + NEIGHBOURS_FLOOR)
    return evidence, logits


def divide(labels: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Give each photograph a fold, 0..FOLDS-1 (N,): shares of each category, copies in one."""
    # The first of each set of copies is dealt out, category by category; the others follow it.
    _, first, number = np.unique(copies, return_index=True, return_inverse=True)
    folds = np.empty(len(first), int)
    folds[np.argsort(labels[first], kind="stable")] = np.arange(len(first)) % FOLDS
    return folds[number.reshape(-1)]


def suspicion(weights: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how suspicious each label is, 0..1 (N,), and the best other category (N,).

    It is that category's share in the sum of its weight and the label's; takes log weights (N, C).
    """
    rows = np.arange(len(labels))
    others = weights.copy()
    others[rows, labels] = -np.inf
    best = others.argmax(1)
    margin = others[rows, best] - weights[rows, labels]
    return 1 / (1 + np.exp(-margin)), best
