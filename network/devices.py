"""Where networks compute, and in which precision."""

import ctypes
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from images.decode import ACCELERATOR_BATCH, EVALUATION_BATCH
from network.classifier import Classifier, chain
from running.environment import Launch
from running.errors import InputError


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next batch instead of giving it back.

    Returning every layer's result to the system and faulting it in again takes about half of the
    time of training on a CPU. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt:
        mallopt(-8, 2)  # M_ARENA_MAX: what one thread frees, another can use
        mallopt(-4, 0)  # M_MMAP_MAX of malloc.h: no block gets a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what is freed stays, up to 2 GiB


def find_device(gpu: bool, launch: Launch = Launch()) -> torch.device:
    """Choose the accelerator if it is wanted and available, else the CPU.

    Raises InputError if torchrun has started more processes than there are accelerators.
    """
    if not (gpu and torch.accelerator.is_available()):
        return torch.device("cpu")
    device = torch.accelerator.current_accelerator()
    assert device is not None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if launch.local_world_size > count:
            raise InputError(
                f"torchrun has started more processes than the {count} accelerators of this machine"
            )
        device = torch.device("cuda", launch.local_rank)
        torch.cuda.set_device(device)
        torch.backends.cudnn.allow_tf32 = False  # what is called float32 has its 24 bits
    return device


def describe_device(device: torch.device, wanted: bool, processes: int) -> Iterator[str]:
    """Describe where the network runs; warn of a missing accelerator, hint at an idle one."""
    each = f"{processes} processes of " if processes > 1 else ""
    if device.type != "cpu":
        yield f"device: {each}one {device.type}" if each else f"device: {device}"
        return
    threads = torch.get_num_threads()
    yield f"device: cpu, {each}{threads} thread{'s' * (threads != 1)}"
    if wanted:
        yield "warning: --gpu, but PyTorch finds no accelerator here; the CPU does the work"
    elif torch.accelerator.is_available():
        yield f"hint: an accelerator ({torch.accelerator.current_accelerator()}) is idle; try --gpu"


def native_precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 for CPUs that multiply it natively, else float32."""
    # Older versions of PyTorch, such as 2.6, do not know what the CPU can do.
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type == "cpu" and (known.get("avx512_bf16") or known.get("amx_bf16")):
        return torch.bfloat16
    return torch.float32


def learning_precision(model: Classifier, num_frozen: int = 0) -> torch.dtype:
    """Choose what the layers that learn compute in; weights are float32.

    CPUs with bfloat16 are faster in it, except for depthwise convolutions, whose backward pass
    takes twice as long as in float32.
    """
    device = model.mean.device
    if device.type == "cuda":
        # False: where it is not only emulated.
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    layers = (module for layer in chain(model.body)[num_frozen:] for module in layer.modules())
    if any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in layers):
        return torch.float32
    return native_precision(device)


def to_device(batch: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a batch to a device; to a GPU asynchronously."""
    x = torch.as_tensor(batch)
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def move_if_it_fits(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a large tensor to a GPU if it takes no more than a third of the free memory there."""
    fits = device.type == "cuda" and 3 * x.nbytes <= torch.cuda.mem_get_info(device)[0]
    return x.to(device) if fits else x  # pinned, it would be in memory twice


def rows_at_once(device: torch.device) -> int:
    """Return how many photographs a device computes at once where nothing is learned."""
    return EVALUATION_BATCH if device.type == "cpu" else ACCELERATOR_BATCH
