"""What torchrun says of this process; without torchrun it is the only one."""

import os
from typing import NamedTuple


class Launch(NamedTuple):
    """This process's place among those that share a run."""

    rank: int = 0
    size: int = 1  # processes, on all machines
    local_rank: int = 0
    local_world_size: int = 1  # processes on this machine

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes."""
        return self.size > 1

    @classmethod
    def from_environment(cls) -> "Launch":
        """Read the variables that torchrun sets."""
        if "RANK" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ.get(name, default)) for name, default in zip(names, "0101")))
