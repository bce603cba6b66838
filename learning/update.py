"""Going on from a finished run when its photographs have changed: what is kept, what is said."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from formats.schema import NetworkInfo
from images.decode import Preprocessing
from images.manifest import NO_DIGESTS, Changes, compare, count_known
from learning.evaluation import head_logits
from learning.resume import RunRecord, is_of_run, load_training
from network.checkpoint import build_classifier, describe_head, read_entries, rebuild
from network.classifier import Classifier
from reporting.comparison import compare_networks
from reporting.report import EvaluatedSplit
from running.errors import InputError
from running.run_folder import RunFolder, previous
from running.settings import resolve_settings

Load = Callable[[Path], tuple[Classifier, NetworkInfo]]


class Earlier(NamedTuple):
    """The run that an update goes on from."""

    checkpoint: Path
    network: Classifier  # of the checkpoint, for inference
    info: NetworkInfo
    record: RunRecord
    is_aside: bool = False  # its files are x.previous.pth: a later run has broken off
    later_has_state: bool = False  # and has a last.pth

    @property
    def is_tuned(self) -> bool:
        """Whether the layers before the head have learned from its photographs."""
        return bool(self.tuned)

    @property
    def tuned(self) -> list[dict[str, Any]]:
        """The history of the run that tuned the layers."""
        return self.record.history if self.info.metrics.epoch else self.record.tuned

    @property
    def tuned_on(self) -> np.ndarray:
        """The digests of its train, uint8 (n, DIGEST); none where they are not known."""
        return self._train if self.info.metrics.epoch else self.record.tuned_on

    @property
    def learned_from(self) -> np.ndarray:
        """The digests of all that its layers or its head have learned from."""
        return np.concatenate([self._train, self.tuned_on])

    @property
    def _train(self) -> np.ndarray:
        return self.record.seen.splits["train"][0] if self.record.seen else NO_DIGESTS

    def seconds(self, features: int, epochs: int) -> tuple[float | None, float]:
        """Guess how long so many photographs' features take, and epochs of so many.

        The run that tuned the layers tells: its head, for which every feature was computed, and
        its epochs.
        """
        count = len(self.tuned_on)
        if not count:
            return None, sum(row["seconds"] for row in self.tuned if row["epoch"])
        each = [row["seconds"] / count for row in self.tuned if row["epoch"] == 0]
        learning = sum(row["seconds"] for row in self.tuned if row["epoch"]) / count
        return (each[0] * features if each else None), learning * epochs


def find_earlier(folder: RunFolder, load: Load) -> Earlier:
    """Find the finished run of a folder.

    An update that was broken off has set the files of the run before it aside; that one counts.

    Args:
        folder: of the run.
        load: loads a checkpoint.

    Raises:
        InputError: there is none, it is not finished, or a file is damaged.
    """
    if folder.resume_file.exists() and not has_broken_off(folder):
        earlier = _read(folder.checkpoint, folder.resume_file, load)
        if not earlier.record.is_finished:
            raise InputError(
                f"the run in {folder.path} has not come to its end: --resume goes on with it, "
                "and --update can follow"
            )
        return earlier
    return _read_aside(folder, load)


def find_compared(folder: RunFolder, load: Load) -> Earlier | None:
    """Find the run that the update in a folder went on from, if its files are still aside."""
    try:
        earlier = _read_aside(folder, load)
    except InputError:
        return None
    assert earlier.record.best is not None
    is_same = earlier.info.metrics.valid_loss == earlier.record.best.loss
    return earlier if is_same else None  # the files of two runs


def has_broken_off(folder: RunFolder) -> bool:
    """Tell whether last.pth is of an update with epochs to come, whose earlier run is aside."""
    if not (previous(folder.checkpoint).exists() and previous(folder.resume_file).exists()):
        return False
    try:
        entries = read_entries(folder.resume_file, "run")["run"]
        record = RunRecord.from_entries(entries, entries["best"]["logits"].shape[1])
    except (AttributeError, InputError, LookupError, TypeError, ValueError):
        return False
    return record.is_update and not (record.is_finished or record.has_ended)


def _read_aside(folder: RunFolder, load: Load) -> Earlier:
    aside = previous(folder.checkpoint), previous(folder.resume_file)
    has_state = folder.resume_file.exists()
    return _read(*aside, load)._replace(is_aside=True, later_has_state=has_state)


def _read(checkpoint: Path, resume_file: Path, load: Load) -> Earlier:
    network, info = load(checkpoint)
    state, _, record = load_training(resume_file, len(info.categories))
    if not is_of_run(info, state, record):
        raise InputError(f"{checkpoint} is not the best network of the run in {resume_file}")
    return Earlier(checkpoint, network, info, record)


def with_new_head(
    earlier: Earlier, num_classes: int, epochs: int
) -> tuple[Classifier, Preprocessing, RunRecord]:
    """Put a new head for C categories on the layers of an earlier run; take its settings.

    Raises:
        InputError: its checkpoint is damaged.
    """
    path = earlier.checkpoint
    entries = read_entries(path, "calibration")
    try:
        model, preprocessing = rebuild(entries, len(earlier.info.categories), entries["state_dict"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    settings = dataclasses.replace(earlier.record.settings, epochs=epochs, minutes=None)
    if earlier.record.source is None:  # what it learned with from scratch would undo it now
        settings = dataclasses.replace(settings, lr=None, batch_size=None, tune=None, weights=None)
        settings = resolve_settings(settings, preprocessing.crop, True, bool(model.feature_layers))
    torch.manual_seed(settings.seed)
    head = describe_head(model)
    model = build_classifier(
        model.body,
        model.feature_layers,
        head["in_features"],
        settings.hidden_units,
        num_classes,
        preprocessing,
    )
    source = earlier.record.source or "an earlier run"  # which has learned: its head is solved
    record = RunRecord(
        settings, source, is_update=True, tuned=earlier.tuned, tuned_on=earlier.tuned_on
    )
    if not earlier.info.metrics.epoch:  # found with what the head sees now
        record.penalty = earlier.record.penalty
    return model, preprocessing, record


def changes_since(earlier: Earlier, record: RunRecord) -> Changes | None:
    """Say what has changed since a run; None where an earlier version made it, which is silent."""
    if record.changes is None and earlier.record.seen and record.seen:
        record.changes = compare(earlier.record.seen, record.seen)
    return record.changes


def names_to_keep(earlier: Earlier, record: RunRecord) -> dict[str, str]:
    """Collect the names that an earlier run has for categories, other than the categories' own."""
    changes = changes_since(earlier, record)
    renamed = changes.renamed if changes else {}
    return {
        renamed.get(category, category): name
        for category, name in zip(earlier.info.categories, earlier.info.names)
        if name != category
    }


def describe_start(earlier: Earlier, record: RunRecord, missing: int) -> list[str]:
    """Say what has changed since a run, and how many photographs' features are missing."""
    where = f"since the run in {earlier.checkpoint}"
    if earlier.is_aside:
        where += ", as a later one was broken off"
    if earlier.later_has_state:
        where += " (--resume goes on with that one)"
    changes = changes_since(earlier, record)
    said = f"what has changed {where} is not known: an earlier version made it"
    if changes:
        has_same_files = earlier.record.photographs == record.photographs
        said = f"{where}: {changes.describe(has_same_files)}"
    assert record.seen is not None
    total = sum(map(record.seen.count, record.seen.splits))
    text = f"features: {missing} of {total} photographs have to be computed"
    seconds, _ = earlier.seconds(missing, 0)
    if seconds is not None and missing:
        text += f", in about {max(1, round(seconds))} s"
    return [said, text]


def describe_tuning(earlier: Earlier, changes: Changes | None, train: int) -> Iterator[str]:
    """Say what an update leaves as it is where the earlier run's epochs have tuned layers.

    Args:
        earlier: the run.
        changes: since then, if they are known.
        train: how many photographs there are in train now.
    """
    if not earlier.is_tuned:
        return
    rows = earlier.tuned
    epochs = rows[-1]["epoch"]
    _, seconds = earlier.seconds(0, train)
    text = (
        f"the layers before the head are those of the earlier run, whose {epochs} epochs were not "
        f"run again: they would take about {max(1, round(seconds))} s"
    )
    best = max(row["valid_accuracy"] for row in rows if row["saved"])
    if rows[0]["epoch"] == 0:
        text += f", and had raised the accuracy on valid from {rows[0]['valid_accuracy']:.2%} to "
        text += f"{best:.2%}"
    yield f"{text}; --update --epochs {epochs} runs them"
    if changes and (changes.gone or changes.removed):
        what = f"category {', '.join(changes.gone)}" if changes.gone else "what was removed"
        yield (
            f"the head has forgotten {what} exactly; the layers before it learned from those "
            "photographs, and may remember them"
        )


def describe_known(by_layers: Mapping[str, int], by_earlier: Mapping[str, int]) -> Iterator[str]:
    """Say which figures are too good, as networks have learned from some photographs.

    Args:
        by_layers: from how many photographs of each split the layers of both have.
        by_earlier: from how many of each the earlier network has.
    """
    known = [f"{count} of {split}" for split, count in by_layers.items() if count]
    if known:
        yield (
            f"{' and '.join(known)} came from train, where the layers before the head learned from "
            "them: the figures of both networks are too good"
        )
    if more := by_earlier["valid"] - by_layers["valid"]:
        yield (
            f"{more} of valid came from train, where the earlier network learned from them: its "
            "figure is too good; this one did not"
        )


def compare_update(
    earlier: Earlier,
    record: RunRecord,
    features: torch.Tensor,
    splits: Mapping[str, tuple[Sequence[str], np.ndarray]],
    evaluated: EvaluatedSplit,
) -> dict[str, Any]:
    """Compare the network of an update with the earlier one, on valid.

    Args:
        earlier: the run that it went on from.
        record: of the update.
        features: what the heads see of valid (V, F).
        splits: paths and labels of each.
        judged: by the new network; its categories and names.

    Returns:
        A part of report.json; docs/reference.md explains each entry.
    """
    assert record.best is not None and record.seen is not None
    logits = {
        "before": head_logits(earlier.network, features).numpy(),
        "after": record.best.logits,
    }
    known, labels = earlier.info.categories, splits["valid"][1]
    changes, from_train, notes = changes_since(earlier, record), None, list[str]()
    if changes and earlier.record.seen:
        known = [changes.renamed.get(category, category) for category in known]
        from_train = count_known(earlier.learned_from, record.seen)
        notes += describe_known(count_known(earlier.tuned_on, record.seen), from_train)
    if not record.settings.recipe.epochs:
        notes += describe_tuning(earlier, changes, len(splits["train"][1]))
    return {
        "changes": changes and changes._asdict(),
        "from_train": from_train,
        **compare_networks(known, logits, labels, evaluated.categories, evaluated.names),
        "notes": notes,
    }
