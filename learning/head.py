"""The head of a pretrained network: logistic regression, or learned where it has hidden layers."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from learning.activations import Activations
from learning.evaluation import head_logits
from learning.regression import Regression, Solution
from learning.resources import Resources
from learning.run import L2Penalty, Run
from network.devices import move_if_it_fits
from network.ood import LogitSums
from reporting.growth import measure_growth
from running.console import Progress, no_progress
from running.recipe import count_head_views

# The certainty that networks learn to leave to the other categories (Szegedy et
# al., "Rethinking the Inception architecture", CVPR 2016).
SMOOTHING = 0.1

# L2 penalties, from strong to weak: each solution is where the search for the next one starts.
L2_PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5)
L2_PENALTY = 1e-3  # where none is chosen

# How far a category's share of train is taken out of the logits: with 0 large categories are
# preferred, with 1 all are named as readily. A quarter raises the mean accuracy per class where
# sizes differ, and changes the accuracy by no more than chance (benchmarks/results/few.md).
BALANCE = 0.25
FOLDS = 3
ENOUGH = 2000  # photographs to choose a penalty by; a large set's folds need not all be tried
BATCH = 128  # photographs in a step of a head with hidden layers
LARGEST_HALF = 5000  # photographs whose features are copied to see how the head grows
# Principal components along which photographs are compared, and photographs that each needs.
DIMENSIONS, PHOTOGRAPHS_EACH = 256, 8
FLOOR = 0.1  # added to the variances, so that what hardly varies does not count as much
SUSPECTS = 5  # photographs that a run's report names, at most


def count_gradients(head: nn.Module, count: int) -> int:
    """Estimate the time of fitting a head, in gradients of one photograph each.

    For a linear head it is what Oxford's 6,552 photographs took, or a half and a quarter of them.
    """
    if isinstance(head, nn.Linear):
        return (70 if count > head.in_features else 110) * count
    return count_head_epochs(count) * count


def count_head_epochs(count: int) -> int:
    """Return how many epochs `learn_head` takes: 2000 steps, or 20 epochs if these are more."""
    return max(20, math.ceil(2000 / math.ceil(count / BATCH)))


def view_features(run: Run, activations: Activations, count: int) -> torch.Tensor:
    """Compute what the head learns from, for `count` photographs in V views: float32 (N, V, F).

    Only rank 0 gets them. Raises RunError if they are not finite.
    """
    resources = activations.resources
    views = []
    for view in range(count_head_views(count)):
        mine = run.features.of(activations, "features", view)
        views.append(resources.processes.collect(mine, count, False, resources.allocate))
    return torch.stack(views, 1) if views[1:] else views[0].unsqueeze(1)  # many are not copied


def fit_head(
    run: Run, features: torch.Tensor, labels: np.ndarray, resources: Resources
) -> tuple[float, torch.Tensor, nn.Linear | None]:
    """Fit the head of a pretrained network.

    Returns the mean loss, the class means, and a head that has learned from every second photograph
    of each category, if it is linear and they are not too many to be copied. The run keeps the most
    suspicious photographs: those that look like others of another category even to a head that has
    learned their own. The run's model is changed in place, and features, see `view_features`, are
    overwritten; labels are int64 (N,).
    """
    model, processes, count = run.model, resources.processes, len(labels)
    loss, sums, half = torch.zeros(()), LogitSums(model.num_classes), None
    if processes.is_rank_zero:
        features = move_if_it_fits(features, model.mean.device)
        targets = torch.from_numpy(labels).to(features.device)
        if isinstance(model.head, nn.Linear):
            size = count, len(sums.sums)
            some = torch.from_numpy(every_second(labels))
            has_half = processes.size == 1 and len(some) <= min(LARGEST_HALF, count - 1)
            features_of_some = features[some] if has_half else None
            penalty = run.l2_penalty.value_for(*size) if run.l2_penalty else None
            logits, found = fit_linear_head(
                model.head, features, targets, SMOOTHING, resources.progress, penalty
            )
            if penalty is None:
                run.l2_penalty = L2Penalty(found, *size)
            if features_of_some is not None:
                half = copy.deepcopy(model.head)
                fit_linear_head(half, features_of_some, targets[some], SMOOTHING, penalty=found)
        else:
            logits = learn_head(model.head, features, targets, SMOOTHING, resources.progress)
        logits = logits.view(*features.shape[:2], -1)[:, 0]  # of the photographs as they are
        loss = F.cross_entropy(logits, targets, label_smoothing=SMOOTHING)
        offset = prior_offset(labels, model.num_classes).to(logits.device)
        logits = logits - offset
        with torch.no_grad():
            for head in filter(None, (model.head, half)):
                bias = [*head.parameters()][-1]
                bias.sub_(offset.to(bias.device))
        sums.add(targets.cpu(), logits.cpu())
        own = logits.gather(1, targets[:, None])
        margins, best = (logits.scatter(1, targets[:, None], -torch.inf) - own).max(1)
        worst = margins.topk(min(SUSPECTS, len(margins))).indices
        worst = worst[margins[worst] > 0]
        run.suspects = [*zip(worst.tolist(), best[worst].tolist())]
    processes.broadcast_weights(model.head)
    sums.sums = processes.add(sums.sums)
    return processes.add(loss.cpu()).item(), sums.class_means(), half


def judge_growth(
    run: Run,
    half: nn.Module,
    valid_set: Activations,
    labels: np.ndarray,
    learned: np.ndarray,
) -> dict[str, Any]:
    """Compare the run's head with that of half of the photographs, see `measure_growth`.

    `labels` are those of valid, `learned` those of train.
    """
    features = run.features.of(valid_set, "evaluating")
    heads = half, run.model.head
    few, whole = (head_logits(head, features).numpy() for head in heads)
    return measure_growth(few, whole, labels, len(every_second(learned)) / len(learned))


def prior_offset(labels: np.ndarray, num_classes: int) -> torch.Tensor:
    """Return what is added to the logits while a network learns: float32 (C,).

    What it has learned then prefers large categories less (Menon et al., "Long-tail learning via
    logit adjustment", ICLR 2021).
    """
    counts = np.bincount(labels, minlength=num_classes)
    shares = np.where(counts, counts, 1) / counts[counts > 0].mean()
    return torch.from_numpy(np.where(counts, BALANCE * np.log(shares), 0)).float()


def every_second(labels: np.ndarray) -> np.ndarray:
    """Choose every second photograph of each category, the first among them: indices."""
    order = np.argsort(labels, kind="stable")
    rank = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return np.sort(order[rank % 2 == 0])


def standardise(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale features (N, F), in place, to mean 0 and standard deviation 1; return both.

    A standard deviation is at least a tenth of the median: a feature that hardly ever changes
    would otherwise get weights that blow up where it does.
    """
    mean, std = features.mean(0), features.std(0, correction=0)
    std = std.clamp_min(max(0.1 * std.median().item(), 1e-6))
    features.sub_(mean).div_(std)
    return mean, std


def project(features: torch.Tensor) -> torch.Tensor:
    """Return what photographs are compared by: rows (N, D) of length 1.

    They are the standardised features (N, F) along their principal components, each scaled to the
    same variance: what many features say counts once.
    """
    count = len(features)
    size = min(DIMENSIONS, -(-count // PHOTOGRAPHS_EACH), features.shape[1])
    torch.manual_seed(0)  # the components are found by a random start
    _, scales, axes = torch.pca_lowrank(features, size, center=False)
    return F.normalize(features @ (axes / (scales.square() / count + FLOOR).sqrt()), dim=1)


def fit_linear_head(
    head: nn.Linear,
    features: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float = 0.0,
    progress: Progress = no_progress,
    penalty: float | None = None,
) -> tuple[torch.Tensor, float]:
    """Fit a linear head by logistic regression; return its logits (N V, C), and its L2 penalty.

    The features of V views of each photograph, (N, V, F), are standardised in place, which is
    folded into the weights; fewer photographs than features are searched along their own directions
    alone. The problem is convex, but a search ends before the very optimum: it starts at zero, so
    that it ends at the same head whether the penalty had to be chosen or was known.
    """
    views = features.shape[1]
    features, labels = features.flatten(0, 1), labels.repeat_interleave(views)
    mean, std = standardise(features)
    regression = Regression(features, head.out_features, smoothing)
    folds = min(FOLDS, math.ceil(ENOUGH * FOLDS * views / len(labels)))
    most = 1 if penalty else len(L2_PENALTIES) * folds + 1  # the search may end early
    fits = _fit(regression, labels, views, folds, penalty)
    for [fit] in progress(fits, most, "fitting the head", " fits"):
        found, (weight, bias) = fit  # the last one counts
    with torch.no_grad():
        logits = F.linear(regression.x, weight, bias)
        weight = (weight if regression.axes is None else weight @ regression.axes.T) / std
        head.weight.copy_(weight)
        head.bias.copy_(bias - weight @ mean)
    return logits, found


def _fit(
    regression: Regression, labels: torch.Tensor, views: int, folds: int, known: float | None
) -> Iterator[list[tuple[float, Solution]]]:
    """Yield a penalty and a solution after each fit; without a known one folds choose it."""
    # Photographs are sorted by category, so that every fold has its share of each; all views of
    # one are in the same fold.
    x, y = regression.x.unflatten(0, (-1, views)), labels.unflatten(0, (-1, views))
    parts = [(x[i::FOLDS].flatten(0, 1), y[i::FOLDS].flatten()) for i in range(FOLDS)]
    solutions = [regression.zero] * folds
    lowest, best = math.inf, known or L2_PENALTIES[0]
    for penalty in () if known else L2_PENALTIES:
        for i, start in enumerate(solutions):
            others = parts[:i] + parts[i + 1 :]
            solutions[i] = regression.solve(others, penalty, start, 1e-4)
            yield [(best, solutions[i])]
        loss = sum(regression.loss(each, *part) for each, part in zip(solutions, parts))
        if loss >= lowest:
            break  # weaker ones will be no better
        lowest, best = loss, penalty
    whole = [(regression.x, labels)]
    yield [(best, regression.solve(whole, best, regression.zero, 1e-5))]


def out_of_fold(
    features: torch.Tensor,
    labels: torch.Tensor,
    folds: torch.Tensor,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Compute the logits (N, C) of linear heads that have not learned from the photograph itself.

    A head for each fold, 0..FOLDS-1 (N,), learns from the others; then a second one for each, from
    those of them that the first heads name as they are labelled, where that is at least half of a
    category. The logits are the mean of both. Copies of one photograph belong into one fold. The
    features (N, F) are overwritten.
    """
    standardise(features)
    regression = Regression(features, int(labels.max()) + 1, SMOOTHING)
    x, logits = regression.x, features.new_zeros(len(features), regression.num_classes)
    learned_from = torch.ones(len(x), dtype=torch.bool)
    fits = ([fit] for fit in range(2 * FOLDS))
    for [fit] in progress(fits, 2 * FOLDS, "fitting heads", " fits"):
        own = folds == fit % FOLDS
        others = ~own & learned_from
        part = x[others], labels[others]
        solution = regression.solve([part], L2_PENALTY, regression.zero, 1e-4)
        logits[own] += F.linear(x[own], *solution) / 2
        if fit == FOLDS - 1:
            agreed = logits.argmax(1) == labels
            shares = torch.bincount(labels, agreed.float()) / torch.bincount(labels)
            # A small category that is hard to tell would know even less.
            learned_from = agreed | (shares[labels] < 0.5)
    return logits


def learn_head(
    head: nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float = 0.0,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Train a head with hidden layers on features (N, V, F), overwritten; return logits (N V, C).

    By AdamW with a cosine schedule: on features a step costs a millisecond or two. That the
    features are standardised is folded into the first layer.
    """
    features, labels = features.flatten(0, 1), labels.repeat_interleave(features.shape[1])
    mean, std = standardise(features)
    assert isinstance(head, nn.Sequential)
    first = head[0]
    assert isinstance(first, nn.Linear)
    device = first.weight.device
    head.to(features.device).train()
    steps_an_epoch = math.ceil(len(labels) / BATCH)
    epochs = count_head_epochs(len(labels))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_an_epoch)
    numbers = ([epoch] for epoch in range(epochs))
    for _ in progress(numbers, epochs, "fitting the head", " epochs"):
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
