"""The machine and its packages: what is installed, seconds, memory, the command."""

import importlib.util
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import PIL

from running.errors import InputError


def require(package: str, what: str, install: str | None = None) -> None:
    """See that an optional package is installed, which comes with `install` (default: itself).

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{what} needs {package}: pip install {install or package}")


def versions() -> dict[str, str]:
    """Say which versions of Python and of the packages are at work; torch where it is imported."""
    found = {"python": platform.python_version()}
    if "torch" in sys.modules:
        # torch.__version__ is a subclass of str, which is no plain data.
        found["torch"] = str(sys.modules["torch"].__version__)
    return {**found, "numpy": np.__version__, "pillow": PIL.__version__}


class Clock:
    """Counts the seconds of each phase of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = self.last = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """The seconds since it was started."""
        return time.perf_counter() - self.started

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


def spell_command(script: str, *arguments: str) -> str:
    """Spell the command that runs a script of this project from the present folder."""
    path = os.path.relpath(Path(__file__).parent.with_name(script))
    return shlex.join(["python", path, *arguments])
