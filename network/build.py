"""network/build.py"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from network.architectures import find_architecture
from network.classifier import Classifier, chain, fold_batch_norm
from photographs.images import Preprocessing
from prediction.info import check_preprocessing, check_types


def _classifier(
    body: nn.Module,
    depths: Sequence[int],
    in_features: int,
    hidden_units: Sequence[int],
    num_classes: int,
    preprocessing: Preprocessing,
) -> Classifier:
    layers: list[nn.Module] = []
    for units in hidden_units:
        layers += [nn.Linear(in_features, units), nn.ReLU(), nn.Dropout(0.2)]
        in_features = units
    last = nn.Linear(in_features, num_classes)
    head = nn.Sequential(*layers, last) if layers else last
    model = Classifier(body, head, preprocessing.mean, preprocessing.std, depths)
    return model.to(memory_format=torch.channels_last)


# Numbers in the largest classifier of ImageNet's 1000 classes, which a checkpoint leaves out.
HEAD_NUMBERS = 4_200_000


def _describe(model: Classifier, arch: str, preprocessing: Preprocessing) -> dict[str, Any]:
    """Say all that it takes to build a network again, but for its weights and categories."""
    linears = [module for module in model.head.modules() if isinstance(module, nn.Linear)]
    return {
        "arch": arch,
        "head": {
            "in_features": linears[0].in_features,
            "hidden_units": [linear.out_features for linear in linears[:-1]],
            "depths": [*model.depths],
        },  # layers of chain(body)
        "preprocessing": {
            field: [*value] if isinstance(value, tuple) else value
            for field, value in preprocessing._asdict().items()
        },
    }


def _to_float(values: Any, shape: Sequence[int]) -> torch.Tensor:
    """Return finite numbers of this shape as float32."""
    if (
        not torch.is_tensor(values)
        or values.shape != tuple(shape)
        or not values.is_floating_point()
        or not values.isfinite().all()
    ):
        raise ValueError("impossible numbers")
    return values.float()


def _rebuild(
    entries: dict[str, Any], num_classes: int, state: dict[str, torch.Tensor]
) -> tuple[Classifier, Preprocessing]:
    """Build the network that entries of `_describe` stand for.

    It is not built before the file has shown that it holds the numbers for it.

    Raises:
        InputError: there is no such network.
        ValueError, TypeError, KeyError, RuntimeError: the parts do not fit together.
    """
    check_types(entries, {"arch": str, "head": dict, "preprocessing": dict})
    if len(entries["arch"]) > 100:
        raise ValueError("impossible name")
    spec = find_architecture(entries["arch"])
    head = entries["head"]
    check_types(head, {"in_features": int, "hidden_units": list, "depths": list})
    if any(type(n) is not int for n in head["hidden_units"] + head["depths"]):
        raise ValueError("impossible layers")
    preprocessing = check_preprocessing(entries["preprocessing"])
    widths = [head["in_features"], *head["hidden_units"], num_classes]
    numbers = sum(value.numel() for value in state.values() if torch.is_tensor(value))
    if (
        min(widths) < 1
        or sum(map(math.prod, zip(widths, widths[1:]))) > numbers
        or spec.numbers > 2 * numbers + HEAD_NUMBERS
    ):
        raise ValueError("more layers than numbers")  # they would take memory for nothing
    model = _classifier(
        spec.build(),
        head["depths"],
        head["in_features"],
        head["hidden_units"],
        num_classes,
        preprocessing,
    )
    if model.state_dict().keys() != state.keys():
        fold_batch_norm(model.body)
    ours, layers = model.state_dict(), len(chain(model.body))
    if ours.keys() != state.keys() or head["depths"] != sorted(
        set(head["depths"]) & {*range(layers)}
    ):
        raise ValueError("other layers")
    for key, value in ours.items():
        if value.is_floating_point():
            ours[key] = _to_float(state[key], value.shape)
        elif state[key].shape == value.shape and state[key].dtype == value.dtype:
            ours[key] = state[key]
        else:
            raise ValueError("impossible numbers")
    model.load_state_dict(ours)
    return model.eval(), preprocessing


def _try(model: Classifier, crop: int) -> None:
    """Let a network see a picture: where the head takes another number of features, it raises."""
    with torch.inference_mode():
        model(torch.zeros(1, crop, crop, 3, dtype=torch.uint8, device=model.mean.device))
