"""The resume file: where a run stands after an epoch, so that it goes on as if left in peace."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from formats.pth import state_of, write_archive
from formats.schema import NetworkInfo, check_types, preprocessing_entries
from images.decode import Preprocessing
from images.manifest import DIGEST, NO_DIGESTS, Changes, Manifest
from learning.evaluation import Evaluation
from network.checkpoint import (
    FORMAT_VERSION,
    as_float,
    check_forward,
    describe_head,
    read_entries,
    rebuild,
)
from network.classifier import Classifier
from running.environment import versions
from running.errors import InputError, is_out_of_memory
from running.settings import Settings

# The columns of history.csv; files of version 1 do not know the calibrated loss.
HISTORY: dict[str, Any] = {
    "epoch": int,
    "train_loss": float,
    "valid_loss": float,
    "calibrated_loss": (float, type(None)),
    "valid_accuracy": float,
    "seconds": float,
    "saved": int,
}


class TrainingState(NamedTuple):
    """Where the learning stands after an epoch."""

    epoch: int  # 0: the head is fitted
    model: Classifier
    averaged: Classifier  # the moving average of its weights; the model itself, where there is none
    optimizer: dict[int, dict[str, torch.Tensor]]  # what it keeps of each parameter
    random: torch.Tensor  # the state of PyTorch's generator: uint8


def count_epochs(number: float) -> str:
    """Say how many; without any, the head is all that is fitted."""
    if number == 0:
        return "the head alone"
    return "1 epoch" if number == 1 else f"{number:g} epochs"


class Penalty(NamedTuple):
    """The penalty that was found for a head."""

    value: float
    photographs: int  # of train, when it was looked for
    categories: int
    changed: int = 0  # photographs of train, since then

    def value_for(self, photographs: int, categories: int) -> float | None:
        """Say what it is for other photographs; None, where it has to be looked for again.

        Penalties are a factor of ten apart, so that a tenth of the photographs changes little.
        """
        changed = max(self.changed, abs(photographs - self.photographs))
        near = changed <= self.photographs / 10
        return self.value if near and abs(categories - self.categories) <= categories / 10 else None


@dataclass
class RunRecord:
    """What a run knows of itself, beside the network; the resume file keeps it."""

    settings: Settings  # resolved
    source: str | None  # of the weights; None: from scratch
    photographs: str = ""  # see `data_utils.fingerprint`
    history: list[dict[str, Any]] = field(default_factory=list)  # a row of `HISTORY` an epoch
    best: Evaluation | None = None  # of the epoch that the checkpoint holds
    # Of train: photographs whose label is most suspicious, and the category that each looks like.
    suspects: list[tuple[int, int]] = field(default_factory=list)
    seen: Manifest | None = None  # its photographs; files of earlier versions do not know them
    is_update: bool = False  # of an earlier run, whose layers it has taken
    # The history of the run that tuned these layers, as long as updates have left them alone.
    tuned: list[dict[str, Any]] = field(default_factory=list)
    # Digests of its train, uint8 (n, DIGEST); none: they are not known.
    tuned_on: np.ndarray = field(default_factory=lambda: NO_DIGESTS, compare=False)
    has_ended: bool = False  # once, before more epochs were asked for
    penalty: Penalty | None = None  # of the head, if it has been solved
    changes: Changes | None = None  # since the run before an update, once found; not kept

    @property
    def is_finished(self) -> bool:
        """Whether its last epoch is over."""
        # With --minutes the last epoch may have been broken off.
        last = self.history[-1]["epoch"]
        return last >= self.settings.recipe.epochs or self.settings.minutes is not None

    def epochs_from(self, first: int) -> Iterator[int]:
        """Count the epochs; their number may change meanwhile."""
        while first <= self.settings.recipe.epochs:
            yield first
            first += 1

    def add_epoch(
        self, epoch: int, train_loss: float, result: Evaluation, seconds: float, saved: bool
    ) -> None:
        """Add a row to the history."""
        row = (
            epoch,
            train_loss,
            result.loss,
            result.calibrated_loss,
            result.accuracy,
            seconds,
            int(saved),
        )
        self.history.append(dict(zip(HISTORY, row, strict=True)))

    def describe(self, side: int) -> str:
        """Say what learns on squares of so many pixels a side, and for how long."""
        settings = self.settings
        start = f"starting from {self.source}" if self.source else "starting from scratch"
        if self.is_update:
            start = "with the layers of the earlier run"
        epochs = count_epochs(settings.epochs or 0)
        if settings.tune == "tail" and settings.epochs:
            epochs += " of the last third of its layers"
        return f"network: {settings.arch}, {start}, {side} x {side} pixels, {epochs}"

    def describe_best(self, checkpoint: str | os.PathLike[str]) -> str:
        """Say where the best network so far is, and how good it is."""
        best = [row for row in self.history if row["saved"]][-1]
        epoch = f"epoch {best['epoch']}" if best["epoch"] else "the head"
        accuracy = best["valid_accuracy"]
        return f"the best network so far is in {checkpoint} ({epoch}, {accuracy:.2%} on valid)"

    def list_suspects(
        self, paths: Sequence[str], labels: np.ndarray, names: Sequence[str]
    ) -> list[dict[str, str]]:
        """List the suspects for report.json, the most suspicious first.

        Args:
            paths: of the photographs of train.
            labels: the index of each one's category.
            names: of the categories.
        """
        return [
            {"file": paths[i], "name": names[labels[i]], "looks_like": names[other]}
            for i, other in self.suspects
            if i < len(paths)
        ]

    def take_photographs(self, found: str, num_valid: int, seen: Manifest | None = None) -> bool:
        """Note which photographs a run learns from; tell whether a resumed one has done so before.

        Args:
            found: see `data_utils.fingerprint`.
            num_valid: how many of them are in valid.
            seen: where each of them stands.
        """
        if self.best and (self.photographs != found or len(self.best.logits) != num_valid):
            return False
        self.photographs, self.seen = found, seen
        return True

    def entries(self) -> dict[str, Any]:
        """Turn it into plain data and tensors."""
        assert self.best is not None
        best = {**self.best._asdict(), "logits": torch.from_numpy(self.best.logits)}
        return {
            "settings": asdict(self.settings),
            "source": self.source,
            "photographs": self.photographs,
            "history": self.history,
            "best": best,
            "suspects": self.suspects,
            "seen": _seen_entries(self.seen),
            "is_update": self.is_update,
            "tuned": self.tuned,
            "tuned_on": torch.tensor(self.tuned_on),
            "has_ended": self.has_ended,
            "penalty": self.penalty and [*self.penalty],
        }

    @classmethod
    def from_entries(cls, entries: dict[str, Any], num_classes: int) -> "RunRecord":
        """Read what `entries` wrote.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is impossible.
        """
        check_types(entries, {"source": (str, type(None)), "photographs": str, "history": list})
        history = _read_history(entries["history"])
        best = entries["best"]
        check_types(best, dict.fromkeys(("loss", "calibrated_loss", "accuracy"), float))
        logits = best["logits"]
        if logits.dtype != torch.float32 or not any(row["saved"] for row in history):
            raise ValueError("impossible entries")
        logits = as_float(logits, (len(logits), num_classes)).numpy()
        return cls(
            Settings.from_entries(entries["settings"]),
            entries["source"],
            entries["photographs"],
            history,
            Evaluation(**{**best, "logits": logits}),
            _read_suspects(entries.get("suspects", []), num_classes),
            _read_seen(entries.get("seen"), num_classes),
            entries.get("is_update") is True,
            _read_history(entries.get("tuned", [])),
            _read_digests(entries["tuned_on"]) if "tuned_on" in entries else NO_DIGESTS,
            entries.get("has_ended") is True,
            _read_penalty(entries.get("penalty")),
        )


def _read_history(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read the rows of a history; those of version 1 lack a column.

    Raises:
        AttributeError, TypeError, ValueError: they are impossible.
    """
    history = [{column: row.get(column) for column in HISTORY} for row in rows]
    for row in history:
        check_types(row, HISTORY)
    return history


def _read_penalty(entries: list[Any] | None) -> Penalty | None:
    """Read a penalty.

    Raises:
        TypeError, ValueError: it is impossible.
    """
    if entries is None:
        return None
    penalty = Penalty(*entries)
    check_types(penalty._asdict(), Penalty.__annotations__)
    if not 0 < penalty.value < 1:
        raise ValueError("impossible penalty")
    return penalty


def _read_digests(digests: torch.Tensor) -> np.ndarray:
    """Read digests of photographs: uint8 (n, DIGEST).

    Raises:
        AttributeError, ValueError: they are impossible.
    """
    if digests.dim() != 2 or digests.shape[1] != DIGEST or digests.dtype != torch.uint8:
        raise ValueError("impossible digests")
    return digests.numpy()


def _seen_entries(seen: Manifest | None) -> dict[str, Any] | None:
    """Turn the photographs of a run into plain data and tensors."""
    if seen is None:
        return None
    splits = {
        name: {"digests": torch.tensor(digests), "labels": torch.tensor(labels)}
        for name, (digests, labels) in seen.splits.items()
    }
    return {"categories": seen.categories, "splits": splits}


def _read_seen(entries: dict[str, Any] | None, num_classes: int) -> Manifest | None:
    """Read what `_seen_entries` wrote.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is impossible.
    """
    if entries is None:
        return None
    categories, splits = entries["categories"], {}
    if len(categories) != num_classes or not all(type(each) is str for each in categories):
        raise ValueError("impossible categories")
    for name, split in entries["splits"].items():
        digests, labels = _read_digests(split["digests"]), split["labels"]
        if (
            type(name) is not str
            or len(digests) != len(labels)
            or labels.shape != (len(labels),)
            or labels.dtype != torch.int64
            or not ((labels >= 0) & (labels < num_classes)).all()
        ):
            raise ValueError("impossible photographs")
        splits[name] = digests, labels.numpy()
    return Manifest(categories, splits)


def _read_suspects(entries: list[tuple[int, int]], num_classes: int) -> list[tuple[int, int]]:
    """Read which photographs of train look like which category.

    Raises:
        TypeError, ValueError: they are impossible.
    """
    for i, other in entries:
        if type(i) is not int or type(other) is not int or i < 0 or not 0 <= other < num_classes:
            raise ValueError("impossible suspects")
    return [(i, other) for i, other in entries]


def save_training(
    path: str | os.PathLike[str], state: TrainingState, preprocessing: Preprocessing, run: RunRecord
) -> None:
    """Write all that a run needs to go on as if nothing had happened.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    entries = {
        "format_version": FORMAT_VERSION,
        "run": run.entries(),
        "arch": run.settings.arch,
        "head": describe_head(state.model),
        "preprocessing": preprocessing_entries(preprocessing),
        "epoch": state.epoch,
        "model": state_of(state.model),
        "averaged": None if state.averaged is state.model else state_of(state.averaged),
        "optimizer": {
            i: {key: value.cpu() for key, value in kept.items()}
            for i, kept in state.optimizer.items()
        },
        "random": state.random,
        "versions": versions(),
    }
    write_archive(path, entries)


def load_training(
    path: str | os.PathLike[str], num_classes: int
) -> tuple[TrainingState, Preprocessing, RunRecord]:
    """Read what `save_training` wrote.

    What the optimizer keeps fits its parameters or not; `restore_optimizer` looks at that.

    Raises:
        InputError: the file is missing, damaged, of another number of categories or no such
            file.
    """
    entries = read_entries(path, "run")
    try:
        check_types(entries, {"epoch": int, "run": dict, "optimizer": dict, "model": dict})
        check_types(entries, {"averaged": (dict, type(None))})
        model_state, averaged_state, random = (
            entries[key] for key in ("model", "averaged", "random")
        )
        wanted = torch.get_rng_state()
        if random.dtype != wanted.dtype or random.shape != wanted.shape or entries["epoch"] < 0:
            raise ValueError("impossible state")
        model, preprocessing = rebuild(entries, num_classes, model_state)
        averaged = model
        if averaged_state is not None:
            averaged, _ = rebuild(entries, num_classes, averaged_state)
        check_forward(model, preprocessing.crop)
    except (AttributeError, InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path} is damaged, or of another set of categories") from error
    try:
        run = RunRecord.from_entries(entries["run"], num_classes)
        if (run.history[-1]["epoch"], run.settings.arch) != (entries["epoch"], entries["arch"]):
            raise ValueError("parts of two runs")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    state = TrainingState(entries["epoch"], model, averaged, entries["optimizer"], random)
    return state, preprocessing, run


def is_of_run(info: NetworkInfo, state: TrainingState, record: RunRecord) -> bool:
    """Tell whether a checkpoint is the best network of a run."""
    assert record.best is not None
    if (info.arch, info.seed) != (record.settings.arch, record.settings.seed):
        return False
    # A run may have been killed when it had saved a better network, but not yet the rest.
    return info.metrics.epoch == state.epoch + 1 or info.metrics.valid_loss == record.best.loss


def restore_optimizer(
    optimizer: torch.optim.Optimizer, kept: dict[int, dict[str, torch.Tensor]]
) -> None:
    """Give an optimizer back what it kept of its parameters.

    Raises:
        InputError: it is of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        if kept.keys() != {*range(len(parameters))}:
            raise ValueError("of other parameters")
        for i, parameter in enumerate(parameters):
            if kept[i].keys() != {"step", "exp_avg", "exp_avg_sq"}:
                raise ValueError("of another optimizer")
            for key, values in kept[i].items():
                as_float(values, () if key == "step" else parameter.shape)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError("the optimizer's state in last.pth is damaged") from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
