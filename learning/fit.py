"""learning/fit.py"""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from learning.head import fit_head
from learning.resume import Training, restore_optimizer
from learning.views import mirror_some
from network.classifier import chain
from network.devices import learning_precision
from running.console import with_bar
from running.settings import Recipe

# The certainty that networks learn to leave to the other categories (Szegedy et
# al., "Rethinking the Inception architecture", CVPR 2016).
SMOOTHING = 0.1


# Random views of a photograph that are kept, beside the photograph as it is, where the
# first layers stay as they are; where they learn, every epoch sees a new one.
KEPT_VIEWS = 4


def learn(
    model, activations, labels: np.ndarray, recipe: Recipe, pretrained: bool, seed: int, start=None
) -> Iterator[tuple[Any, float, Any]]:
    """Train the network in place; yield after each epoch the `Training`, the training loss,
    and the sum of the logits of each category's photographs (C, C).

    A pretrained network's head comes first, as epoch 0, on features that are computed once:
    a linear one is solved, one with hidden layers learns. The epochs then start from it and
    train it with the layers behind the cut of the activations. From scratch there are the
    epochs alone, and they train everything. With `start`, an earlier `Training` whose model
    this is, the epochs go on behind that one.

    What the epochs of a pretrained network yield is a moving average of its weights over
    about a tenth of the run: good from the first epoch on, while the weights themselves
    first lose what the head knew.
    """
    import torch

    if pretrained and not start:
        loss, sums = fit_head(model, activations, labels)
        start = Training(0, model, model, {}, torch.get_rng_state())
        yield start, loss, sums
    if pretrained:
        model.frozen_statistics = True
        for layer in chain(model.body)[: activations.cut]:
            layer.requires_grad_(False)
    averaged = (
        model if not pretrained else (start.averaged if start.epoch else copy.deepcopy(model))
    )
    optimizer_class = torch.optim.AdamW if pretrained else torch.optim.Adam
    optimizer = optimizer_class(
        [p for p in model.parameters() if p.requires_grad], lr=recipe.lr, fused=True
    )
    if start:
        torch.set_rng_state(start.random)
    if start and start.epoch:
        restore_optimizer(optimizer, start.optimizer)

    processes = activations.processes
    learner, count = processes.synchronised(model), len(labels)
    # What falls to this process of the photographs of a step, and of an epoch's weights.
    recipe = recipe._replace(batch_size=-(-recipe.batch_size // processes.size))
    weights = torch.from_numpy(weigh(count, recipe.batch_size, processes.rank, processes.size))
    for epoch in range(start.epoch + 1 if start else 1, recipe.epochs + 1):
        # Order and views depend on the seed and the epoch alone, on any device.
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(count)
        views = (
            rng.integers(activations.views, size=count)
            if activations.cut
            else np.full(count, epoch)
        )
        mirrored = rng.random(count) < 0.5
        mine = np.flatnonzero(order % processes.size == processes.rank)
        mine = np.resize(mine, len(weights))  # where it has one too few, one stands there twice
        order, views, mirrored = order[mine], views[mine], mirrored[mine]
        batches = activations.batches(order // processes.size, views, recipe.batch_size)
        if activations.cut:  # no more to compute, and twice as many views
            batches = mirror_some(batches, mirrored)
        if processes.rank:  # what dropout leaves out is another thing in each process
            torch.manual_seed(rng.integers(2**31) + processes.rank)
        loss, sums = train_one_epoch(
            model,
            learner,
            activations.cut,
            with_bar(batches, len(order), f"epoch {epoch} of {recipe.epochs}"),
            torch.from_numpy(labels[order]),
            weights,
            optimizer,
            averaged,
            epoch,
            recipe,
        )
        processes.copy_first(model, averaged)
        yield (
            Training(
                epoch, model, averaged, optimizer.state_dict()["state"], torch.get_rng_state()
            ),
            processes.add(loss).item() / count,
            processes.add(sums),
        )


def weigh(count: int, batch_size: int, rank: int, size: int) -> np.ndarray:
    """Weigh the photographs that one of `size` processes learns from in an epoch: float32 (n,).

    The processes' gradients are averaged. With these weights, in sums of the photographs'
    losses, the average is the gradient of the mean loss of all photographs of a step. Where
    they cannot be shared out evenly, a process that has one less repeats one, of weight 0.
    """
    longest = -(-count // size)
    weights = np.empty(longest, np.float32)
    for start in range(0, longest, batch_size):
        part = weights[start : start + batch_size]
        surplus = longest * size - count if start + batch_size >= longest else 0
        part[:] = size / (len(part) * size - surplus)
    if rank >= count - (longest - 1) * size:
        weights[-1] = 0
    return weights


def train_one_epoch(
    model,
    learner,
    cut: int,
    batches: Iterable,
    targets,
    weights,
    optimizer,
    averaged,
    epoch: int,
    recipe: Recipe,
) -> tuple[Any, Any]:
    """Show the network, by way of `learner`, every photograph once, while it learns.

    Every step moves the averaged network by a share towards the one that learns.

    Returns:
        The sum of the losses, and the sums of the logits by category (C, C). Where one process
        works alone, an epoch whose loss is no finite number is broken off.
    """
    import torch

    device = model.mean.device
    precision = learning_precision(model, cut)
    # New in every epoch, and low, so that no step is left out for an overflow.
    scaler = torch.amp.GradScaler(device.type, 1024, enabled=precision == torch.float16)
    targets, weights = targets.to(device), weights.to(device)
    total, seen, sums = torch.zeros((), device=device), 0, None
    steps_an_epoch = math.ceil(len(targets) / recipe.batch_size)
    steps = steps_an_epoch * recipe.epochs
    model.train()
    for step, x in enumerate(batches, start=steps_an_epoch * (epoch - 1)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * lr_factor(step, steps)
        if len(x) == 1:  # one photograph has no statistics for BatchNorm to normalise by
            model.freeze_statistics()
        part = slice(seen, seen + len(x))
        labels, weight = targets[part], weights[part]
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = learner(x, cut)
        logits = logits.float()
        losses = torch.nn.functional.cross_entropy(
            logits, labels, label_smoothing=SMOOTHING, reduction="none"
        )
        optimizer.zero_grad()
        scaler.scale((losses * weight).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if averaged is not model:
            move_average(averaged, model, min(1, 10 / steps))
        seen += len(x)
        with torch.no_grad():
            counted = (weight > 0).float()
            total += losses @ counted
            if sums is None:
                sums = logits.new_zeros([logits.shape[1]] * 2)
            sums.index_add_(0, labels, logits * counted[:, None])
        # An accelerator waits when one looks; several processes end their epoch together.
        if (device.type == "cpu" or step % 50 == 0) and learner is model and not total.isfinite():
            break
    return total.cpu(), sums.cpu()


def lr_factor(step: int, steps: int) -> float:
    """Scale the learning rate: up in a line for a tenth of the steps, then a cosine to 0."""
    warmup = steps / 10
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


@torch.no_grad()
def move_average(averaged: nn.Module, model: nn.Module, share: float) -> None:
    """Move the average of a network's weights by a share of the way to its present ones."""
    averages, values = (
        [
            value
            for value in (*network.parameters(), *network.buffers())
            if value.is_floating_point()
        ]
        for network in (averaged, model)
    )
    torch._foreach_lerp_(averages, values, share)  # many a time as quick on a GPU as one by one
