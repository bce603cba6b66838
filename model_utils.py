"""The network as a thing to build, save, load and ask; for the scripts and for applications.

Every network here is a `Classifier`: uint8 pixels in, logits out.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from formats.pth import read_archive, state_of, write_archive
from formats.schema import CALIBRATION_SET, NetworkInfo, Prediction
from network.architectures import find_architecture, list_architectures
from network.checkpoint import (
    FORMAT_VERSION,
    as_float,
    check_forward,
    describe_head,
    new_model,
    read_entries,
    rebuild,
)
from network.classifier import Classifier
from network.export import as_file, halve_weights, to_onnx
from network.inference import compute_logits, for_inference, infer
from network.ood import ood_score
from running.console import Progress, no_progress
from running.errors import FlowersError, InputError, is_out_of_memory
from running.files import write_alone

__all__ = [
    "Classifier",
    "compute_logits",
    "export",
    "export_bytes",
    "find_architecture",
    "for_inference",
    "halve",
    "list_architectures",
    "load_checkpoint",
    "new_model",
    "predict",
    "predict_each",
    "rename_categories",
    "save_checkpoint",
]

K = TypeVar("K")


# --- Save and load --------------------------------------------------------------------


def save_checkpoint(
    path: str | os.PathLike[str], model: Classifier, info: NetworkInfo, class_means: torch.Tensor
) -> None:
    """Write everything that prediction needs, as plain data; `prototypes` as of `familiarity`.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    calibration = {
        "temperature": info.calibration.temperature,
        "patterns": class_means.cpu(),
        "quantiles": torch.from_numpy(info.calibration.quantiles),
    }
    if info.calibration.valid:
        valid = dict(zip(CALIBRATION_SET, info.calibration.valid))
        valid["labels"] = valid["labels"].astype(np.int64)  # as tensors of indices are kept
        calibration["valid"] = {key: torch.from_numpy(value) for key, value in valid.items()}
    write_archive(
        path,
        {
            "format_version": FORMAT_VERSION,
            **info.entries(),
            "head": describe_head(model),
            "state_dict": state_of(model),
            "calibration": calibration,
        },
    )


def load_checkpoint(
    path: str | os.PathLike[str],
    device: torch.device = torch.device("cpu"),
    precision: torch.dtype | None = None,
) -> tuple[Classifier, NetworkInfo]:
    """Rebuild a network from its file alone; return it with what the file knows.

    The network comes from `for_inference`, in `precision`.

    Raises:
        InputError: the file is missing, damaged, or no checkpoint of this project.
    """
    entries = read_entries(path, "calibration")
    try:
        calibration = {**entries["calibration"]}
        quantiles = calibration["quantiles"]
        calibration["quantiles"] = as_float(quantiles, quantiles.shape).numpy()
        if "valid" in calibration:
            valid = calibration["valid"]
            calibration["valid"] = {key: value.numpy() for key, value in valid.items()}
        info = NetworkInfo.from_entries({**entries, "calibration": calibration})
        num_classes = len(info.categories)
        class_means = as_float(calibration["patterns"], (num_classes, num_classes))
        model, _ = rebuild(entries, num_classes, entries.pop("state_dict"))
        model.temperature = info.calibration.temperature
        # On the CPU: for so few pictures a GPU's library would take seconds to make kernels.
        check_forward(model, info.preprocessing.crop)
        model = for_inference(model.to(device), precision)
        model.class_means = class_means
    except InputError as error:
        raise InputError(f"{path} holds a network that cannot be rebuilt: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    return model, info


def rename_categories(path: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Give the categories of a checkpoint other names, one for each, in their order."""
    write_archive(path, {**read_archive(path), "names": [*names]})


def halve(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a checkpoint with the weights of its convolutions and head in half precision.

    Vectors, such as biases and what BatchNorm knows, stay as they are.
    """
    checkpoint = read_archive(source)
    for part in (checkpoint["state_dict"], checkpoint["calibration"]):
        for key, value in part.items():
            if torch.is_tensor(value) and value.dim() > 1:
                part[key] = value.half()
    write_archive(target, checkpoint)


def export(
    path: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    float32: bool = False,
    progress: Progress = no_progress,
) -> None:
    """Write a checkpoint's network as one ONNX file; see `export_bytes`.

    Raises:
        InputError: see `export_bytes`; or the file cannot be written there.
        RunError: the disk is full, or the folder cannot be written to.
    """
    content = export_bytes(checkpoint, float32, progress)
    with write_alone(path) as file:
        file.write(content)


def export_bytes(
    checkpoint: str | os.PathLike[str],
    float32: bool = False,
    progress: Progress = no_progress,
) -> bytes:
    """Turn a checkpoint's network into the content of an ONNX file.

    It computes in float32; its weights are stored in half precision unless `float32` is true.

    Raises:
        InputError: the checkpoint cannot be used, or its network cannot be exported.
    """
    steps: tuple[Callable[[Any], Any], ...] = (
        lambda source: load_checkpoint(source, precision=torch.float32),
        lambda loaded: to_onnx(*loaded),
        lambda network: as_file(network if float32 else halve_weights(network)),
    )
    result: Any = checkpoint
    for (step,) in progress(((step,) for step in steps), len(steps), "exporting", " steps"):
        result = step(result)
    return result


# --- Ask ------------------------------------------------------------------------------


def predict(model: Classifier, batches: Iterable[np.ndarray]) -> torch.Tensor:
    """Compute the probabilities of all photographs: float32 (N, C), rows sum to 1.

    `model` is from `load_checkpoint`, the batches from `data_utils.load_batches`.
    """
    return compute_logits(model, batches).softmax(1)


def predict_each(
    model: Classifier, items: Iterable[tuple[K, np.ndarray | FlowersError]], batch_size: int
) -> Iterator[tuple[K, Prediction | FlowersError]]:
    """Put predictions in the place of photographs (crop, crop, 3), one after the other.

    Each comes with something that tells whose it is; an error in the place of a photograph
    stays. The order is kept, and no more than some batches are in memory. `model` is from
    `load_checkpoint`.
    """
    chunks: deque[list[tuple[K, FlowersError | None]]] = deque()

    def batch(chunk: list[tuple[K, np.ndarray | FlowersError]]) -> np.ndarray:
        images = [image for _, image in chunk if isinstance(image, np.ndarray)]
        chunks.append(
            [(key, None if isinstance(image, np.ndarray) else image) for key, image in chunk]
        )
        return np.stack(images) if images else np.empty((0, 1, 1, 3), np.uint8)

    def batches() -> Iterator[np.ndarray]:
        chunk = []
        for item in items:
            chunk.append(item)
            if len(chunk) == batch_size:
                yield batch(chunk)
                chunk = []
        if chunk:
            yield batch(chunk)

    for logits in infer(model, model, batches()):
        logits = logits.cpu()
        ood_scores = ood_score(logits, model.class_means).tolist()
        predictions = map(Prediction, logits.softmax(1).numpy(), ood_scores)
        for key, error in chunks.popleft():
            yield key, next(predictions) if error is None else error
