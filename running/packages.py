"""The packages that the scripts need: what is missing is said before it is imported."""

import importlib.util
import os
import shlex
import sys
from pathlib import Path

PACKAGES = ("numpy", "PIL", "torch", "torchvision", "tqdm")  # PIL is of pillow
ALWAYS = PACKAGES[:2]  # torch's come where they are used


def install_command(package: str) -> str:
    """Say what installs a package, with all others that the command needs, in this folder."""
    words = [word.lower() for word in sys.argv[1:]]
    exported = any(word.endswith(".onnx") for word in words) and "--export" not in words
    # Torch is much, where photographs are only to be named by an exported network.
    light = exported and package not in ("torch", "torchvision")
    name = "requirements-predict.txt" if light else "requirements.txt"
    return shlex.join(["pip", "install", "-r", os.path.relpath(Path(__file__).parents[1] / name)])


def require_packages() -> None:
    """End the script with a sentence where a package is missing that every command needs."""
    for name in ALWAYS:
        if importlib.util.find_spec(name) is None:
            script = os.path.basename(sys.argv[0])
            print(f"{script}: {name} is not installed: {install_command(name)}", file=sys.stderr)
            sys.exit(2)
