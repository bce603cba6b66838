"""The machine: missing packages, what torchrun says, versions, seconds, memory, the command."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from running.environment import (
    Clock,
    Launch,
    install_command,
    peak_memory,
    require,
    spell_command,
    versions,
)
from running.errors import InputError


def test_a_missing_optional_package_is_named():
    require("numpy", "counting")
    with pytest.raises(InputError, match=r"--plot.* no_such_package.* pip install that-package$"):
        require("no_such_package", "--plot", "that-package")


@pytest.mark.parametrize("script", ["train.py", "predict.py"])
def test_a_machine_without_any_package_is_told_what_to_install(monkeypatch, script):
    monkeypatch.delenv("UV", raising=False)
    # -S leaves the folder of packages out.
    command = [sys.executable, "-S", ROOT / script, "flowers"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    install = "pip install -r requirements.txt"
    assert (run.returncode, run.stderr) == (2, f"{script}: numpy is not installed: {install}\n")


@pytest.mark.parametrize(
    ("package", "command", "file"),
    [
        ("PIL", "predict.py a.jpg flowers.onnx", "requirements-predict.txt"),
        ("tqdm", "predict.py --info a.ONNX", "requirements-predict.txt"),
        ("tqdm", "predict.py a.jpg checkpoint.pth", "requirements.txt"),
        ("PIL", "predict.py --export flowers.onnx checkpoint.pth", "requirements.txt"),
        ("torch", "predict.py a.jpg flowers.onnx", "requirements.txt"),
    ],
)
def test_who_only_names_flowers_need_not_install_torch(monkeypatch, package, command, file):
    monkeypatch.setattr("sys.argv", command.split())
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("UV", raising=False)
    assert install_command(package) == f"pip install -r {file}"
    monkeypatch.setenv("UV", "/usr/bin/uv")
    assert install_command(package) == f"uv run --with-requirements {file} {command}"


def requirements(name: str) -> dict[str, str]:
    """The packages of a requirements file, each with its versions."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    words = [line.split("#")[0].strip() for line in lines]
    return dict(
        re.fullmatch(r"([\w-]+)(.*)", word).groups() for word in words if word and word[0] != "-"
    )


def test_the_lists_of_packages_agree():
    everybody, light, tests = (
        requirements(f"{name}.txt")
        for name in ("requirements", "requirements-predict", "tests/requirements")
    )
    assert light == {name: {**everybody, **tests}[name] for name in light}
    assert not everybody.keys() & tests.keys()
    for script, packages in (("train.py", everybody), ("predict.py", light)):
        # PEP 723: what `uv run` installs.
        block = re.search(r"^# /// script\n(.*?)^# ///\n", (ROOT / script).read_text(), re.M | re.S)
        listed = re.findall(r'^#     "([\w-]+)(.*)",$', block[1], re.M)
        assert dict(listed) == packages
        python = re.search(r'requires-python = "(.*)"', block[1])[0]
        assert python in (ROOT / "pyproject.toml").read_text()


def test_torchruns_variables_are_read(monkeypatch):
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # some batch systems set that, too
    assert Launch.from_environment() == Launch() == (0, 1, 0, 1)
    assert Launch().is_rank_zero
    assert not Launch().is_distributed
    for name, value in zip(names, "5823"):
        monkeypatch.setenv(name, value)
    launch = Launch.from_environment()
    assert launch == Launch(rank=5, size=8, local_rank=2, local_world_size=3)
    assert not launch.is_rank_zero
    assert launch.is_distributed


def test_versions_are_plain_data():
    assert {*versions()} == {"python", "torch", "numpy", "pillow"}
    assert {type(version) for version in versions().values()} == {str}


def test_seconds_are_counted_by_phase():
    clock = Clock()
    time.sleep(0.01)
    first = clock.lap("epochs")
    assert clock.lap("saving") < clock.elapsed
    assert clock.seconds["epochs"] == first >= 0.01
    second = clock.lap("epochs")
    assert clock.seconds["epochs"] == first + second


def test_memory_is_in_mib():
    assert 10 < peak_memory() < 100_000


def test_the_command_works_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    python, path, argument = shlex.split(spell_command("predict.py", "it's"))
    assert (python, argument) == ("python", "it's")
    assert Path(path).resolve() == ROOT / "predict.py"
    assert not os.path.isabs(path)
