"""A new network, and the one of a checkpoint: what the file holds is written and read here."""

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from formats.pth import describe_content, read_archive, state_of, write_archive
from formats.schema import NetworkInfo, check_preprocessing, check_types
from images.decode import Preprocessing
from network.architectures import find_architecture
from network.classifier import Classifier, chain, find_feature_layers
from network.inference import for_inference
from network.layers import fold_batch_norm
from network.weights import load_weights, read_weights
from running.console import Progress, no_progress
from running.errors import InputError, is_out_of_memory
from running.flags import IMAGE_SIZE

FORMAT_VERSION = 4  # of checkpoint.pth and last.pth

# Parameters of the largest classifier of ImageNet's 1000 classes, which a checkpoint leaves out.
HEAD_PARAMETERS = 4_200_000


def new_model(
    arch: str,
    num_classes: int,
    image_size: int | None = None,
    hidden_units: Sequence[int] = (),
    weights: str | None = None,
    side: int | None = None,
    progress: Progress = no_progress,
) -> tuple[Classifier, Preprocessing, str | None]:
    """Build a network for training, with a head for C categories.

    Args:
        arch: a name of `list_architectures`.
        num_classes: C, the number of categories.
        image_size: side of the network's input in pixels; default: the architecture's.
        hidden_units: width of each hidden layer of the head.
        weights: "none", or the path of a state dict or checkpoint; default: ImageNet weights
            where the architecture has them, else from scratch.
        side: short side of the photographs in pixels, which are not enlarged for a network that
            takes any size.

    Returns the network, its preprocessing, and the source of its weights (None: from scratch).
    Raises InputError if there is no such network, or the weights are not available or do not fit.
    """
    architecture = find_architecture(arch)
    preprocessing = architecture.preprocessing
    if image_size is None and side is not None and architecture.imagenet is None:
        image_size = max(min(side, preprocessing.crop), int(IMAGE_SIZE.lowest))
    if image_size is not None:
        resize = round(image_size * preprocessing.resize / preprocessing.crop)
        if side is not None and architecture.imagenet is None:
            resize = min(resize, max(side, image_size))  # nothing is enlarged to be cropped
        preprocessing = preprocessing._replace(resize=resize, crop=image_size)
    body, source = architecture.build(), None
    if weights not in (None, "none"):
        load_weights(body, read_weights(weights, arch), weights, arch)
        source = weights
    elif weights is None and architecture.imagenet:
        state, source = architecture.imagenet(progress)
        load_weights(body, state, source, arch)
    if source:
        fold_batch_norm(body)
    measured = _measure(body.eval(), preprocessing, arch, pretrained=bool(source))
    model = build_classifier(body, *measured, hidden_units, num_classes, preprocessing)
    return model, preprocessing, source


def _measure(
    body: nn.Module, preprocessing: Preprocessing, arch: str, pretrained: bool
) -> tuple[list[int], int]:
    """Find the layers whose outputs the head takes, and how many features these have."""
    side = preprocessing.crop
    try:
        with torch.inference_mode():
            ramp = torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side)
            feature_layers = find_feature_layers(body, ramp) if pretrained else []
            mean, std = preprocessing.mean, preprocessing.std
            headless = Classifier(body, nn.Identity(), mean, std, feature_layers)
            features = headless(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{arch} cannot work on {side} x {side} pixels; try a larger --image_size"
        ) from error
    return feature_layers, features.shape[1]


def build_classifier(
    body: nn.Module,
    feature_layers: Sequence[int],
    in_features: int,
    hidden_units: Sequence[int],
    num_classes: int,
    preprocessing: Preprocessing,
) -> Classifier:
    """Put a new head on a body; `feature_layers` as of `Classifier`."""
    layers: list[nn.Module] = []
    for units in hidden_units:
        layers += [nn.Linear(in_features, units), nn.ReLU(), nn.Dropout(0.2)]
        in_features = units
    last = nn.Linear(in_features, num_classes)
    head = nn.Sequential(*layers, last) if layers else last
    model = Classifier(body, head, preprocessing.mean, preprocessing.std, feature_layers)
    return model.to(memory_format=torch.channels_last)


def describe_head(model: Classifier) -> dict[str, Any]:
    """Return what a file keeps of the head beside its weights."""
    linears = [module for module in model.head.modules() if isinstance(module, nn.Linear)]
    return {
        "in_features": linears[0].in_features,
        "hidden_units": [linear.out_features for linear in linears[:-1]],
        "depths": [*model.feature_layers],  # layers of chain(body)
    }


def save_checkpoint(
    path: str | os.PathLike[str], model: Classifier, info: NetworkInfo, class_means: torch.Tensor
) -> None:
    """Write everything that prediction needs, as plain data and tensors.

    `class_means` are those of `LogitSums`, float32 (C, C). Raises RunError if the file cannot be
    written.
    """
    entries = info.entries()
    kept = entries["calibration"]
    kept["quantiles"] = torch.from_numpy(kept["quantiles"])
    valid = kept.pop("valid")
    if valid:
        valid["labels"] = valid["labels"].astype("int64")  # as tensors of indices are kept
        kept["valid"] = {key: torch.from_numpy(value) for key, value in valid.items()}
    kept["patterns"] = class_means.cpu()
    entries |= {"format_version": FORMAT_VERSION, "head": describe_head(model)}
    write_archive(path, {**entries, "state_dict": state_of(model)})


def load_checkpoint(
    path: str | os.PathLike[str],
    device: torch.device = torch.device("cpu"),
    precision: torch.dtype | None = None,
) -> tuple[Classifier, NetworkInfo]:
    """Rebuild a network from its file alone; return it with what the file knows.

    The network comes from `for_inference`, in `precision`. Raises InputError if the file is
    missing, damaged, or no checkpoint of this project.
    """
    entries = read_entries(path, "calibration")
    try:
        info = NetworkInfo.from_entries(entries)
        num_classes = len(info.categories)
        class_means = as_float(entries["calibration"]["patterns"], (num_classes, num_classes))
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
    """Copy a checkpoint with its weights, but no vectors such as biases, in half precision."""
    checkpoint = read_archive(source)
    for part in (checkpoint["state_dict"], checkpoint["calibration"]):
        for key, value in part.items():
            if torch.is_tensor(value) and value.dim() > 1:
                part[key] = value.half()
    write_archive(target, checkpoint)


def read_entries(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read a checkpoint or a resume file of this version; `kind` is an entry of one of them.

    Raises InputError if the file is missing, damaged or something else.
    """
    entries = read_archive(path)
    if type(entries) is not dict or type(entries.get("format_version")) is not int:
        raise InputError(describe_content(path, entries))
    if entries["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path} was written by another version of this project "
            f"(format {entries['format_version']}, here {FORMAT_VERSION})"
        )
    if kind not in entries:
        raise InputError(
            f"{path} is a file of train.py, but the other one: checkpoint.pth names "
            "flowers, and last.pth is what --resume continues from"
        )
    return entries


def rebuild(
    entries: dict[str, Any], num_classes: int, state: dict[str, torch.Tensor]
) -> tuple[Classifier, Preprocessing]:
    """Build the network of a file's entries `arch`, `head` and `preprocessing` and a state dict.

    It is not built before the file has shown that it holds the parameters for it. Raises
    InputError, ValueError, TypeError, KeyError or RuntimeError if the parts do not fit together.
    """
    check_types(entries, {"arch": str, "head": dict, "preprocessing": dict})
    check_types(entries["head"], {"in_features": int, "hidden_units": list, "depths": list})
    if len(entries["arch"]) > 100:
        raise ValueError("impossible name")
    architecture = find_architecture(entries["arch"])
    head = entries["head"]
    in_features, hidden_units, feature_layers = map(
        head.get, ("in_features", "hidden_units", "depths")
    )
    if any(type(n) is not int for n in hidden_units + feature_layers):
        raise ValueError("impossible layers")
    preprocessing = check_preprocessing(entries["preprocessing"])
    widths = [in_features, *hidden_units, num_classes]
    available = sum(value.numel() for value in state.values() if torch.is_tensor(value))
    if (
        min(widths) < 1
        or sum(map(math.prod, pairwise(widths))) > available
        or architecture.num_parameters > 2 * available + HEAD_PARAMETERS
    ):
        raise ValueError("more layers than parameters")  # they would take memory for nothing
    body = architecture.build()
    model = build_classifier(
        body, feature_layers, in_features, hidden_units, num_classes, preprocessing
    )
    if model.state_dict().keys() != state.keys():
        fold_batch_norm(model.body)
    if feature_layers != sorted(set(feature_layers) & {*range(len(chain(model.body)))}):
        raise ValueError("layers that are not there")
    ours = model.state_dict()
    if ours.keys() != state.keys():
        raise ValueError("other layers")
    for key, value in ours.items():
        if value.is_floating_point():
            ours[key] = as_float(state[key], value.shape)
        elif state[key].shape == value.shape and state[key].dtype == value.dtype:
            ours[key] = state[key]
        else:
            raise ValueError("impossible numbers")
    model.load_state_dict(ours)
    return model.eval(), preprocessing


def as_float(values: Any, shape: Sequence[int]) -> torch.Tensor:
    """Return finite numbers of this shape as float32; raise ValueError for anything else."""
    if (
        not torch.is_tensor(values)
        or values.shape != tuple(shape)
        or not values.is_floating_point()
        or not values.isfinite().all()
    ):
        raise ValueError("impossible numbers")
    return values.float()


def check_forward(model: Classifier, crop: int) -> None:
    """Run a network once: one whose head takes another number of features raises RuntimeError."""
    with torch.inference_mode():
        model(torch.zeros(1, crop, crop, 3, dtype=torch.uint8, device=model.mean.device))
