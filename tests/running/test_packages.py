"""Packages that are not there: a sentence before they are imported."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
from conftest import ROOT

from running.environment import install_command, require_packages


def test_what_every_command_needs_is_looked_for(monkeypatch, capsys):
    require_packages()
    monkeypatch.setattr("sys.argv", ["/somewhere/train.py", "flowers"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "PIL" or None)
    with pytest.raises(SystemExit) as stop:
        require_packages()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"train.py: PIL is not installed: {install_command('PIL')}\n"


def test_the_command_works_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = install_command("torch").removeprefix("pip install -r ")
    assert os.path.samefile(Path(path), ROOT / "requirements.txt")


@pytest.mark.parametrize(
    ("package", "command", "file"),
    [
        ("PIL", "predict.py a.jpg flowers.onnx", "requirements-predict.txt"),
        ("tqdm", "predict.py --info a.ONNX", "requirements-predict.txt"),
        ("tqdm", "predict.py a.jpg checkpoint.pth", "requirements.txt"),
        ("PIL", "predict.py --export flowers.onnx checkpoint.pth", "requirements.txt"),
        ("torch", "predict.py a.jpg flowers.onnx", "requirements.txt"),
        ("PIL", "train.py flowers", "requirements.txt"),
    ],
)
def test_who_only_names_flowers_need_not_install_torch(monkeypatch, package, command, file):
    monkeypatch.setattr("sys.argv", command.split())
    monkeypatch.chdir(ROOT)
    assert install_command(package) == f"pip install -r {file}"


def requirements(name: str) -> dict[str, str]:
    """The packages of a requirements file, each with what it says of the version."""
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
    assert set(light) == {"numpy", "pillow", "onnxruntime", "tqdm"}
    assert light == {name: {**everybody, **tests}[name] for name in light}
    assert not everybody.keys() & tests.keys()
