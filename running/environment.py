"""The machine: installed packages, torchrun's processes, seconds, memory, the command.

It must import without any package: `require_packages` is the first thing that a script calls.
"""

import importlib.util
import os
import platform
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from running.errors import InputError

ROOT = Path(__file__).parents[1]
PACKAGES = ("numpy", "PIL", "torch", "torchvision", "tqdm")  # PIL is of pillow


def install_command(package: str) -> str:
    """Return the command that installs a package and all others that this script needs."""
    words = [word.lower() for word in sys.argv[1:]]
    exported = any(word.endswith(".onnx") for word in words) and "--export" not in words
    light = exported and package not in ("torch", "torchvision")  # torch is large
    file = from_here(f"requirements{'-predict' * light}.txt")
    if "UV" in os.environ:  # uv run, whose environments are not for pip
        return join_words(["uv", "run", "--with-requirements", file, *sys.argv])
    return join_words(["pip", "install", "-r", file])


def require_packages() -> None:
    """Exit with a sentence if a package is missing that every command needs."""
    for name in ("numpy", "PIL"):
        if importlib.util.find_spec(name) is None:
            script = os.path.basename(sys.argv[0])
            print(f"{script}: {name} is not installed: {install_command(name)}", file=sys.stderr)
            sys.exit(2)


def require(package: str, what: str, install: str | None = None) -> None:
    """Raise an InputError if an optional package, a part of `install`, is not installed."""
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{what} needs {package}: pip install {install or package}")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages in use; torch's if it is imported."""
    import numpy
    import PIL

    found = {"python": platform.python_version()}
    if "torch" in sys.modules:  # its __version__ is a subclass of str, which is not plain data
        found["torch"] = str(sys.modules["torch"].__version__)
    return {**found, "numpy": numpy.__version__, "pillow": PIL.__version__}


class Launch(NamedTuple):
    """This process's place among those that torchrun started; the default is alone."""

    rank: int = 0
    size: int = 1  # processes, on all machines
    local_rank: int = 0
    local_world_size: int = 1  # processes on this machine

    @property
    def is_rank_zero(self) -> bool:  # the process that prints and writes
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.size > 1

    @classmethod
    def from_environment(cls) -> "Launch":
        """Read the variables that torchrun sets."""
        if "RANK" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ.get(name, default)) for name, default in zip(names, "0101")))


class Clock:
    """Counts the seconds of each phase of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = self.last = time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def lap(self, phase: str) -> float:
        """Count the seconds since the last lap as this phase's; return them."""
        seconds, self.last = time.perf_counter() - self.last, time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0) + seconds
        return seconds


def peak_memory() -> float | None:
    """Return the most memory that this process has used, in MiB; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def spell_command(script: str, *arguments: str) -> str:
    """Spell the command that runs a script of this project from the current folder."""
    return join_words(command_words(script, *arguments))


def command_words(script: str, *arguments: str) -> list[str]:
    """List the words of the command that runs a script of this project from here."""
    python = "python" if shutil.which("python") else sys.executable or "python3"
    return [python, from_here(script), *arguments]


def join_words(words: list[str]) -> str:
    """Quote the words of a command for the shell of this system."""
    if os.name != "nt":
        return shlex.join(words)
    from subprocess import list2cmdline  # which no other system needs

    return list2cmdline(words)


def from_here(file: str) -> str:
    """Return the path of a file of this project from the current folder."""
    try:
        return os.path.relpath(ROOT / file)
    except (OSError, ValueError):  # the folder is gone, or on another drive of Windows
        return str(ROOT / file)
