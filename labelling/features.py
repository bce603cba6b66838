"""The features of a heap of photographs, each computed once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from images.decode import typical_side
from learning.activations import Activations
from learning.resources import Resources
from learning.run import new_run
from learning.views import Photographs
from network.devices import find_device
from network.inference import for_inference
from running.errors import InputError
from running.settings import Settings


def measure(
    paths: Sequence[str],
    settings: Settings,
    gpu: bool,
    digests: Mapping[str, bytes] | None,
    resources: Resources,
    kept: Path | None = None,
) -> torch.Tensor:
    """Compute the features (N, F) of photographs with the network that `settings` choose.

    With their `digests`, those in the file `kept` are not computed again.
    """
    run = new_run(settings, 2, typical_side(paths), find_device(gpu), resources)
    if run.weights_source is None:
        raise InputError("the network has no pretrained weights, without which nothing is grouped")
    if kept and digests is not None:
        run.open_features(kept)
        run.features.take(digests, resources, lambda text: None)
    views = Photographs([*paths], run.preprocessing, 0, resources, 0, True)
    activations = Activations(for_inference(run.model), 0, views, 1, "labelling")
    features = run.features.of(activations, "looking")
    activations.discard()
    return features
