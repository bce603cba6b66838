"""The machine and its packages: what is installed, seconds, memory and the command."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from conftest import ROOT

from running.environment import Clock, peak_memory, require, spell_command, versions
from running.errors import InputError


def test_a_package_that_is_missing_is_named():
    require("numpy", "counting")
    with pytest.raises(InputError, match=r"^--plot needs no_such_package: pip install no_such_pa"):
        require("no_such_package", "--plot")
    with pytest.raises(InputError, match=r"^a needs no_such_package: pip install that-package$"):
        require("no_such_package", "a", "that-package")


def test_versions_are_plain_data():
    found = versions()
    assert found == {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }
    assert {type(version) for version in found.values()} == {str}


def test_torch_is_not_imported_to_ask_for_its_version(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert [*versions()] == ["python", "numpy", "pillow"]
    assert "torch" not in sys.modules


def test_seconds_are_counted_by_phase(monkeypatch):
    times = iter([0.0, 2.0, 2.0, 5.0, 5.0, 6.5, 6.5])
    monkeypatch.setattr("running.environment.time.perf_counter", lambda: next(times))
    clock = Clock()
    assert clock.lap("epochs") == 2
    assert clock.lap("saving") == 3
    assert clock.lap("epochs") == 1.5
    assert clock.seconds == {"epochs": 3.5, "saving": 3}


def test_memory_is_in_mib(monkeypatch):
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", "linux")
    assert peak / 2**10 <= peak_memory() < peak / 2**10 + 500
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak / 2**20 <= peak_memory() < peak / 2**20 + 500
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows has none
    assert peak_memory() is None


def test_the_command_works_from_the_present_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert spell_command("train.py", "flowers", "a b") == "python train.py flowers 'a b'"
    monkeypatch.chdir(tmp_path)
    _, path, argument = shlex.split(spell_command("predict.py", "it's"))
    assert argument == "it's"
    assert Path(path).resolve() == ROOT / "predict.py"
    assert not os.path.isabs(path)


def test_running_needs_no_torch():
    names = sorted(path.stem for path in (ROOT / "running").glob("[a-z]*.py"))
    code = "; ".join([*(f"import running.{name}" for name in names), "import sys"])
    code += "; assert not {'torch', 'torchvision'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
