"""running/environment.py"""

import importlib.util
import os
import sys
import time

from running.errors import InputError


def require(package: str, what: str, install: str | None = None) -> None:
    """See that an optional package is installed, which comes with `install` (default: itself).

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{what} takes {package}: pip install {install or package}")


def default_workers() -> int:
    """Count the processors for this process; several of torchrun's share them out."""
    if hasattr(os, "sched_getaffinity"):  # Linux; knows about containers and taskset
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, count // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def count_processes() -> int:
    """Count the processes that torchrun has started, on all machines; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def share_processors() -> None:
    """Let threads that wait sleep instead of spin, unless the user decided; before torch.

    Spinning threads of two programs on the same processors keep each other from working:
    one photograph then takes seconds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class Clock:
    """Counts the seconds of each phase of a run."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, phase: str) -> float:
        """Count the seconds since the last lap as this phase's; return them."""
        seconds, self.last = time.perf_counter() - self.last, time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0) + seconds
        return seconds


def peak_memory() -> float | None:
    """Ask how much memory this process has taken at most, in MiB; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
