"""Cross-validation of a small folder: its photographs are judged by networks that do not know them.

All of them learn in the network that is kept. Its temperature, the OOD threshold, promises and the
figures of the report come from the networks of the folds, which have learned from two thirds each.
"""

import copy
from dataclasses import replace

import numpy as np
import torch

from learning.activations import Activations
from learning.evaluation import Evaluation, head_logits, is_readable, judge
from learning.fit import Learner, require_finite, train_one_epoch
from learning.head import every_second, fit_head
from learning.run import Run
from network.inference import compute_logits, for_inference
from reporting.growth import measure_growth


def cross_validate(
    run: Run,
    activations: Activations,
    features: torch.Tensor,
    labels: np.ndarray,
    folds: np.ndarray,
) -> list[Evaluation]:
    """Train a network for each fold on the other folds' photographs; judge it by its own.

    `run` is new, and its network stays as it is; `features` are those of `view_features`, labels
    and folds are int64 (N,). Returns an evaluation of all photographs after each epoch, of which
    the head is the first; the run keeps how the head grows. The logits of a photograph whose
    category is in no other fold are NaN.
    """
    epochs, resources = run.settings.recipe.epochs, activations.resources
    logits = np.full((epochs + 1, len(labels), run.model.num_classes), np.nan, np.float32)
    halves, num_halved, num_learned = logits[0].copy(), 0, 0
    for fold in range(folds.max() + 1):
        learned = np.flatnonzero(folds != fold)
        judged = np.flatnonzero((folds == fold) & np.isin(labels, labels[learned]))
        other = replace(run, model=copy.deepcopy(run.model))
        *_, half = fit_head(other, features[learned], labels[learned], resources)
        num_halved += len(every_second(labels[learned]))
        num_learned += len(learned)
        if half:
            halves[judged] = head_logits(half, features[judged, 0]).numpy()
        title = f"fold {fold + 1} of {folds.max() + 1}, "
        logits[0, judged] = head_logits(other.model.head, features[judged, 0]).numpy()
        learner = Learner(other, activations, labels, learned, title)
        for epoch in range(1, epochs + 1):
            loss = train_one_epoch(learner, epoch)
            assert loss is not None
            require_finite(epoch, loss)
            if len(judged):
                batches = activations.batches(judged, np.zeros(len(judged), int))
                network = for_inference(learner.network)
                found = compute_logits(network, batches, activations.num_frozen)
                require_finite(epoch, found.sum().item())
                logits[epoch, judged] = found.numpy()
    lost = [*activations.photographs.unreadable]
    logits[:, lost] = halves[lost] = np.nan
    rows = is_readable(halves)
    if rows.any():
        share = num_halved / num_learned
        run.growth = measure_growth(halves[rows], logits[0, rows], labels[rows], share)
    return [judge(each, labels) for each in logits]
