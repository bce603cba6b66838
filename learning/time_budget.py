"""--minutes: what a run does with them, from the throughput of this machine."""

import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from images.batches import load_batches
from learning.activations import Activations
from learning.fit import Learner, share_of_new_views, train_one_epoch
from learning.head import count_gradients
from learning.resources import Resources
from learning.run import Run, count_epochs
from learning.views import Photographs
from network.architectures import find_architecture
from network.classifier import count_frozen_layers
from network.inference import extract_features, for_inference
from running.console import no_progress
from running.environment import Clock
from running.errors import InputError
from running.flags import IMAGE_SIZE

Split = tuple[Sequence[str], np.ndarray]  # paths, and the index of each one's category

# Photographs that are looked at to see how quick this machine is. A few come first, as everything
# takes longer for the first time, and are looked at once more where many would cost too much:
# this share of the time, reckoned from the first look.
FEW, MANY = 16, 128
MOST = 0.3
PLANNED = 0.96  # share of the time that is planned for: a run ends early rather than late
SAVING = 0.5  # seconds to save a checkpoint and the resume file

# What to choose from. A pretrained network: sides in parts of its own, and numbers of epochs;
# from scratch, where the pictures decide the side, the epochs alone. A short epoch is at least half
# of one, so that each category's photographs are among what it sees.
FOURTEENTHS = range(8, 19)
MOST_FROM_SCRATCH = 60

# The losses of a pretrained network after so many epochs, that of the head alone being 1; eight
# epochs were no better than five. benchmarks/results/time-limit.md has the runs.
LOSSES = {0: 1.0, 1: 0.88, 2: 0.76, 3: 0.72, 4: 0.64, 5: 0.58}
MOST_EPOCHS = max(LOSSES)


def numbers_of_epochs(most: int) -> list[float]:
    """List how many epochs there may be: 1, 1.5, 1.75, 2, 2.5 and so on."""
    return [quarters / 4 for quarters in (4, *range(6, 4 * most + 1)) if quarters % 4 != 1]


def expected_error(share: float, epochs: float) -> float:
    """Return the expected error of a pretrained network, in errors of its head alone.

    `share` is the side of its pictures in parts of its own.
    """
    loss = float(np.interp(epochs, [*LOSSES], [*LOSSES.values()]))
    return loss * share ** (-1.6 if share < 1 else -0.15)


# --- Throughput of this machine ---------------------------------------------------------


@dataclass(frozen=True)
class Throughput:
    """The throughput of a machine with pictures of some side: seconds for a photograph.

    `frozen` are the frozen layers on a photograph as it is, `random` on a random view, which has
    to be made; `ask` and `learn` are the other layers, with and without training.
    """

    counts: Mapping[str, int]  # photographs of each split
    side: int
    num_frozen: int
    fit: float  # seconds of all photographs together: the search for the head
    decode: float
    frozen: float
    random: float
    ask: float
    learn: float

    def at(self, side: int) -> "Throughput":
        """Estimate it for another side; networks take as long as there are pixels."""
        factor, parts = (side / self.side) ** 2, ("frozen", "random", "ask", "learn")
        return replace(self, side=side, **{part: factor * getattr(self, part) for part in parts})

    def head(self) -> float:
        """Estimate the seconds of the head of a pretrained network, and of its evaluation."""
        seen = self.counts["train"] + self.counts["valid"]
        return seen * (self.decode + self.frozen + self.ask) + self.fit + SAVING

    def epoch(self, epoch: int) -> float:
        """Estimate the seconds of an epoch and of its evaluation."""
        if self.num_frozen:
            made = share_of_new_views(epoch) * (self.decode + self.random)
        else:  # photographs are kept, once they are decoded
            made = self.decode if epoch == 1 else 0
        return self.counts["train"] * (made + self.learn) + self.evaluation()

    def epochs(self, number: float) -> float:
        """Estimate the seconds of some epochs, the last of which may be short."""
        whole = int(number)
        seconds = sum(map(self.epoch, range(1, whole + 1)))
        if part := number - whole:
            seconds += part * self.epoch(whole + 1) + (1 - part) * self.evaluation()
        return seconds

    def evaluation(self) -> float:
        """Estimate the seconds after the last step of an epoch."""
        return self.counts["valid"] * (self.ask + (0 if self.num_frozen else self.decode)) + SAVING

    def end(self) -> float:
        """Estimate the seconds after the last epoch."""
        return self.counts.get("test", 0) * (self.decode + self.frozen + self.ask) + 2 * SAVING


def measure_throughput(
    run: Run, splits: Mapping[str, Split], resources: Resources, sample: int
) -> Throughput:
    """Measure it on some photographs of train; the network of the run learns from them."""
    all_paths, all_labels = splits["train"]
    count = len(all_labels)
    some = np.linspace(0, count - 1, min(sample, count)).astype(int)
    paths, labels, every = [all_paths[i] for i in some], all_labels[some], np.arange(len(some))
    settings, model = run.settings, run.model
    resources = replace(resources, progress=no_progress)
    num_frozen = count_frozen_layers(model.body) if settings.tune == "tail" else 0
    varied = run.weights_source is not None
    views = Photographs(paths, run.preprocessing, settings.seed, resources, 0, varied)
    activations = Activations(for_inference(model), num_frozen, views, 2, "throughput")
    decode = _seconds(load_batches(paths, run.preprocessing, resources.workers))
    plain, random = (
        _seconds(activations.batches(every, np.full(len(every), number))) if num_frozen else decode
        for number in (0, 1)
    )
    started = time.perf_counter()
    features = extract_features(activations.model, activations.in_order(), len(every), num_frozen)
    asked = time.perf_counter() - started
    learner = Learner(run, activations, labels)
    learner.plan_epochs(2)
    for epoch in (1, 2):  # the second one counts
        started = time.perf_counter()
        train_one_epoch(learner, epoch)
        learned = time.perf_counter() - started
    activations.discard()
    fit = 0.0
    if run.epoch < 0:  # the head is to be fitted
        fit = count_gradients(model.head, count) * _gradient_seconds(model.head, features)
    made_again = 0.0 if num_frozen else decode
    seconds = (decode, plain - decode, random - decode, asked - made_again, learned - made_again)
    each = (max(0.0, value) / len(every) for value in seconds)
    counts = {name: len(labels) for name, (_, labels) in splits.items()}
    return Throughput(counts, run.preprocessing.crop, num_frozen, fit, *each)


def _seconds(work: Iterable[Any]) -> float:
    """Time an iteration to its end."""
    started = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - started


def _gradient_seconds(head: nn.Module, features: torch.Tensor) -> float:
    """Time the gradient of a photograph's loss in a head's weights, of many at a time."""
    x = features.to(next(head.parameters()).device)[torch.arange(MANY) % len(features)]
    least = math.inf
    for _ in range(5):
        started = time.perf_counter()
        gradients = torch.autograd.grad(head(x).logsumexp(1).sum(), [*head.parameters()])
        gradients[0].sum().item()  # waits for a GPU
        least = min(least, time.perf_counter() - started)
    return least / MANY


# --- What to do with the time -----------------------------------------------------------


class Plan(NamedTuple):
    """A possible run."""

    error: float  # to be compared with that of other plans
    seconds: float  # estimated
    side: int  # of the pictures
    epochs: float

    def describe(self, elapsed: float) -> str:
        """Describe it, and how long a run takes with it."""
        minutes, epochs = (elapsed + self.seconds) / 60, count_epochs(self.epochs)
        return f"{epochs} with {self.side} x {self.side} pixels, about {minutes:.1f} minutes"


def make_plans(
    sides: Iterable[int], epochs: Iterable[float], throughput: Throughput, own: int | None
) -> list[Plan]:
    """List the possible plans, the most accurate first.

    `own` is the side of the pictures that a pretrained network is made for, None from scratch.
    """
    plans = []
    for side, number in itertools.product(sides, epochs):
        there = throughput.at(side)
        seconds = there.epochs(number) + there.end() + (there.head() if own else 0)
        error = expected_error(side / own, number) if own else 1 / number
        plans.append(Plan(error, seconds, side, number))
    return sorted(plans)


class TimeBudget:
    """Ends a run in its minutes; a run without them has no limit.

    `deadline` is a time of `time.perf_counter`; `epochs` are planned, of at most `most`, or 0 if
    their number is fixed.
    """

    def __init__(
        self,
        deadline: float = math.inf,
        throughput: Throughput | None = None,
        epochs: float = 0,
        most: int = 0,
    ):
        self.deadline, self.throughput, self.epochs, self.most = deadline, throughput, epochs, most
        self.slowness = 1.0  # how much longer epochs take than was estimated
        self.has_saved = False  # whether there is a network already

    def is_up(self) -> bool:
        """Whether an epoch would end too late, and can be done without."""
        if self.throughput is None or not self.has_saved:
            return False
        rest = self.throughput.evaluation() + self.throughput.end()
        return time.perf_counter() + self.slowness * rest > self.deadline

    def replan(self, learner: Learner, run: Run) -> list[str]:
        """Change the number of epochs to what there is time for; describe the change."""
        self.has_saved = True
        if self.throughput is None:
            return []
        row, planned = run.history[-1], self.epochs
        if epoch := row["epoch"]:
            self.slowness = max(0.5, row["seconds"] / self.throughput.epoch(epoch))
        if not self.most:
            return []
        left = PLANNED * (self.deadline - time.perf_counter()) / self.slowness
        left += self.throughput.epochs(epoch) - self.throughput.end()
        possible = [
            number
            for number in numbers_of_epochs(self.most)
            if number > epoch and self.throughput.epochs(number) <= left
        ]
        epochs = max(possible, default=epoch)
        # Late, the learning rate has come down already, and more epochs would raise it again.
        if epochs < planned or 2 * epoch <= planned:
            self.epochs = epochs
        learner.plan_epochs(self.epochs)
        run.settings = replace(run.settings, epochs=learner.recipe.epochs)
        if self.epochs == planned:
            return []
        change = "more" if self.epochs > planned else "less"
        return [f"plan: {count_epochs(self.epochs)} now, as there is {change} time than it seemed"]


def plan_run(
    run: Run,
    splits: Mapping[str, Split],
    typed: Mapping[str, Any],
    resources: Resources,
    clock: Clock,
) -> tuple[dict[str, Any], TimeBudget, str]:
    """Choose the most accurate run that ends in its minutes, from the start of the clock on.

    `run` is a new one, with the network's own size of pictures or the one that was typed; `typed`
    are settings that stay. Returns the settings, the time budget, and a sentence on both. Raises
    ImageError if a photograph cannot be read, InputError if there is too little time.
    """
    own, pretrained = run.preprocessing.crop, run.weights_source is not None
    minutes = typed["minutes"]
    most = MOST_EPOCHS if pretrained else MOST_FROM_SCRATCH
    sides, numbers = [own], [0] * pretrained + numbers_of_epochs(most)
    resizable = find_architecture(run.settings.arch).imagenet and run.model.feature_layers
    if pretrained and resizable and "image_size" not in typed:
        sides = [max(int(IMAGE_SIZE.lowest), own * part // 14) for part in FOURTEENTHS]
    if "epochs" in typed:
        numbers = [typed["epochs"]]
    started = time.perf_counter()
    measure_throughput(run, splits, resources, FEW)
    first = time.perf_counter() - started
    sample = MANY if first * MANY / FEW < MOST * 60 * minutes else FEW
    throughput = measure_throughput(run, splits, resources, sample)
    plans = make_plans(sides, numbers, throughput, own if pretrained else None)
    left = PLANNED * 60 * minutes - clock.elapsed
    fitting = [plan for plan in plans if plan.seconds <= left]
    if not fitting:
        least = (min(plan.seconds for plan in plans) + clock.elapsed) / PLANNED / 60
        raise InputError(
            f"--minutes {minutes:g} is too little for these photographs on this machine; try "
            f"{math.ceil(10 * least) / 10:g}"
        )
    plan = fitting[0]
    words = f"plan: {plan.describe(clock.elapsed)} in all"
    if better := plans[: plans.index(plan)]:  # all of which take too long
        nearest = min(better, key=lambda plan: plan.seconds)
        words += f"; better ones take longer, as {nearest.describe(clock.elapsed)}"
    # A head alone freezes and caches nothing that epochs could learn on.
    may_change = plan.epochs > 0 and "epochs" not in typed
    deadline = clock.started + 60 * minutes
    time_budget = TimeBudget(
        deadline, throughput.at(plan.side), plan.epochs, most if may_change else 0
    )
    chosen = {**typed, "epochs": math.ceil(plan.epochs)}
    if plan.side != own:
        chosen["image_size"] = plan.side
    return chosen, time_budget, words
