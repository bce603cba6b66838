"""Networks: building, pretrained weights, features, the solved head, checkpoints, prediction.

Every network here is a `Classifier`: uint8 pixels in, logits out.
"""

import os
import platform
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import PIL
import torch
from torch import nn

from network.architectures import find_architecture
from network.archive import _state, _write, read_archive
from network.build import _classifier, _describe, _rebuild, _to_float, _try
from network.classifier import Classifier, find_depths, fold_batch_norm
from network.familiarity import familiarity
from network.inference import compute_logits, for_inference, infer
from network.weights import load_weights, read_weights
from photographs.images import Preprocessing
from prediction.info import SMALLEST_CROP, Calibration, Prediction, check_history, check_types
from running.errors import FlowersError, InputError, is_out_of_memory

K = TypeVar("K")

FORMAT_VERSION = 4


# --- Networks -------------------------------------------------------------------------


def new_model(
    arch: str,
    num_classes: int,
    image_size: int | None = None,
    hidden_units: Sequence[int] = (),
    weights: str | None = None,
    side: int | None = None,
) -> tuple[Classifier, Preprocessing, str | None]:
    """Build a network for training; return it, its preprocessing and its weights' source.

    Args:
        arch: a name of `list_architectures`.
        num_classes: C, the number of categories.
        image_size: side of the network's input in pixels; default: the architecture's.
        hidden_units: width of each hidden layer of the head.
        weights: "none" to start from scratch, or the path of a state dict or checkpoint;
            default: ImageNet weights where the architecture has them, else from scratch.
        side: short side of the photographs in pixels; networks of no fixed size see no more.

    Returns:
        The network, its preprocessing, and where its weights are from (None: from scratch).

    Raises:
        InputError: there is no such network, or the weights cannot be had or do not fit.
    """
    spec = find_architecture(arch)
    preprocessing = spec.preprocessing
    if image_size is None and side is not None and spec.imagenet is None:
        image_size = max(min(side, preprocessing.crop), SMALLEST_CROP)
    if image_size is not None:
        resize = round(image_size * preprocessing.resize / preprocessing.crop)
        if side is not None and spec.imagenet is None:  # nothing is enlarged just to be cropped
            resize = min(resize, max(side, image_size))
        preprocessing = preprocessing._replace(resize=resize, crop=image_size)
    body, source = spec.build(), None
    if weights not in (None, "none"):
        load_weights(body, read_weights(weights, arch), weights)
        source = weights
    elif weights is None and spec.imagenet:
        state, source = spec.imagenet()
        load_weights(body, state, source)
    if source:
        fold_batch_norm(body)
    side = preprocessing.crop
    body.eval()  # one picture has no statistics for BatchNorm
    try:
        with torch.inference_mode():
            ramp = torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side)
            depths = find_depths(body, ramp) if source else []
            headless = Classifier(body, nn.Identity(), *preprocessing[2:4], depths)
            in_features = headless(torch.zeros(1, side, side, 3, dtype=torch.uint8)).shape[1]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{arch} cannot work on {side} x {side} pixels; try a larger --image_size"
        ) from error
    model = _classifier(body, depths, in_features, hidden_units, num_classes, preprocessing)
    return model, preprocessing, source


# --- Learning and judging -------------------------------------------------------------


def predict(model: Classifier, batches: Iterable[np.ndarray]) -> torch.Tensor:
    """Compute the probabilities of all photographs: float32 (N, C), rows sum to 1."""
    return compute_logits(model, batches).softmax(1)


def predict_each(
    model: Classifier,
    patterns: torch.Tensor,
    items: Iterable[tuple[K, np.ndarray | FlowersError]],
    batch_size: int,
) -> Iterator[tuple[K, Prediction | FlowersError]]:
    """Put predictions in the place of photographs (crop, crop, 3), one after the other.

    Each comes with something that tells whose it is; an error in the place of a photograph
    stays. The order is kept, and no more than some batches are in memory.
    """
    items = iter(items)
    chunks: deque[list] = deque()

    def batches() -> Iterator[np.ndarray]:
        while chunk := [*islice(items, batch_size)]:
            images = [image for _, image in chunk if isinstance(image, np.ndarray)]
            chunks.append(
                [(key, None if isinstance(image, np.ndarray) else image) for key, image in chunk]
            )
            yield np.stack(images) if images else np.empty((0, 1, 1, 3), np.uint8)

    for logits in infer(model, model, batches()):
        logits = logits.cpu()
        rows = map(Prediction, logits.softmax(1).numpy(), familiarity(logits, patterns).tolist())
        for key, error in chunks.popleft():
            yield key, next(rows) if error is None else error


# --- The head -------------------------------------------------------------------------


# --- Files that nobody vouches for -----------------------------------------------------


# --- Checkpoints ----------------------------------------------------------------------


def save_checkpoint(
    path: str | os.PathLike,
    model: Classifier,
    arch: str,
    preprocessing: Preprocessing,
    categories: list[str],
    names: list[str],
    calibration: Calibration,
    figures: dict[str, float],
    seed: int,
    command: str,
) -> None:
    """Write everything that prediction needs, as plain data.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    checkpoint = {
        "format_version": FORMAT_VERSION,
        **_describe(model, arch, preprocessing),
        "state_dict": _state(model),
        "categories": categories,  # in the order of the network's outputs
        "names": names,  # parallel to the categories
        "calibration": calibration._asdict(),
        "figures": figures,
        "seed": seed,
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    _write(path, checkpoint)


def halve(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy a checkpoint with the weights of its convolutions and head in half precision.

    Vectors, such as biases and what BatchNorm knows, stay as they are.
    """
    checkpoint = read_archive(source)
    for part in (checkpoint["state_dict"], checkpoint["calibration"]):
        part.update(
            {
                key: value.half()
                for key, value in part.items()
                if torch.is_tensor(value) and value.dim() > 1
            }
        )
    _write(target, checkpoint)


def versions() -> dict[str, str]:
    """Say which versions of Python and of the packages are at work."""
    # torch.__version__ is a subclass of str, which is no plain data.
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def _read(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """Read a checkpoint or a run's state of this version.

    Raises:
        InputError: the file is missing, damaged or something else.
    """
    entries = read_archive(path)
    if type(entries) is not dict or type(entries.get("format_version")) is not int:
        raise InputError(f"{path} is not a checkpoint of train.py")
    if entries["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path} was written by another version of this project "
            f"(format {entries['format_version']}, here {FORMAT_VERSION})"
        )
    if kind not in entries:
        raise InputError(
            f"{path} is a file of train.py, but the other one: checkpoint.pth names "
            "flowers, and last.pth is what --resume goes on from"
        )
    return entries


def load_checkpoint(
    path: str | os.PathLike,
    device: torch.device = torch.device("cpu"),
    precision: torch.dtype | None = None,
) -> tuple[Classifier, dict[str, Any]]:
    """Rebuild a network from its file alone; return it with the checkpoint's other entries.

    The network comes from `for_inference`, in `precision`; the entries `preprocessing` and
    `calibration` are a `Preprocessing` and a `Calibration`.

    Raises:
        InputError: the file is missing, damaged, or no checkpoint of this project.
    """
    checkpoint = _read(path, "calibration")
    try:
        check_history(checkpoint)
        categories = checkpoint["categories"]
        calibration = Calibration(**checkpoint["calibration"])
        check_types(calibration._asdict(), {"temperature": float})
        patterns, quantiles = (
            _to_float(values, shape)
            for values, shape in (
                (calibration.patterns, (len(categories),) * 2),
                (calibration.quantiles, (1001,)),
            )
        )
        if calibration.temperature <= 0 or (quantiles.diff() < 0).any():
            raise ValueError("impossible calibration")
        model, preprocessing = _rebuild(checkpoint, len(categories), checkpoint.pop("state_dict"))
        model.temperature = calibration.temperature
        model = for_inference(model.to(device), precision)
        _try(model, preprocessing.crop)
    except InputError as error:
        raise InputError(f"{path} holds a network that cannot be rebuilt: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    checkpoint.update(
        preprocessing=preprocessing,
        calibration=calibration._replace(patterns=patterns, quantiles=quantiles),
    )
    return model, checkpoint


# --- Export ---------------------------------------------------------------------------


# --- Runs that go on ------------------------------------------------------------------
