"""How good a network is on a split, and what its logits there say of its certainty."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from formats.schema import (
    KEEP,
    LARGEST_VALID,
    QUANTILES,
    Calibration,
    CalibrationSet,
    NetworkInfo,
    ValidMetrics,
)
from learning.activations import Activations
from learning.features import FeatureCache
from learning.resources import Resources
from learning.views import Photographs
from network.classifier import Classifier
from network.inference import compute_logits
from network.ood import LogitSums, ood_score
from reporting.calibration import calibration_report, cross_fit, fit_temperature
from reporting.report import CROSS_VALIDATION, EvaluatedSplit

ROWS = 1024  # that a head sees at once
EACH = 10  # photographs of each category that make its class mean


class Evaluation(NamedTuple):
    """How a network does on a split."""

    loss: float  # mean cross-entropy in nats, with the temperature that a checkpoint gets
    accuracy: float  # 0..1
    logits: np.ndarray  # float32 (N, C); NaN of a photograph that could not be judged

    def metrics(self, epoch: int, precision: torch.dtype, folds: int) -> ValidMetrics:
        """Return what a checkpoint keeps of an epoch's evaluation on valid, or in folds."""
        judged = int(is_readable(self.logits).sum())
        return ValidMetrics(epoch, self.loss, self.accuracy, judged, str(precision), folds)


def evaluate(
    model: Classifier,
    activations: Activations,
    labels: np.ndarray,
    features: FeatureCache | None = None,
) -> Evaluation:
    """Evaluate a network from `for_inference` or a checkpoint on a whole split.

    If it is a head on a body that has not learned, `features` has the input of the head.
    """
    resources, count = activations.resources, len(activations.paths)
    if features:
        logits = head_logits(model.head, features.of(activations, "evaluating"))
        logits /= model.temperature
    else:
        batches = resources.progress(activations.in_order(), count, "evaluating")
        logits = compute_logits(model, batches, activations.num_frozen)
    logits = resources.processes.collect(logits, len(labels))
    photographs = activations.photographs
    lost = [photographs.numbers[i] for i in photographs.unreadable]
    logits[resources.processes.gather_objects(lost)] = torch.nan
    return judge(logits.numpy(), labels)


def judge(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Evaluate logits (N, C); rows of NaN do not count."""
    rows = is_readable(logits)
    known, targets = torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows])
    loss = math.nan  # of a network that has diverged
    if known.isfinite().all():
        temperature = fit_temperature(logits[rows], labels[rows])
        loss = F.cross_entropy(known / temperature, targets).item()
    accuracy = (known.argmax(1) == targets).double().mean().item()
    return Evaluation(loss, accuracy, logits)


def is_readable(logits: np.ndarray) -> np.ndarray:
    """Find the rows (N,) of photographs that could be judged: those of the others are NaN."""
    return ~np.isnan(logits).all(1)


def measure_class_means(
    model: Classifier, activations: Activations, labels: np.ndarray
) -> torch.Tensor:
    """Return the class means of some photographs of train, see `LogitSums`, as they are.

    `model` is from `for_inference`. Ten photographs a category do as well as all.
    """
    processes, sums = activations.resources.processes, LogitSums(int(labels.max()) + 1)
    order = np.argsort(labels, kind="stable")
    number = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    chosen = np.sort(order[number < EACH])
    mine = chosen[chosen % processes.size == processes.rank]
    if len(mine):
        batches = activations.batches(mine // processes.size, np.zeros(len(mine), int))
        shown = activations.resources.progress(batches, len(mine), "class means")
        logits = compute_logits(model, shown, activations.num_frozen)
        sums.add(torch.from_numpy(labels[mine]), logits)
    sums.sums = processes.add(sums.sums)
    return sums.class_means()


def head_logits(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Compute what a head makes of its input, on the CPU: (N, F) to (N, C)."""
    device = next(head.parameters()).device
    with torch.no_grad():
        return torch.cat([head(part.to(device)).cpu() for part in features.split(ROWS)])


def calibrate(logits: np.ndarray, labels: np.ndarray, class_means: torch.Tensor) -> Calibration:
    """Fit the temperature to logits on valid (N, C), and see how familiar its photographs are."""
    rows = is_readable(logits)
    logits, labels = logits[rows], labels[rows]
    ood_scores = ood_score(torch.from_numpy(logits), class_means)
    quantiles = ood_scores.quantile(torch.linspace(0, 1, QUANTILES))
    rows = np.random.default_rng(0).permutation(len(labels))[: LARGEST_VALID // logits.shape[1]]
    logs = torch.from_numpy(cross_fit(logits, labels)[rows]).log_softmax(1)
    valid = CalibrationSet(
        logs.half().numpy(), labels[rows].astype(np.int32), ood_scores[rows].numpy()
    )
    return Calibration(fit_temperature(logits, labels), quantiles.numpy(), valid)


def final_report(
    model: Classifier,
    info: NetworkInfo,
    valid: Evaluation,
    splits: Mapping[str, tuple[Sequence[str], np.ndarray]],
    resources: Resources,
    features: FeatureCache | None = None,
) -> tuple[dict[str, Any], EvaluatedSplit]:
    """Evaluate a network from `load_checkpoint` once, on test where there is one, else on valid.

    `info` is what its file knows, `valid` the evaluation before it was saved; `features` are those
    of the body, where it has not learned. Returns its part of report.json (docs/reference.md
    explains each entry), and what was evaluated, with calibrated logits.
    """
    split = "valid" if "valid" in splits else CROSS_VALIDATION
    (paths, labels), logits = splits.get("valid", splits["train"]), valid.logits
    rows = is_readable(logits)
    logits = cross_fit(logits[rows], labels[rows])
    reports = {f"{split}, cross-fitted": calibration_report(logits, labels[rows])}
    accepted = {split: KEEP}
    if "test" in splits:
        split, (paths, labels) = "test", splits["test"]
        photographs = Photographs(paths, info.preprocessing, resources=resources)
        logits = evaluate(model, Activations(model, 0, photographs), labels, features).logits
        rows = is_readable(logits)
        logits = logits[rows]
        reports["test"] = calibration_report(logits, labels[rows])
    kept = [path for path, is_there in zip(paths, rows) if is_there]
    ood_scores = ood_score(torch.from_numpy(logits), model.class_means.cpu()).numpy()
    known = kept, labels[rows], logits, ood_scores
    evaluated = EvaluatedSplit(*known, info.categories, info.names)
    if split == "test":
        accepted[split] = float((ood_scores >= info.calibration.ood_threshold()).mean())
    return {
        **evaluated.figures(split),
        "temperature": info.calibration.temperature,
        "calibration": reports,
        "accepted_share": accepted,
        "network": info.summary(),
    }, evaluated
