"""learning/evaluation.py"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_utils import DataSet
from learning.activations import Activations
from model_utils import load_checkpoint
from network.familiarity import familiarity, find_patterns
from network.inference import compute_logits
from prediction.info import KEEP, Calibration
from reporting.calibration import calibration, cross_fit, fit_temperature
from running.console import with_bar


def calibrate(result: "Evaluation", labels: np.ndarray, sums):
    """Make a `Calibration` of an epoch's logits on valid and sums of logits in training."""
    import torch

    patterns = find_patterns(sums)
    familiar = familiarity(torch.from_numpy(result.logits), patterns)
    return Calibration(
        fit_temperature(result.logits, labels),
        patterns,
        familiar.quantile(torch.linspace(0, 1, 1001)),
    )


def judge_checkpoint(
    checkpoint: Path,
    device,
    data: DataSet,
    best: "Evaluation",
    workers: int,
    processes,
) -> tuple[str, np.ndarray, dict[str, Any], dict[str, float]]:
    """Judge the best network as prediction will load it, on test where there is one.

    Returns:
        The split, its logits (N, C), how far probabilities can be believed, and the share
        of each split's photographs that --reject leaves their names.
    """
    import torch

    split, labels = "valid", data.splits["valid"].labels
    logits = cross_fit(best.logits, labels)
    honesty = {"valid, cross-fitted": calibration(logits, labels)}
    kept = {"valid": KEEP}
    model, info = load_checkpoint(checkpoint, device)
    calibration = info["calibration"]
    if "test" in data.splits:
        split, labels = "test", data.splits["test"].labels
        photographs = Activations(
            model,
            0,
            data.splits["test"].paths,
            info["preprocessing"],
            workers=workers,
            processes=processes,
        )
        logits = evaluate(model, photographs, labels).logits
        honesty["test"] = calibration(logits, labels)
        familiar = familiarity(torch.from_numpy(logits), calibration.patterns)
        kept["test"] = (familiar >= calibration.least_familiar()).float().mean().item()
    return split, logits, {"temperature": calibration.temperature, "calibration": honesty}, kept


class Evaluation(NamedTuple):
    """How a network does on a split."""

    loss: float  # mean cross-entropy, in nats
    calibrated_loss: float  # the same with the temperature that a checkpoint gets
    accuracy: float  # 0..1
    logits: np.ndarray  # float32 (N, C)

    def is_better(self, other: "Evaluation") -> bool:
        """Compare accuracies; between equal ones the lower calibrated loss wins.

        The plain one is high where smoothed labels have taught a network to be unsure.
        """
        return (self.accuracy, -self.calibrated_loss) > (other.accuracy, -other.calibrated_loss)


def evaluate(model, activations, labels: np.ndarray) -> Evaluation:
    """Judge a network from `for_inference` or a checkpoint on a whole split."""
    import torch

    count = len(activations.paths)
    batches = activations.batches(np.arange(count), np.zeros(count, int))
    logits = compute_logits(model, with_bar(batches, count, "judging"), activations.cut)
    logits = activations.processes.collect(logits, len(labels))
    targets, loss_of = torch.from_numpy(labels), torch.nn.functional.cross_entropy
    loss = calibrated = loss_of(logits, targets).item()
    if math.isfinite(loss):
        temperature = fit_temperature(logits.numpy(), labels)
        calibrated = loss_of(logits / temperature, targets).item()
    accuracy = (logits.argmax(1) == targets).double().mean().item()
    return Evaluation(loss, calibrated, accuracy, logits.numpy())
