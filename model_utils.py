"""What applications import: build, load, save, ask and export a network.

    model, info = load_checkpoint("checkpoint.pth")
    for images in data_utils.load_batches(paths, info.preprocessing): ...

Every network here is a `Classifier`: uint8 pixels in, logits out.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from formats.schema import Prediction
from network.architectures import find_architecture, list_architectures
from network.checkpoint import (
    halve,
    load_checkpoint,
    new_model,
    rename_categories,
    save_checkpoint,
)
from network.classifier import Classifier
from network.export import as_file, halve_weights, to_onnx
from network.inference import compute_logits, for_inference, infer
from network.ood import ood_score
from running.console import Progress, no_progress
from running.errors import FlowersError
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


def export(
    path: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    float32: bool = False,
    progress: Progress = no_progress,
) -> None:
    """Write a checkpoint's network as one ONNX file; see `export_bytes`.

    Raises InputError if the file cannot be written there, RunError if the disk is full.
    """
    content = export_bytes(checkpoint, float32, progress)
    with write_alone(path) as file:
        file.write(content)


def export_bytes(
    checkpoint: str | os.PathLike[str], float32: bool = False, progress: Progress = no_progress
) -> bytes:
    """Turn a checkpoint's network into the content of an ONNX file, which computes in float32.

    The weights are stored in half precision, or with `float32` in a file twice as large. Raises
    InputError if the checkpoint cannot be used, or its network cannot be exported.
    """

    def take_steps() -> Iterator[tuple[bytes]]:
        loaded = load_checkpoint(checkpoint, precision=torch.float32)
        yield (b"",)
        network = to_onnx(*loaded)
        yield (as_file(network if float32 else halve_weights(network)),)

    *_, (content,) = progress(take_steps(), 2, "exporting", " steps")
    return content


def predict(model: Classifier, batches: Iterable[np.ndarray]) -> torch.Tensor:
    """Compute the probabilities of all photographs: float32 (N, C), rows sum to 1.

    `model` is from `load_checkpoint`, the batches from `data_utils.load_batches`.
    """
    return compute_logits(model, batches).softmax(1)


def predict_each(
    model: Classifier, items: Iterable[tuple[K, np.ndarray | FlowersError]], batch_size: int
) -> Iterator[tuple[K, Prediction | FlowersError]]:
    """Replace photographs, uint8 (crop, crop, 3), by predictions, in order; errors pass unchanged.

    Each item is a key, such as a path, with a photograph or an error. No more than some batches
    are in memory. `model` is from `load_checkpoint`.
    """
    chunks: deque[list[tuple[K, FlowersError | None]]] = deque()

    def read_batches() -> Iterator[np.ndarray]:
        rest = iter(items)
        while chunk := [*islice(rest, batch_size)]:
            images = [image for _, image in chunk if isinstance(image, np.ndarray)]
            chunks.append([(key, None if isinstance(x, np.ndarray) else x) for key, x in chunk])
            yield np.stack(images) if images else np.empty((0, 1, 1, 3), np.uint8)

    for logits in infer(model, model, read_batches()):
        logits = logits.cpu()
        ood_scores = ood_score(logits, model.class_means).tolist()
        predictions = map(Prediction, logits.softmax(1).numpy(), ood_scores)
        for key, error in chunks.popleft():
            yield key, next(predictions) if error is None else error
