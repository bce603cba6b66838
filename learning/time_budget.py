"""--minutes: what a run does with them, from the throughput of this machine."""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from images.decode import load_batches
from learning.activations import Activations
from learning.fit import Learner, share_of_new_views, train_one_epoch
from learning.head import count_gradients
from learning.resources import Resources
from learning.run import Run, count_epochs
from learning.views import Photographs, Splits
from network.architectures import find_architecture
from network.classifier import count_frozen_layers
from network.inference import extract_features, for_inference
from running.console import no_progress
from running.environment import Clock
from running.errors import InputError
from running.flags import IMAGE_SIZE
from running.recipe import FOLDS, choose_recipe, count_head_views, count_views

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

# The losses of a pretrained network with so many fifths of its recipe's epochs, that of the head
# alone being 1; more epochs were no better. benchmarks/results/time-limit.md has the runs.
LOSSES = {0: 1.0, 1: 0.88, 2: 0.76, 3: 0.72, 4: 0.64, 5: 0.58}


class Costs(NamedTuple):
    """The seconds that the parts of a run are estimated to take."""

    head: float  # of a pretrained network, with its evaluation
    views: float  # new views of all photographs of train
    steps: float  # an epoch without new views
    evaluation: float  # what comes after the steps of an epoch
    end: float  # what comes after the last epoch
    cached: int = 5  # views of a photograph; 0: photographs are, once they are decoded

    def epochs(self, number: float) -> float:
        """Estimate the seconds of some epochs, the last of which may be short."""
        seconds = 0.0
        for epoch in range(1, math.ceil(number) + 1):
            new = share_of_new_views(epoch, self.cached) if self.cached else float(epoch == 1)
            part = min(1, number - epoch + 1)
            seconds += part * (new * self.views + self.steps) + self.evaluation
        return seconds


def measure_costs(
    run: Run, splits: Splits, resources: Resources, sample: int
) -> Callable[[int], Costs]:
    """Measure them on some photographs of train; the network of the run learns from these.

    Returns what estimates them by the side of the pictures.
    """
    all_paths, all_labels = splits["train"]
    count = len(all_labels)
    some = np.linspace(0, count - 1, min(sample, count)).astype(int)
    paths, every = [all_paths[i] for i in some], np.arange(len(some))
    settings, model = run.settings, run.model
    resources = replace(resources, progress=no_progress)
    num_frozen = count_frozen_layers(model.body) if settings.tune == "tail" else 0
    varied = run.weights_source is not None
    views, head_views = count_views(count) if num_frozen else 0, count_head_views(count)
    photographs = Photographs(paths, run.preprocessing, settings.seed, resources, 0, varied)
    activations = Activations(for_inference(model), num_frozen, photographs, 2, "throughput")
    watch = Clock()
    deque(load_batches(paths, run.preprocessing, resources.workers), 0)
    decode = plain = random = watch.lap("decoding")
    if num_frozen:
        deque(activations.batches(every, 0 * every), 0)
        plain = watch.lap("photographs as they are")
        deque(activations.batches(every, 0 * every + 1), 0)
        random = watch.lap("random views")
    features = extract_features(activations.model, activations.in_order(), len(some), num_frozen)
    ask = watch.lap("the layers that are not frozen")
    learner = Learner(run, activations, all_labels[some])
    learner.plan_epochs(2)
    for epoch in (1, 2):  # the second one counts
        watch.lap("")
        train_one_epoch(learner, epoch)
    learn = watch.lap("learning")
    activations.discard()
    fit = 0.0
    if run.epoch < 0:  # the head is to be fitted
        x, weights = features.to(model.mean.device), [*model.head.parameters()]
        x, laps = x[torch.arange(MANY) % len(x)], []
        for _ in range(5):
            watch.lap("")
            torch.autograd.grad(model.head(x).logsumexp(1).sum(), weights)[0].sum().item()
            laps.append(watch.lap("a gradient"))
        fit = count_gradients(model.head, count * head_views) * min(laps) / MANY
    decoded = 0.0 if num_frozen else decode
    times = np.array([decode, plain - decode, random - decode, ask - decoded, learn - decoded])
    each = (times.clip(0) / len(some)).tolist()
    train, valid, test = (len(splits.get(name, [()])[0]) for name in ("train", "valid", "test"))
    # All networks of the folds but one learn from a photograph, and the one that is kept does.
    networks, judged = (1, valid) if valid else (FOLDS, train)

    def at(side: int) -> Costs:
        factor = (side / run.preprocessing.crop) ** 2  # networks take as long as there are pixels
        decode, *others = each
        plain, random, ask, learn = (factor * value for value in others)
        return Costs(
            head=(train + valid) * (decode + plain + ask)
            + (head_views - 1) * train * (decode + random + ask)
            + networks * fit
            + SAVING,
            views=0.0 if 1 < views <= head_views else train * (decode + random),
            steps=networks * train * learn,
            evaluation=judged * (ask if num_frozen else ask + decode) + SAVING,
            end=test * (decode + plain + ask) + 2 * SAVING,
            cached=views,
        )

    return at


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


def numbers_of_epochs(most: int) -> list[float]:
    """List how many epochs there may be: 1, 1.5, 1.75, 2, 2.5 and so on."""
    return [quarters / 4 for quarters in (4, *range(6, 4 * most + 1)) if quarters % 4 != 1]


def make_plans(
    costs: Mapping[int, Costs], epochs: Iterable[float], most: int, own: int | None = None
) -> list[Plan]:
    """List the possible plans, the most accurate first.

    `costs` are by side; `most` epochs are useful; `own` is the side that a pretrained network is
    made for.
    """
    plans = []
    for side, number in itertools.product(costs, epochs):
        if own:
            loss = float(np.interp(number * max(LOSSES) / most, [*LOSSES], [*LOSSES.values()]))
            error = loss * (side / own) ** (-1.6 if side < own else -0.15)
        else:
            error = 1 / number
        there = costs[side]
        seconds = there.epochs(number) + there.end + (there.head if own else 0)
        plans.append(Plan(error, seconds, side, number))
    return sorted(plans)


class TimeBudget:
    """Ends a run at a time of `time.perf_counter`; without one, never.

    `epochs` are planned, of at most `most`, or 0 if their number is fixed.
    """

    def __init__(
        self,
        deadline: float = math.inf,
        costs: Costs | None = None,
        epochs: float = 0,
        most: int = 0,
    ):
        self.deadline, self.costs, self.epochs, self.most = deadline, costs, epochs, most
        self.slowness = 1.0  # how much longer epochs take than was estimated
        self.has_saved = False  # whether there is a network already

    def is_up(self) -> bool:
        """Whether an epoch would end too late, and can be done without."""
        if self.costs is None or not self.has_saved:
            return False
        rest = self.costs.evaluation + self.costs.end
        return time.perf_counter() + self.slowness * rest > self.deadline

    def has_ended(self) -> bool:
        """Whether there is no time left but for writing the report."""
        return time.perf_counter() + 2 * SAVING > self.deadline

    def replan(self, learner: Learner, run: Run) -> list[str]:
        """Change the number of epochs to what there is time for; describe the change."""
        self.has_saved = True
        if self.costs is None:
            return []
        row, planned = run.history[-1], self.epochs
        spent = self.costs.epochs(epoch := row["epoch"])
        if epoch:
            estimated = spent - self.costs.epochs(epoch - 1)
            self.slowness = max(0.5, row["seconds"] / estimated)
        if not self.most:
            return []
        left = PLANNED * (self.deadline - time.perf_counter()) / self.slowness
        left += spent - self.costs.end
        numbers = [number for number in numbers_of_epochs(self.most) if number > epoch]
        possible = [number for number in numbers if self.costs.epochs(number) <= left]
        epochs = max(possible, default=epoch)
        # Late, the learning rate has come down already, and more epochs would raise it again.
        if epochs < planned or 2 * epoch <= planned:
            self.epochs = epochs
        learner.plan_epochs(self.epochs)
        run.settings = replace(run.settings, epochs=learner.recipe.epochs)
        if self.epochs == planned:
            return []
        change = "more" if self.epochs > planned else "less"
        return [f"plan: {count_epochs(self.epochs)} now, as there is {change} time than expected"]


def plan_run(
    run: Run, splits: Splits, typed: Mapping[str, Any], resources: Resources, clock: Clock
) -> tuple[dict[str, Any], TimeBudget, str]:
    """Choose the most accurate run that ends in its minutes, from the start of the clock on.

    `run` is a new one, with the network's own size of pictures or the one that was typed; `typed`
    are settings that stay. Returns the settings, the time budget, and a sentence on both. Raises
    ImageError if a photograph cannot be read, InputError if there is too little time.
    """
    own, pretrained = run.preprocessing.crop, run.weights_source is not None
    minutes = typed["minutes"]
    most = choose_recipe(len(splits["train"][0]), True).epochs if pretrained else MOST_FROM_SCRATCH
    sides, numbers = [own], [0] * pretrained + numbers_of_epochs(most)
    if "valid" not in splits:  # all networks of a cross-validation learn as long
        numbers = [number for number in numbers if number == int(number)]
    resizable = find_architecture(run.settings.arch).imagenet and run.model.feature_layers
    if pretrained and resizable and "image_size" not in typed:
        sides = [max(int(IMAGE_SIZE.lowest), own * part // 14) for part in FOURTEENTHS]
    if "epochs" in typed:
        numbers = [typed["epochs"]]
    started = clock.elapsed
    measure_costs(run, splits, resources, FEW)
    first = clock.elapsed - started
    sample = MANY if first * MANY / FEW < MOST * 60 * minutes else FEW
    estimate = measure_costs(run, splits, resources, sample)
    costs = {side: estimate(side) for side in sides}
    plans = make_plans(costs, numbers, most, own if pretrained else None)
    left = PLANNED * 60 * minutes - clock.elapsed
    plan = next((plan for plan in plans if plan.seconds <= left), None)
    if plan is None:
        least = (min(plan.seconds for plan in plans) + clock.elapsed) / PLANNED / 60
        raise InputError(
            f"--minutes {minutes:g} is too little for these photographs on this machine; try "
            f"{math.ceil(10 * least) / 10:g}"
        )
    words = f"plan: {plan.describe(clock.elapsed)} in all"
    if better := plans[: plans.index(plan)]:  # all of which take too long
        nearest = min(better, key=lambda plan: plan.seconds)
        words += f"; better ones take longer, such as {nearest.describe(clock.elapsed)}"
    # A head alone freezes and caches nothing that epochs could learn on.
    may_change = plan.epochs > 0 and "epochs" not in typed and "valid" in splits
    deadline, most = clock.started + 60 * minutes, most if may_change else 0
    time_budget = TimeBudget(deadline, costs[plan.side], plan.epochs, most)
    chosen = {**typed, "epochs": math.ceil(plan.epochs)}
    if plan.side != own:
        chosen["image_size"] = plan.side
    return chosen, time_budget, words
