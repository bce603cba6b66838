"""The machine: missing packages, what torchrun says, versions, seconds, memory, the command."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from running.environment import install_command, join_words, spell_command


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


def test_a_command_is_spelt_where_the_folder_is_gone_or_on_another_drive(tmp_path, monkeypatch):
    for error in (FileNotFoundError, ValueError):

        def fail(path: str, error: type[Exception] = error) -> str:
            raise error

        monkeypatch.setattr("os.path.relpath", fail)
        assert spell_command("train.py", "a b") == f"python {ROOT / 'train.py'} 'a b'"
    monkeypatch.undo()
    monkeypatch.setattr("os.name", "nt")
    assert join_words(["python", "train.py", "a b"]) == 'python train.py "a b"'
