"""The head of a pretrained network: solved exactly, or learned where it has hidden layers."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from learning.activations import Activations
from learning.features import Features
from learning.resume import Penalty, RunRecord
from network.classifier import Classifier
from network.devices import move_if_it_fits
from network.familiarity import LogitSums
from running.console import Progress, no_progress

# The certainty that networks learn to leave to the other categories (Szegedy et
# al., "Rethinking the Inception architecture", CVPR 2016).
SMOOTHING = 0.1

# Penalties on squared weights, from strong to weak, as each solution is where the search for
# the next one starts.
PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5)
PENALTY = 1e-3  # where none is looked for
FOLDS = 3
ENOUGH = 2000  # photographs to judge a penalty by; a large set's folds need not all be tried
BATCH = 128  # photographs in a step of a head with hidden layers
SUSPECTS = 5  # photographs that a run's report names
LARGEST = 10_000  # rows of a square matrix that is not yet huge
ROWS = 512  # of it that are computed at once


def count_gradients(head: nn.Module, count: int) -> int:
    """Guess how many gradients, of a photograph each, fitting a head takes on so many.

    For a linear head it is what Oxford's photographs took: 83 to 85 times all of them.
    """
    if isinstance(head, nn.Linear):
        return 85 * count
    return _count_learning_epochs(count) * count


def fit_head(
    model: Classifier,
    activations: Activations,
    labels: np.ndarray,
    record: RunRecord,
    known: Features | None = None,
) -> tuple[float, LogitSums]:
    """Fit a pretrained network's head; return the mean loss, and the sums of the logits.

    The record notes the most suspicious photographs: those that look like others of another
    category even to a head that has learned their own.

    Args:
        model: its head is changed in place.
        activations: of the training photographs.
        labels: of all of them (N,), int64.
        record: of the run.
        known: features that need not be computed again.

    Raises:
        RunError: the features are not finite.
    """
    resources = activations.resources
    processes = resources.processes
    features = (known or Features()).of(activations)
    features = processes.collect(
        features, len(labels), everywhere=False, allocate=resources.allocate
    )
    loss, sums = torch.zeros(()), LogitSums(int(labels.max()) + 1)
    if processes.is_primary:
        features = move_if_it_fits(features, model.mean.device)
        targets = torch.from_numpy(labels).to(features.device)
        if isinstance(model.head, nn.Linear):
            size = len(labels), len(sums.sums)
            penalty = record.penalty.value_for(*size) if record.penalty else None
            logits, found = solve_head(
                model.head, features, targets, SMOOTHING, resources.progress, penalty
            )
            if penalty is None:
                record.penalty = Penalty(found, *size)
        else:
            logits = learn_head(model.head, features, targets, SMOOTHING, resources.progress)
        loss = F.cross_entropy(logits, targets, label_smoothing=SMOOTHING)
        sums.add(targets.cpu(), logits.cpu())
        own = logits.gather(1, targets[:, None])
        margins, best = (logits.scatter(1, targets[:, None], -torch.inf) - own).max(1)
        worst = margins.topk(min(SUSPECTS, len(margins))).indices
        record.suspects = [*zip(worst.tolist(), best[worst].tolist())]
    processes.copy_primary(model.head)
    sums.sums = processes.add(sums.sums)
    return processes.add(loss.cpu()).item(), sums


def standardise(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale features (N, F), in place, to mean 0 and standard deviation 1; return what these were.

    Those below a tenth of the median count as that: a feature that hardly ever changes
    would otherwise get weights that blow up where it does.
    """
    mean, std = features.mean(0), features.std(0, correction=0)
    std = std.clamp_min(max(0.1 * std.median().item(), 1e-6))
    features.sub_(mean).div_(std)
    return mean, std


def _project(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Turn standardised features (N, F), N < F, into whitened coordinates (N, N).

    At the optimum each category's weights are a weighted sum of the photographs' features: the
    penalty leaves nothing else. So the N directions of the photographs are enough. Their axes
    are orthonormal, so that the squared weights are the same along them, and principal, so
    that whitening is a division for each. Returns the coordinates, what whitening divides them
    by (N,), and the axes (F, N).
    """
    axes, triangle = torch.linalg.qr(x.T)
    _, rotation = torch.linalg.eigh(triangle @ triangle.T)
    coordinates = triangle.T @ rotation
    # With 1 the search takes a tenth fewer steps than with the 0.1 of `_whiten`.
    scale = (coordinates.square().mean(0) + 1).sqrt()
    return coordinates, scale, axes @ rotation


def _whiten(x: torch.Tensor) -> torch.Tensor | None:
    """Find what whitens standardised features (N, F), so that the search for a head is short.

    At the start of the search the loss curves like the features' covariance. With x L^-T in
    the place of x, where L L^T is about the covariance, it is round, and a search takes a
    quarter of the steps. Returns L, lower triangular (F, F), or None where it would be huge.
    """
    count, width = x.shape
    if width > LARGEST:
        return None
    covariance = x.new_zeros(width, width)
    for start in range(0, width, ROWS):  # the lower half is enough for Cholesky's method
        end = min(start + ROWS, width)
        covariance[start:end, :end] = x[:, start:end].T @ x[:, :end] / count
    covariance.diagonal().add_(0.1)
    return torch.linalg.cholesky(covariance)


class _Regression(NamedTuple):
    """Multinomial logistic regression on standardised features, with label smoothing.

    What is searched are weights u for whitened features; these need not be computed, as u turns
    into weights for the standardised ones.
    """

    smoothing: float
    factor: torch.Tensor | None  # of `_whiten`, or (F,), its diagonal, of `_project`

    def loss(
        self, solution: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Sum up the cross-entropy of unwhitened weights (C, F) and biases (C,)."""
        return F.cross_entropy(
            F.linear(x, *solution), labels, reduction="sum", label_smoothing=self.smoothing
        )

    def unwhiten(self, u: torch.Tensor) -> torch.Tensor:
        """Turn weights for whitened features into weights for the standardised ones."""
        if self.factor is None:
            return u
        if self.factor.dim() == 1:
            return u / self.factor
        return torch.linalg.solve_triangular(self.factor, u, upper=False, left=False)

    def solve(
        self,
        parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
        penalty: float,
        start: tuple[torch.Tensor, torch.Tensor],
        tolerance: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Minimise the mean loss plus `penalty` / 2 times the squared weights by L-BFGS.

        It ends where a step changes the loss by less than the tolerance.
        """
        count = sum(len(labels) for _, labels in parts)
        u, bias = (value.clone().requires_grad_() for value in start)
        optimizer = torch.optim.LBFGS(
            [u, bias],
            max_iter=300,
            history_size=20,
            tolerance_grad=1e-6,
            tolerance_change=tolerance,
            line_search_fn="strong_wolfe",
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            weight = self.unwhiten(u)
            losses = [self.loss((weight, bias), *part) for part in parts]
            loss = cast(torch.Tensor, sum(losses)) / count
            loss = loss + penalty / 2 * weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return u.detach(), bias.detach()

    def search(
        self,
        x: torch.Tensor,
        labels: torch.Tensor,
        start: tuple[torch.Tensor, torch.Tensor],
        folds: int,
    ) -> Iterator[list[float]]:
        """Look for the penalty: yield the best one so far after each fit, as a batch of one.

        Folds that are left out of the fits judge it, by their loss.
        """
        # Photographs stand sorted by category, so that every fold has its share of each.
        parts = [(x[i::FOLDS], labels[i::FOLDS]) for i in range(FOLDS)]
        solutions = [start] * folds
        lowest, best = math.inf, PENALTIES[0]
        for penalty in PENALTIES:
            for i, solution in enumerate(solutions):
                solutions[i] = self.solve(parts[:i] + parts[i + 1 :], penalty, solution, 1e-4)
                if i + 1 < folds:
                    yield [best]
            loss = sum(
                self.loss((self.unwhiten(u), bias), *part).item()
                for (u, bias), part in zip(solutions, parts)
            )
            if loss < lowest:
                lowest, best = loss, penalty
            yield [best]
            if best != penalty:
                break  # weaker ones will be no better


def solve_head(
    head: nn.Linear,
    features: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float = 0.0,
    progress: Progress = no_progress,
    penalty: float | None = None,
) -> tuple[torch.Tensor, float]:
    """Set a linear head to the optimum of logistic regression; return its logits and penalty.

    The features (N, F) are overwritten. They are standardised, which is folded into the
    weights; fewer photographs than features are searched along their own directions alone. The
    problem is convex, but a search ends before the very optimum: it starts at zero, so that it
    ends at the same head whether the penalty had to be looked for or was known.

    Args:
        head: to be set.
        features: of the photographs.
        labels: the index of each one's category (N,).
        smoothing: of the labels.
        progress: shows how far it is.
        penalty: on squared weights, where it is known.

    Returns:
        The logits of the photographs (N, C), and the penalty.
    """
    mean, std = standardise(features)
    few = len(features) < min(head.in_features, LARGEST)
    x, factor, axes = _project(features) if few else (features, _whiten(features), None)
    regression = _Regression(smoothing, factor)
    zero = x.new_zeros(head.out_features, x.shape[1]), x.new_zeros(head.out_features)
    folds = min(FOLDS, math.ceil(ENOUGH * FOLDS / len(labels)))
    solution = zero

    def fits() -> Iterator[list[float]]:
        nonlocal solution
        best = [penalty or 0.0]
        if not penalty:
            for best in regression.search(x, labels, zero, folds):
                yield best
        solution = regression.solve([(x, labels)], best[0], zero, 1e-5)
        yield best

    most = 1 if penalty else len(PENALTIES) * folds + 1  # the search may end early
    [found] = deque(progress(fits(), most, "solving the head", " fits"), maxlen=1).pop()
    with torch.no_grad():
        u, bias = solution
        weight = regression.unwhiten(u)
        logits = F.linear(x, weight, bias)
        weight = (weight if axes is None else weight @ axes.T) / std
        head.weight.copy_(weight)
        head.bias.copy_(bias - weight @ mean)
    return logits, found


def out_of_fold(
    features: torch.Tensor,
    labels: torch.Tensor,
    folds: torch.Tensor,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Compute what linear heads say of photographs that they have not learned from: (N, C).

    A head for each fold learns from the others; then a second one for each, from those of them
    that the first heads name as they are labelled, where that is at least half of a category. The
    logits are the mean of both.

    Args:
        features: of the photographs (N, F), overwritten.
        labels: the index of each one's category (N,); some may be wrong.
        folds: 0..FOLDS-1 (N,); copies of one photograph belong into one fold.
        progress: shows how far it is.
    """
    standardise(features)
    few = len(features) < min(features.shape[1], LARGEST)
    x, factor = _project(features)[:2] if few else (features, _whiten(features))
    regression = _Regression(SMOOTHING, factor)
    count = int(labels.max()) + 1
    zero = x.new_zeros(count, x.shape[1]), x.new_zeros(count)
    logits = x.new_zeros(len(x), count)

    def solve_each() -> Iterator[list[int]]:
        learned_from = torch.ones(len(x), dtype=torch.bool)
        for _ in range(2):
            for fold in range(FOLDS):
                own = folds == fold
                others = ~own & learned_from
                part = x[others], labels[others]
                u, bias = regression.solve([part], PENALTY, zero, 1e-4)
                logits[own] += F.linear(x[own], regression.unwhiten(u), bias) / 2
                yield [fold]
            agreed = logits.argmax(1) == labels
            shares = torch.bincount(labels, agreed.float()) / torch.bincount(labels)
            # A small category that is hard to tell would know even less.
            learned_from = agreed | (shares[labels] < 0.5)

    for _ in progress(solve_each(), 2 * FOLDS, "solving heads", " fits"):
        pass
    return logits


def _count_learning_epochs(count: int) -> int:
    """Say how many epochs `learn_head` takes with so many photographs."""
    return max(20, math.ceil(2000 / math.ceil(count / BATCH)))


def learn_head(
    head: nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float = 0.0,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Train a head with hidden layers on features (N, F); return its logits (N, C) at the end.

    The features are overwritten: standardised, which is folded into the first layer. AdamW
    with a cosine schedule takes 2000 steps, or 20 epochs if these are more: on features a
    step costs a millisecond or two.
    """
    mean, std = standardise(features)
    assert isinstance(head, nn.Sequential)
    first = head[0]
    assert isinstance(first, nn.Linear)
    device = first.weight.device
    head.to(features.device).train()
    steps_an_epoch = math.ceil(len(labels) / BATCH)
    epochs = _count_learning_epochs(len(labels))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_an_epoch)
    numbers = ([epoch] for epoch in range(epochs))
    for _ in progress(numbers, epochs, "solving the head", " epochs"):
        for batch in torch.randperm(len(labels)).to(features.device).split(BATCH):
            loss = F.cross_entropy(head(features[batch]), labels[batch], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    head.eval()
    with torch.no_grad():
        logits = head(features)
        first.weight.div_(std)
        first.bias.sub_(first.weight @ mean)
    head.to(device)
    return logits
