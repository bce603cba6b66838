"""The networks that --arch names: our own and torchvision's."""

import difflib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from images.decode import Preprocessing
from network.layers import basic_cnn, efficientnet_lite
from network.weights import State, download_weights, lite_weights, read_weights
from running.console import Progress
from running.errors import InputError


class Architecture(NamedTuple):
    """A network that --arch names."""

    build: Callable[[], nn.Module]  # the layers before the head, not pretrained
    preprocessing: Preprocessing
    # Returns its ImageNet weights and their source
    imagenet: Callable[[Progress], tuple[State, str]] | None
    # With ImageNet's classifier; 0 where they are few
    num_parameters: int = 0


def _lite(number: int, width: float, depth: float, side: int) -> Architecture:
    # Pictures are often kept at a short side of 250 pixels, or 500, which JPEG halves while
    # decoding: for Lite0 neither needs resizing. EfficientNet's authors crop 224 of 256.
    return Architecture(
        partial(efficientnet_lite, width, depth),
        Preprocessing(round(side * 250 / 224), side, (127.0,) * 3, (128.0,) * 3),
        lambda _: lite_weights(number),
    )


OWN_ARCHITECTURES = {
    "efficientnet_lite0": _lite(0, 1.0, 1.0, 224),
    "efficientnet_lite1": _lite(1, 1.0, 1.1, 240),
    "efficientnet_lite2": _lite(2, 1.1, 1.2, 260),
    "cnn": Architecture(basic_cnn, Preprocessing(71, 64, (127.5,) * 3, (127.5,) * 3), None),
}

# Beginnings of torchvision's names of networks that cannot be used here, and why.
REFUSED = {
    "vit": "is a vision transformer; this project trains convolutional networks",
    "swin": "is a vision transformer; this project trains convolutional networks",
    "maxvit": "is a vision transformer; this project trains convolutional networks",
    "googlenet": "has auxiliary heads, which this project does not train",
    "inception": "has auxiliary heads, which this project does not train",
}


def list_architectures() -> list[str]:
    """List the names that `find_architecture` knows: our own networks first."""
    try:
        from torchvision import models
    except ImportError:
        return [*OWN_ARCHITECTURES]
    names = models.list_models(module=models)
    return [*OWN_ARCHITECTURES, *(name for name in names if not name.startswith(tuple(REFUSED)))]


def find_architecture(arch: str) -> Architecture:
    """Look up one of our own networks or a classification network of torchvision.

    Raises InputError if there is none of that name, or it cannot be used here.
    """
    if arch in OWN_ARCHITECTURES:
        return OWN_ARCHITECTURES[arch]
    for start, reason in REFUSED.items():
        if arch.lower().startswith(start):
            raise InputError(f"{arch} {reason}")
    try:
        from torchvision import models
    except ImportError:
        raise InputError(f"{arch} needs torchvision: pip install torchvision") from None
    names = list_architectures()
    if arch not in names:
        near = difflib.get_close_matches(arch.lower(), names, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"there is no network {arch or repr(arch)}; {guess}train.py --arch help lists them"
        )
    weights = models.get_model_weights(arch).DEFAULT
    preset = weights.transforms()
    resize, crop, interpolation = preset.resize_size[0], preset.crop_size[0], preset.interpolation
    mean, std = (tuple(255 * value for value in values) for values in (preset.mean, preset.std))

    def imagenet(progress: Progress) -> tuple[State, str]:
        path = download_weights(weights.url, progress)
        return read_weights(path, arch), f"torchvision's {weights}"

    return Architecture(
        lambda: _without_head(models.get_model(arch, weights=None)),
        Preprocessing(resize, crop, mean, std, interpolation.value),
        imagenet,
        weights.meta["num_params"],
    )


def _without_head(network: nn.Module) -> nn.Module:
    """Replace the classifier of ImageNet's 1000 classes by nothing: images to features."""
    modules = network.named_modules()
    name, last = [each for each in modules if [*each[1].parameters(recurse=False)]][-1]
    if isinstance(last, nn.Linear):
        network.set_submodule(name, nn.Identity())
    else:  # SqueezeNet scores classes by a convolution before pooling; the features are pooled
        network.set_submodule(name.split(".")[0], nn.AdaptiveAvgPool2d(1))
    return network
