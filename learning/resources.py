"""What work on many photographs may use: threads, memory, disk, a bar, and other processes.

torchrun starts those, and they share out a run.
"""

import atexit
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn

from running.console import Progress, no_progress
from running.environment import Launch
from running.errors import InputError
from running.files import reserve

K = TypeVar("K")
S = TypeVar("S", bound=Any)

# Bytes of activations, features or photographs that may be kept in memory, by all processes
# together; more goes to files, of at most half the free disk.
CACHE_MEMORY = 2 * 2**30


class ProcessGroup:
    """The processes among which torchrun shares out a run; without it, this one alone.

    Photographs are dealt out like cards: of n processes, rank r gets the photographs r, r + n,
    r + 2 n and so on. What exchanges something has to be called by all of them.
    """

    BLOCK = 4096  # rows that a process sends at a time, so that little memory is taken twice

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None):
        self.rank, self.size = rank, size
        self.group = group  # what exchanges weights and gradients; None: what exchanges the rest
        self.is_rank_zero = rank == 0  # the one that prints and writes

    def shard(self, items: S) -> S:
        """Take this process's part of a sequence, an array or a tensor."""
        return items[self.rank :: self.size]

    def require_shard(self, batch_size: int) -> None:
        """Raise InputError if a process would have nothing to do in a training step."""
        if batch_size < self.size:
            raise InputError(
                f"--batch_size {batch_size} cannot be shared out among {self.size} processes"
            )

    def collect(
        self,
        rows: torch.Tensor,
        count: int,
        everywhere: bool = True,
        allocate: Callable[..., torch.Tensor] = torch.empty,
    ) -> torch.Tensor:
        """Put everybody's rows, float32 on the CPU, back into their order: (count, ...).

        Unless that is wanted `everywhere`, only rank 0 gets them, in memory from `allocate`.
        """
        if self.size == 1:
            return rows
        wanted = everywhere or self.is_rank_zero
        whole = allocate(count if wanted else 0, *rows.shape[1:])
        for start in range(0, -(-count // self.size), self.BLOCK):
            blocks = self._gather(rows[start : start + self.BLOCK])
            for rank, block in enumerate(blocks if wanted else ()):
                whole[start * self.size + rank :: self.size][: len(block)] = block
        return whole

    def gather_objects(self, part: list[K]) -> list[K]:
        """Put everybody's objects, none of them None, back into their order, everywhere."""
        rounds = zip_longest(*self._gather(part))
        return [each for dealt in rounds for each in dealt if each is not None]

    def _gather(self, part: S) -> list[S]:
        parts = [part] * self.size
        if self.size > 1:
            distributed.all_gather_object(parts, part)
        return parts

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """Add up everybody's values."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def broadcast_weights(self, *modules: nn.Module) -> None:
        """Give every process the weights and statistics of rank 0."""
        if self.size > 1:
            self.wait()  # as long as it takes, which NCCL would not
            for module in modules:
                for value in module.state_dict().values():
                    distributed.broadcast(value, 0, self.group)

    def wait(self) -> None:
        """Wait for the others."""
        self.add(torch.zeros(()))

    @contextmanager
    def rank_zero_first(self) -> Iterator[None]:
        """Run the block on rank 0, then on the others."""
        if not self.is_rank_zero:
            self.wait()
        yield
        if self.is_rank_zero:
            self.wait()

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every process's gradients by the mean of everybody's.

        DistributedDataParallel would do this while the backward pass still runs, but keeps the
        group's threads alive to the end, where they now and then abort a finished process.
        """
        if self.size == 1:
            return
        gradients = [each.grad for each in parameters if each.grad is not None]
        mean = torch.cat([each.flatten() for each in gradients]) / self.size
        distributed.all_reduce(mean, group=self.group)
        for gradient, part in zip(gradients, mean.split([each.numel() for each in gradients])):
            gradient.copy_(part.view_as(gradient))


SINGLE_PROCESS = ProcessGroup()


def join_process_group(device: torch.device, launch: Launch) -> ProcessGroup:
    """Join the other processes of torchrun; raise InputError if the devices have no way to."""
    if not launch.is_distributed:
        return SINGLE_PROCESS
    is_gpu = device.type != "cpu"
    if is_gpu and not (device.type == "cuda" and distributed.is_nccl_available()):
        raise InputError("several processes with --gpu need NVIDIA's or AMD's GPUs and NCCL")
    # Gloo notices at once when a process dies; a living one may take hours for its photographs.
    distributed.init_process_group("gloo", timeout=timedelta(days=7))
    # NCCL does not notice, and is only used while all of them learn.
    group = distributed.new_group(backend="nccl", timeout=timedelta(hours=1)) if is_gpu else None
    atexit.register(distributed.destroy_process_group)  # or its threads may abort Python's end
    return ProcessGroup(distributed.get_rank(), distributed.get_world_size(), group)


@dataclass(frozen=True)
class Resources:
    """What work on many photographs may use, and how it tells its user something."""

    workers: int = 1  # threads that decode
    folder: str | os.PathLike[str] = "."  # where files may lie
    processes: ProcessGroup = SINGLE_PROCESS
    progress: Progress = no_progress
    warn: Callable[[str], None] = lambda text: None
    total_memory: int = field(default_factory=lambda: CACHE_MEMORY)

    @property
    def memory(self) -> int:
        """Bytes that this process may keep in memory."""
        return self.total_memory // self.processes.size

    def fits_on_disk(self, size: int) -> bool:
        """Return whether every process may write this many bytes."""
        return 2 * size * self.processes.size <= shutil.disk_usage(self.folder).free

    def allocate(self, *shape: int) -> torch.Tensor:
        """Return memory for float32 numbers, or where it is short a file without a name."""
        size = 4 * math.prod(shape)
        if size > self.memory and 2 * size <= shutil.disk_usage(self.folder).free:
            with suppress(OSError), tempfile.TemporaryFile(dir=self.folder) as file:
                reserve(file, size)
                return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))
        return torch.empty(shape)
