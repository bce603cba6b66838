"""Networks that no longer learn: the fast form, features and logits of many photographs."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import numpy as np
import torch

from network.classifier import Classifier
from network.devices import native_precision, rows_at_once, to_device
from network.layers import fold_batch_norm
from running.threads import map_ahead


def for_inference(model: Classifier, precision: torch.dtype | None = None) -> Classifier:
    """Copy a network into its fastest form, which no longer learns.

    The body computes in `precision` (default: `native_precision`), pooling and head in float32.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norm(fast.body)
    fast.body.to(precision or native_precision(model.mean.device))
    return fast.to(memory_format=torch.channels_last)


def infer(
    model: Classifier,
    function: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[np.ndarray | torch.Tensor],
) -> Iterator[torch.Tensor]:
    """Apply `function`, a part of a network from `for_inference`, to batches.

    Kernels are chosen by shape and may round differently. Here they always get the same number of
    rows, the last ones padded, so that a photograph has the same result in any batch. Each thread
    of a CPU works on a batch of its own: if they shared one they would wait for each other after
    every layer.
    """
    device = model.mean.device
    rows = rows_at_once(device)

    def compute(batch: np.ndarray | torch.Tensor) -> torch.Tensor:
        x = to_device(batch, device)
        count = len(x)
        if count == 0:
            return torch.empty(0, 1)
        missing = -count % rows
        if missing:  # without expand(), behind which channels_last would be lost
            x = torch.cat([x] + [x[-1:]] * missing)
        with torch.no_grad():  # inference mode's tensors could not be learned from
            parts = [function(part) for part in x.split(rows)]
        return torch.cat(parts)[:count]

    if device.type != "cpu":
        yield from map(compute, batches)
        return
    threads = torch.get_num_threads()

    def compute_alone(batch: np.ndarray | torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(1)  # of this thread
        return compute(batch)

    try:
        yield from map_ahead(compute_alone, batches, threads, 2 * threads + 1)
    finally:
        torch.set_num_threads(threads)


def extract_features(
    model: Classifier,
    batches: Iterable[torch.Tensor],
    count: int,
    num_frozen: int = 0,
    allocate: Callable[..., torch.Tensor] = torch.empty,
) -> torch.Tensor:
    """Compute the input of the head for `count` photographs: float32 (N, F), on the CPU.

    `model` is from `for_inference`, `batches` hold the output of its frozen layers.
    """
    features: torch.Tensor | None = None
    done = 0
    for part in infer(model, lambda x: model.features(x, num_frozen), batches):
        if features is None:  # one block: for many photographs twice the memory is too much
            features = allocate(count, part.shape[1])
        features[done : done + len(part)] = part
        done += len(part)
    return cast(torch.Tensor, features)


def compute_logits(
    model: Classifier, batches: Iterable[np.ndarray | torch.Tensor], num_frozen: int = 0
) -> torch.Tensor:
    """Compute the logits of all photographs: float32 (N, C), on the CPU.

    `model` is from `for_inference` or `load_checkpoint`; `batches` hold the output of its frozen
    layers: photographs, where there are none.
    """
    logits = infer(model, lambda x: model(x, num_frozen), batches)
    return torch.cat([part.cpu() for part in logits])
