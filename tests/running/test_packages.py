"""Packages that are not there: a sentence before they are imported."""

import importlib.util
import os
from pathlib import Path

import pytest
from conftest import ROOT

from running.packages import install_command, require_packages


def test_what_every_command_needs_is_looked_for(monkeypatch, capsys):
    require_packages()
    monkeypatch.setattr("sys.argv", ["/somewhere/train.py", "flowers"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "PIL" or None)
    with pytest.raises(SystemExit) as stop:
        require_packages()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"train.py: PIL is not installed: {install_command()}\n"


def test_the_command_works_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = install_command().removeprefix("pip install -r ")
    assert os.path.samefile(Path(path), ROOT / "requirements.txt")
