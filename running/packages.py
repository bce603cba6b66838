"""The packages that the scripts need: what is missing is said before it is imported."""

import importlib.util
import os
import shlex
import sys
from pathlib import Path

PACKAGES = ("numpy", "PIL", "torch", "torchvision", "tqdm")  # PIL is of pillow
ALWAYS = PACKAGES[:2]  # torch's come where they are used


def install_command() -> str:
    """Say what installs them, from the present folder."""
    path = os.path.relpath(Path(__file__).parent.with_name("requirements.txt"))
    return shlex.join(["pip", "install", "-r", path])


def require_packages() -> None:
    """End the script with a sentence where a package is missing that every command needs."""
    for name in ALWAYS:
        if importlib.util.find_spec(name) is None:
            script = os.path.basename(sys.argv[0])
            print(f"{script}: {name} is not installed: {install_command()}", file=sys.stderr)
            sys.exit(2)
