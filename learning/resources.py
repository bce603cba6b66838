"""What work on many photographs may use: threads, memory, disk, other processes, a bar."""

import math
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch

from learning.distributed import SINGLE_PROCESS, ProcessGroup
from running.console import Progress, no_progress

# Bytes of activations, features or photographs that may be kept in memory, by all processes
# together; more goes to files, of at most half the free disk.
CACHE_MEMORY = 2 * 2**30


@dataclass(frozen=True)
class Resources:
    """What work on many photographs may use."""

    workers: int = 1  # threads that decode
    folder: str | os.PathLike[str] = "."  # where files may lie
    processes: ProcessGroup = SINGLE_PROCESS
    progress: Progress = no_progress
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
            with suppress(AttributeError, OSError), tempfile.TemporaryFile(dir=self.folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))
        return torch.empty(shape)
