"""learning/resume.py"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from learning.evaluation import Evaluation
from model_utils import _read, load_checkpoint, versions
from network.archive import _state, _write
from network.build import _describe, _rebuild, _to_float, _try
from network.classifier import Classifier
from photographs.images import Preprocessing
from prediction.info import check_types
from prediction.onnx_runtime import FORMAT_VERSION
from running.errors import InputError, is_out_of_memory
from running.settings import HIGHEST_LR, LIMITS


class Earlier(NamedTuple):
    """What the resume file tells about a run, beside the network."""

    settings: dict[str, Any]
    source: str | None  # of the weights; None: from scratch
    photographs: str  # see `fingerprint`
    history: list[dict]
    best: "Evaluation"

    def entries(self) -> dict[str, Any]:
        """Turn it into plain data and tensors."""
        import torch

        best = self.best._replace(logits=torch.from_numpy(self.best.logits))
        return {**self._asdict(), "best": best._asdict()}


def read_resume_file(path: Path, checkpoint: Path, num_classes: int):
    """Read where a run stands; return its `Training`, `Preprocessing` and `Earlier`.

    Raises:
        InputError: the file is damaged, or the checkpoint beside it is not this run's.
    """
    import torch

    start, arch, preprocessing, run = load_training(path, num_classes)
    try:
        earlier = Earlier(**run)
        check_types = check_types
        check_types(
            run,
            {
                "settings": dict,
                "source": (str, type(None)),
                "photographs": str,
                "history": list,
                "best": dict,
            },
        )
        check_types(
            earlier.settings,
            {
                "arch": str,
                "weights": (str, type(None)),
                "hidden_units": list,
                "tune": str,
                "epochs": int,
                "lr": float,
                "batch_size": int,
                "image_size": int,
                "seed": int,
            },
        )
        for row in earlier.history:
            check_types(
                row,
                dict(
                    epoch=int,
                    train_loss=float,
                    valid_loss=float,
                    valid_accuracy=float,
                    seconds=float,
                    saved=int,
                ),
            )
        check_types(run["best"], dict.fromkeys(("loss", "calibrated_loss", "accuracy"), float))
        best = Evaluation(**run["best"])
        if not (
            torch.is_tensor(best.logits)
            and best.logits.dtype == torch.float32
            and best.logits.dim() == 2
            and best.logits.shape[1] == num_classes
            and best.logits.isfinite().all()
            and earlier.history[-1]["epoch"] == start.epoch
            and any(row["saved"] for row in earlier.history)
            and earlier.settings["arch"] == arch
            and all(
                low <= earlier.settings[name] <= high
                for name, (low, high) in LIMITS.items()
                if name in earlier.settings
            )
            and 0 < earlier.settings["lr"] <= HIGHEST_LR
        ):
            raise ValueError("impossible entries")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    info = load_checkpoint(checkpoint)[1]
    figures = info["figures"]
    # A run may have been killed when it had saved a better network, but not yet the rest.
    if (
        (info["arch"], info["seed"]) != (arch, earlier.settings["seed"])
        or figures["epoch"] != start.epoch + 1
        and figures["valid_loss"] != best.loss
    ):
        raise InputError(
            f"{checkpoint} is not the best network of the run in {path}; without "
            "--resume a new run starts"
        )
    return start, preprocessing, earlier._replace(best=best._replace(logits=best.logits.numpy()))


class Training(NamedTuple):
    """Where the learning stands after an epoch."""

    epoch: int  # 0: the head is solved
    model: Classifier
    averaged: Classifier  # the moving average of its weights; the model itself, where there is none
    optimizer: dict[int, dict[str, torch.Tensor]]  # what it keeps of each parameter
    random: torch.Tensor  # the state of PyTorch's generator: uint8


def save_training(
    path: str | os.PathLike,
    training: Training,
    arch: str,
    preprocessing: Preprocessing,
    run: dict[str, Any],
) -> None:
    """Write all that a run needs to go on as if nothing had happened.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    model, averaged = training.model, training.averaged
    entries = {
        "format_version": FORMAT_VERSION,
        "run": run,
        **_describe(model, arch, preprocessing),
        "epoch": training.epoch,
        "model": _state(model),
        "averaged": None if averaged is model else _state(averaged),
        "optimizer": {
            i: {key: value.cpu() for key, value in kept.items()}
            for i, kept in training.optimizer.items()
        },
        "random": training.random,
        "versions": versions(),
    }
    _write(path, entries)


def load_training(
    path: str | os.PathLike,
    num_classes: int,
) -> tuple[Training, str, Preprocessing, dict[str, Any]]:
    """Read what `save_training` wrote: the learning, the architecture, the preprocessing, and
    the run's entries.

    What the optimizer keeps fits its parameters or not; `restore_optimizer` looks at that.

    Raises:
        InputError: the file is missing, damaged, of another number of categories or no such
            file.
    """
    entries = _read(path, "run")
    try:
        check_types(
            entries,
            {
                "epoch": int,
                "run": dict,
                "optimizer": dict,
                "model": dict,
                "averaged": (dict, type(None)),
            },
        )
        state, averaged_state, random = (entries[key] for key in ("model", "averaged", "random"))
        wanted = torch.get_rng_state()
        if random.dtype != wanted.dtype or random.shape != wanted.shape or entries["epoch"] < 0:
            raise ValueError("impossible state")
        model, preprocessing = _rebuild(entries, num_classes, state)
        averaged = (
            model if averaged_state is None else _rebuild(entries, num_classes, averaged_state)[0]
        )
        _try(model, preprocessing.crop)
    except (AttributeError, InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path} is damaged, or of another set of categories") from error
    training = Training(entries["epoch"], model, averaged, entries["optimizer"], random)
    return training, entries["arch"], preprocessing, entries["run"]


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
                _to_float(values, () if key == "step" else parameter.shape)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError("the optimizer's state in last.pth is damaged") from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
