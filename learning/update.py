"""An update: a run whose photographs have changed gets a new head, and is compared with itself."""

import dataclasses
import filecmp
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from formats.schema import NetworkInfo
from images.manifest import Changes, compare, count_changed, count_known
from learning.activations import Activations
from learning.evaluation import head_logits
from learning.resources import Resources
from learning.run import Run, new_run
from network.checkpoint import (
    build_classifier,
    describe_head,
    load_checkpoint,
    read_entries,
    rebuild,
)
from network.classifier import Classifier
from network.inference import compute_logits
from reporting.comparison import compare_networks
from reporting.report import EvaluatedSplit
from running.errors import InputError
from running.run_folder import RunFolder, previous
from running.settings import resolve_settings


class Earlier(NamedTuple):
    """The finished run that an update starts from, and its checkpoint."""

    run: Run
    network: Classifier
    info: NetworkInfo
    checkpoint: Path


def needs_backups(folder: RunFolder) -> bool:
    """Whether a run in the folder was killed at a point where --update starts from the backups.

    It had written its first checkpoint and not yet its last.pth; or it is an update with epochs to
    come. No run may overwrite the backups then.
    """
    backup = previous(folder.resume_file)
    if not (os.path.exists(previous(folder.checkpoint)) and os.path.exists(backup)):
        return False
    try:
        run = Run.load(folder.resume_file)
        if run.is_update and not (run.is_finished or run.has_ended):
            return True
        is_earlier = filecmp.cmp(folder.resume_file, backup, shallow=False)
        return is_earlier and not run.owns(load_checkpoint(folder.checkpoint)[1])
    except (InputError, OSError):  # of one that cannot be read
        return False


def load_earlier(folder: RunFolder, from_backups: bool) -> Earlier:
    """Load the finished run that an update starts from, or started from.

    Raises InputError if there is none, it is not finished, or a file is damaged.
    """
    checkpoint, resume_file = folder.checkpoint, folder.resume_file
    if from_backups:
        checkpoint, resume_file = previous(checkpoint), previous(resume_file)
    run = Run.load(resume_file)
    earlier = Earlier(run, *load_checkpoint(checkpoint), checkpoint)
    if not run.owns(earlier.info):
        raise InputError(f"{checkpoint} is not the network of the run in {resume_file}")
    if not run.is_finished:
        raise InputError(
            f"the run in {folder.path} is not finished: --resume continues it, and --update can "
            "follow"
        )
    return earlier


def update_run(
    earlier: Earlier,
    num_classes: int,
    epochs: int | None,
    device: torch.device,
    resources: Resources,
) -> Run:
    """Put a new head for C categories on the body of a finished run's checkpoint.

    The settings are those of the finished run, but for `epochs`: without them only the head is
    fitted. A body that has learned from all photographs of a small folder cannot be judged by them:
    then the run starts from the weights that the finished one started from, and learns as long.
    """
    before, _, info, checkpoint = earlier
    if before.folds and info.metrics.epoch:
        epochs = before.settings.epochs if epochs is None else epochs
        settings = dataclasses.replace(before.settings, epochs=epochs, minutes=None)
        side = before.preprocessing.resize  # the pictures are prepared as they were
        run = new_run(settings, num_classes, side, device, resources)
        run.is_update = True
        return run
    epochs = epochs or 0
    entries = read_entries(checkpoint, "calibration")
    model, preprocessing = rebuild(entries, len(info.categories), entries["state_dict"])
    settings = dataclasses.replace(before.settings, epochs=epochs, minutes=None)
    if before.weights_source is None:  # a recipe from scratch would undo what it has learned
        settings = dataclasses.replace(settings, lr=None, batch_size=None, tune=None, weights=None)
        settings = resolve_settings(settings, preprocessing.crop, True, bool(model.feature_layers))
    torch.manual_seed(settings.seed)
    layers, in_features = model.feature_layers, describe_head(model)["in_features"]
    hidden = settings.hidden_units
    model = build_classifier(model.body, layers, in_features, hidden, num_classes, preprocessing)
    source = before.weights_source or "an earlier run"
    run = Run(settings, model.to(device), preprocessing, source, epoch=-1, is_update=True)
    if info.metrics.epoch:
        run.tuned_history, run.tuned_on = before.history, before.manifest.splits["train"][0]
    else:  # the network has the body that the run began with
        run.tuned_history, run.tuned_on = before.tuned_history, before.tuned_on
        run.l2_penalty = before.l2_penalty
    return run


def take_changes(run: Run, earlier: Earlier) -> tuple[dict[str, str], list[str]]:
    """Find what has changed in the photographs of an update; its L2 penalty counts it.

    Returns the names that categories keep, and sentences on the changes.
    """
    before, _, info, checkpoint = earlier
    changes = compare(before.manifest, run.manifest)
    if run.l2_penalty:
        changed = count_changed(before.manifest, run.manifest, changes.renamed)
        run.l2_penalty = run.l2_penalty._replace(changed=run.l2_penalty.changed + changed)
    own = [(c, name) for c, name in zip(info.categories, info.names) if name != c]
    total = sum(len(labels) for _, labels in run.manifest.splits.values())
    missing = run.features.count_missing()
    return {changes.renamed.get(category, category): name for category, name in own}, [
        f"since the run in {checkpoint}: {changes.describe()}",
        f"features: those of {missing} of {total} photographs have to be computed",
    ]


def compare_update(
    run: Run, earlier: Earlier, valid_set: Activations, labels: np.ndarray, after: EvaluatedSplit
) -> dict[str, Any]:
    """Compare the network of an update with the earlier one, on valid and its labels (V,).

    Returns a part of report.json; docs/reference.md explains each entry.
    """
    before, network, info, _ = earlier
    assert run.valid
    if run.has_learned:
        network = network.to(run.model.mean.device)
        logits = compute_logits(network, Activations(network, 0, valid_set.photographs).in_order())
    else:
        features = run.features.of(valid_set, "the earlier network")
        logits = head_logits(network.head, features) / network.temperature
    changes = compare(before.manifest, run.manifest)
    train = before.manifest.splits["train"][0]
    tuned_on = train if info.metrics.epoch else before.tuned_on
    from_train = count_known(np.concatenate([train, tuned_on]), run.manifest)
    notes = describe_known(count_known(tuned_on, run.manifest), from_train)
    if not run.settings.recipe.epochs:
        notes += describe_tuning(run, changes)
    categories = [changes.renamed.get(category, category) for category in info.categories]
    paths = valid_set.photographs.paths
    both = {"before": logits.numpy(), "after": run.valid.logits}
    return {
        "changes": changes._asdict(),
        "from_train": from_train,
        **compare_networks(paths, categories, both, labels, after.categories, after.names),
        "notes": notes,
    }


def describe_known(by_body: Mapping[str, int], by_earlier: Mapping[str, int]) -> list[str]:
    """Explain which figures are too good, as networks have learned from the photographs.

    The counts are of photographs of each split, from which the body of both networks, or the
    earlier network, has learned.
    """
    counts = by_earlier if any(by_body.values()) else {"valid": by_earlier["valid"]}
    known = " and ".join(f"{count} of {split}" for split, count in counts.items() if count)
    whose = "the earlier network", "its figure is"
    if any(by_body.values()):
        whose = "the layers before the head", "the figures of both networks are"
    text = "{} came from train, where {} learned from them: {} too good"
    return [text.format(known, *whose)] if known else []


def describe_tuning(run: Run, changes: Changes) -> list[str]:
    """Describe what an update of a tuned body leaves as it was."""
    rows = run.tuned_history
    if not rows:
        return []
    epochs, last = rows[-1]["epoch"], rows[-1]["valid_accuracy"]
    text = f"the layers before the head are those of the earlier run, whose {epochs} epochs "
    if rows[0]["epoch"] == 0:
        accuracy = rows[0]["valid_accuracy"]
        text += f"raised the accuracy on valid from {accuracy:.2%} to {last:.2%} and "
    notes = [text + f"were not run again; --update --epochs {epochs} runs them"]
    if changes.gone or changes.removed:
        what = f"category {', '.join(changes.gone)}" if changes.gone else "what was removed"
        notes.append(
            f"the head has forgotten {what} exactly; the layers before it learned from those "
            "photographs, and may remember them"
        )
    return notes
