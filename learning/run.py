"""A training run: its settings, its network, and how far it has come. last.pth holds it."""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from formats.pth import state_of, write_archive
from formats.schema import (
    Calibration,
    NetworkInfo,
    ValidMetrics,
    check_types,
    preprocessing_entries,
)
from images.decode import Preprocessing
from images.manifest import DIGEST, NO_DIGESTS, Manifest
from learning.evaluation import Evaluation, is_readable
from learning.features import FeatureCache, identify
from learning.resources import Resources
from network.checkpoint import (
    FORMAT_VERSION,
    as_float,
    check_forward,
    describe_head,
    load_checkpoint,
    new_model,
    read_entries,
    rebuild,
)
from network.classifier import Classifier
from network.inference import for_inference
from reporting.metrics import wilson_interval
from running.environment import versions
from running.errors import InputError, is_out_of_memory
from running.recipe import RICH
from running.run_folder import RunFolder
from running.settings import Settings, resolve_settings, resume_settings

# The columns of history.csv, an epoch a row.
HISTORY: dict[str, Any] = {
    "epoch": int,
    "train_loss": float,
    "valid_loss": float,
    "valid_accuracy": float,
    "seconds": float,
}

# Of a part of last.pth: the rest is checked where it is read.
PLAIN = {"source": (str, type(None)), "photographs": str, "is_update": bool, "has_ended": bool}


def count_epochs(number: float) -> str:
    """Spell a number of epochs; without any, only the head is fitted."""
    if number == 0:
        return "the head alone"
    return "1 epoch" if number == 1 else f"{number:g} epochs"


class L2Penalty(NamedTuple):
    """The L2 penalty that cross-validation chose for a linear head."""

    value: float
    photographs: int  # of train, when it was chosen
    categories: int
    changed: int = 0  # photographs of train, since then

    def value_for(self, photographs: int, categories: int) -> float | None:
        """Return the penalty for other photographs; None where it has to be chosen again.

        Penalties are a factor of ten apart, so that a tenth of the photographs changes little.
        """
        changed = max(self.changed, abs(photographs - self.photographs))
        near = changed <= self.photographs / 10
        return self.value if near and abs(categories - self.categories) <= categories / 10 else None


@dataclass
class Run:
    """A training run. All but `features` is saved after every epoch."""

    settings: Settings  # resolved
    model: Classifier  # on the device
    preprocessing: Preprocessing
    weights_source: str | None  # None: it started from scratch
    epoch: int  # the last one that has ended; 0: the head is fitted, -1: nothing yet
    averaged: Classifier | None = None  # the moving average of the model's weights, if there is one
    # Of each parameter, by number, the optimizer's running averages.
    optimizer_state: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)
    rng_state: torch.Tensor | None = None  # of PyTorch's generator: uint8; None: a new run
    history: list[dict[str, Any]] = field(default_factory=list)  # rows of `HISTORY`
    valid: Evaluation | None = None  # of the network in the checkpoint
    # Where there is no valid: of the cross-validation after each epoch, the head being the first.
    folds: list[Evaluation] = field(default_factory=list)
    growth: dict[str, Any] = field(default_factory=dict)  # of the head, see `measure_growth`
    # Of train: photographs whose label is most suspicious, and the category that each looks like.
    suspects: list[tuple[int, int]] = field(default_factory=list)
    manifest: Manifest = Manifest([], {})  # its photographs
    fingerprint: str = ""  # of these and of their files' names, see `data_utils.inspect`
    l2_penalty: L2Penalty | None = None  # of a linear head
    is_update: bool = False  # of an earlier run, whose body it has taken
    has_ended: bool = False  # at least once, before more epochs were asked for
    # The history of the run that tuned the body, as long as updates have left it frozen, and the
    # digests of its train (n, DIGEST).
    tuned_history: list[dict[str, Any]] = field(default_factory=list)
    tuned_on: np.ndarray = field(default_factory=lambda: NO_DIGESTS)
    features: FeatureCache = field(default_factory=FeatureCache)

    # --- How far it has come

    @property
    def has_learned(self) -> bool:
        """Whether the body is no longer the one that the run started with."""
        return self.rng_state is not None and self.epoch > 0

    @property
    def is_finished(self) -> bool:
        """Whether no epoch is to come."""
        return self.epoch >= self.settings.recipe.epochs

    def to(self, device: torch.device) -> "Run":
        """Move the network to a device."""
        self.model.to(device)
        if self.averaged:
            self.averaged.to(device)
        return self

    def add_epoch(self, epoch: int, train_loss: float, result: Evaluation, seconds: float) -> None:
        """Add a row to the history."""
        figures = epoch, train_loss, result.loss, result.accuracy, seconds
        self.history.append(dict(zip(HISTORY, figures, strict=True)))

    def owns(self, info: NetworkInfo) -> bool:
        """Whether a checkpoint holds the network of this run.

        It may hold that of the next epoch, if the run was killed between the two files.
        """
        assert self.valid
        ours = self.settings.arch, self.settings.seed, self.manifest.categories
        metrics = info.metrics
        return (info.arch, info.seed, info.categories) == ours and (
            metrics.epoch == self.epoch + 1 or metrics.valid_loss == self.valid.loss
        )

    def open_features(self, path: Path) -> None:
        """Open the file of features, where the body stays as it is."""
        is_frozen = self.is_update or not self.settings.epochs
        if is_frozen and self.weights_source is not None and not self.has_learned:
            identity = identify(for_inference(self.model), self.preprocessing)
            width = describe_head(self.model)["in_features"]
            self.features = FeatureCache(path, identity, width)

    # --- In words

    def describe(self) -> str:
        """Describe what learns, on which pictures, and for how long."""
        settings, side = self.settings, self.preprocessing.crop
        start = f"starting from {self.weights_source or 'scratch'}"
        if self.is_update:
            start = "with the layers of the earlier run"
        epochs = count_epochs(settings.epochs or 0)
        if settings.tune == "tail" and settings.epochs:
            epochs += " of the last third of its layers"
        return f"network: {settings.arch}, {start}, {side} x {side} pixels, {epochs}"

    def describe_checkpoint(self, checkpoint: str | os.PathLike[str]) -> str:
        """Describe where the network so far is, and how good it is."""
        last = self.history[-1]
        epoch = f"epoch {last['epoch']}" if last["epoch"] else "the head"
        accuracy = last["valid_accuracy"]
        judged_by = "in a cross-validation" if self.folds else "on valid"
        return f"the network so far is in {checkpoint} ({epoch}, {accuracy:.2%} {judged_by})"

    def describe_failure(self) -> Iterator[str]:
        """Yield a sentence if the epochs made the network worse, or it has learned nothing."""
        assert self.valid
        first, last = self.history[0], self.history[-1]
        count = int(is_readable(self.valid.logits).sum())
        learned_nothing = last["train_loss"] > math.log(self.valid.logits.shape[1])
        if first["epoch"] == 0:
            low, _ = wilson_interval(round(first["valid_accuracy"] * count), count)
            if last["valid_accuracy"] < low:
                yield (
                    f"the epochs made the network worse: the head alone had "
                    f"{first['valid_accuracy']:.2%} on valid; try a lower --lr, or --epochs 0"
                )
        elif last["epoch"] and learned_nothing:
            yield "the loss is no lower than that of guessing; try a lower --lr, or more --epochs"

    def list_suspects(
        self, paths: Sequence[str], labels: np.ndarray, names: Sequence[str]
    ) -> list[dict[str, str]]:
        """List the suspects, of the paths and labels of train, for report.json."""
        return [
            {"file": paths[i], "name": names[labels[i]], "looks_like": names[other]}
            for i, other in self.suspects
            if i < len(paths)
        ]

    def network_info(
        self, names: list[str], calibration: Calibration, metrics: ValidMetrics, command: str
    ) -> NetworkInfo:
        """Collect what a checkpoint of this run keeps beside the weights."""
        return NetworkInfo(
            arch=self.settings.arch,
            preprocessing=self.preprocessing,
            categories=self.manifest.categories,
            names=names,
            calibration=calibration,
            metrics=metrics,
            seed=self.settings.seed,
            command=command,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
        )

    # --- last.pth

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that the run needs to continue as if it had never been stopped."""
        assert self.valid
        splits = {
            name: {"digests": torch.tensor(digests), "labels": torch.tensor(labels)}
            for name, (digests, labels) in self.manifest.splits.items()
        }
        run = {
            "settings": dataclasses.asdict(self.settings),
            "source": self.weights_source,
            "photographs": self.fingerprint,
            "history": self.history,
            # The name is from files of older runs.
            "best": _evaluation_entries(self.valid),
            "growth": self.growth,
            "folds": [_evaluation_entries(fold) for fold in self.folds],
            "suspects": self.suspects,
            "seen": {"categories": self.manifest.categories, "splits": splits},
            "is_update": self.is_update,
            "tuned": self.tuned_history,
            "tuned_on": torch.tensor(self.tuned_on),
            "has_ended": self.has_ended,
            "penalty": self.l2_penalty and [*self.l2_penalty],
        }
        entries = {
            "format_version": FORMAT_VERSION,
            "run": run,
            "arch": self.settings.arch,
            "head": describe_head(self.model),
            "preprocessing": preprocessing_entries(self.preprocessing),
            "epoch": self.epoch,
            "model": state_of(self.model),
            "averaged": state_of(self.averaged) if self.averaged else None,
            "optimizer": {
                i: {key: value.cpu() for key, value in kept.items()}
                for i, kept in self.optimizer_state.items()
            },
            "random": self.rng_state,
            "versions": versions(),
        }
        write_archive(path, entries)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Run":
        """Read what `save` wrote, on the CPU; raise InputError if the file is another one.

        Whether the optimizer's state fits its parameters is checked where it is restored.
        """
        entries = read_entries(path, "run")
        try:
            return cls._from_entries(entries)
        except (
            *(AttributeError, LookupError, TypeError, ValueError, RuntimeError),
            InputError,  # of a network that there is not
        ) as error:
            if is_out_of_memory(error):
                raise
            raise InputError(f"{path} is damaged: its parts do not fit together") from error

    @classmethod
    def _from_entries(cls, entries: dict[str, Any]) -> "Run":
        run = entries["run"]
        check_types(entries, {"epoch": int, "optimizer": dict})
        check_types(run, PLAIN)
        settings, categories = Settings.from_entries(run["settings"]), run["seen"]["categories"]
        num_classes = len(categories)
        valid = _read_evaluation(run["best"], num_classes)
        folds = [_read_evaluation(fold, num_classes) for fold in run.get("folds", ())]
        if growth := run.get("growth", {}):
            check_types(growth, {"exponent": float, "gains": list})
            if len(growth["gains"]) != num_classes or {*map(type, growth["gains"])} != {float}:
                raise ValueError("impossible gains")
        history, tuned_history = map(_read_history, (run["history"], run["tuned"]))
        splits = {}
        for name, split in run["seen"]["splits"].items():
            digests, labels = _read_digests(split["digests"]), split["labels"].numpy()
            if labels.dtype != np.int64 or labels.shape != digests.shape[:1]:
                raise ValueError("impossible labels")
            splits[name] = digests, labels
        suspects = [(i, other) for i, other in run["suspects"]]
        penalty = run["penalty"] and L2Penalty(*run["penalty"])
        if penalty:
            check_types(penalty._asdict(), L2Penalty.__annotations__)
        torch.Generator().set_state(entries["random"])
        if not (
            entries["epoch"] == history[-1]["epoch"] >= 0
            and entries["arch"] == settings.arch
            and all(type(each) is str for each in categories)
            and all(((labels >= 0) & (labels < num_classes)).all() for _, labels in splits.values())
            and all(type(i) is type(j) is int and i >= 0 for i, j in suspects)
            and {j for _, j in suspects} <= {*range(num_classes)}
            and (not penalty or 0 < penalty.value < 1)
        ):
            raise ValueError("impossible entries")
        model, preprocessing = rebuild(entries, num_classes, entries["model"])
        averaged = None
        if entries["averaged"] is not None:
            averaged, _ = rebuild(entries, num_classes, entries["averaged"])
        check_forward(model, preprocessing.crop)
        return cls(
            settings,
            model,
            preprocessing,
            weights_source=run["source"],
            epoch=entries["epoch"],
            averaged=averaged,
            optimizer_state=entries["optimizer"],
            rng_state=entries["random"],
            history=history,
            valid=valid,
            folds=folds,
            growth=growth,
            suspects=suspects,
            manifest=Manifest(categories, splits),
            fingerprint=run["photographs"],
            l2_penalty=penalty,
            is_update=run["is_update"],
            has_ended=run["has_ended"],
            tuned_history=tuned_history,
            tuned_on=_read_digests(run["tuned_on"]),
        )


def _evaluation_entries(evaluation: Evaluation) -> dict[str, Any]:
    unjudged = np.flatnonzero(~is_readable(evaluation.logits)).tolist()
    logits = torch.from_numpy(np.nan_to_num(evaluation.logits))
    return {**evaluation._asdict(), "logits": logits, "unjudged": unjudged}


def _read_evaluation(entries: dict[str, Any], num_classes: int) -> Evaluation:
    check_types(entries, dict.fromkeys(("loss", "accuracy"), float))
    logits = as_float(entries["logits"], (len(entries["logits"]), num_classes)).numpy()
    logits[entries.get("unjudged", [])] = np.nan
    return Evaluation(entries["loss"], entries["accuracy"], logits)


def _read_history(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        check_types(row, HISTORY)
    return [{name: row[name] for name in HISTORY} for row in rows]


def _read_digests(digests: torch.Tensor) -> np.ndarray:
    if digests.dtype != torch.uint8 or digests.shape[1:] != (DIGEST,):
        raise ValueError("impossible digests")
    return digests.numpy()


# --- Where a run starts ---------------------------------------------------------------


def new_run(
    settings: Settings,
    num_classes: int,
    side: int | None,
    device: torch.device,
    resources: Resources,
    photographs: int = RICH,
) -> Run:
    """Build the network of a new run for C categories, and resolve its settings.

    `side` is the short side of the photographs in pixels, where it is known, and `photographs`
    their number in train. Rank 0 may download weights, before the others look for them. Raises
    InputError if there is no such network, its weights are not available, or the settings do not go
    together.
    """
    if settings.minutes and resources.processes.size > 1:
        raise InputError("--minutes is for one process, and torchrun has started several")
    torch.manual_seed(settings.seed)
    with resources.processes.rank_zero_first():
        model, preprocessing, source = new_model(
            settings.arch,
            num_classes,
            settings.image_size,
            settings.hidden_units,
            settings.weights,
            side,
            resources.progress,
        )
    settings = resolve_settings(
        settings, preprocessing.crop, source is not None, bool(model.feature_layers), photographs
    )
    if source is None and settings.recipe.batch_size < 2 * resources.processes.size:
        raise InputError(
            f"--batch_size {settings.batch_size} is too small from scratch: in each process a step "
            "needs two photographs, whose statistics BatchNorm learns"
        )
    return Run(settings, model.to(device), preprocessing, source, epoch=-1 if source else 0)


def resume_run(
    folder: RunFolder, typed: dict[str, Any], device: torch.device
) -> tuple[Run, NetworkInfo]:
    """Load the run that --resume continues, and what its checkpoint knows.

    Raises InputError if a file is damaged, or other settings are asked for.
    """
    _, info = load_checkpoint(folder.checkpoint)
    run = Run.load(folder.resume_file)
    if not run.owns(info):
        raise InputError(
            f"{folder.checkpoint} is not the network of the run in {folder.resume_file}; "
            "without --resume a new run starts"
        )
    run.has_ended |= run.is_finished
    run.settings = resume_settings(typed, run.settings)
    return run.to(device), info
