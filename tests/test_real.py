"""On real photographs, where FLOWERS_DATA names a folder like `flowers`; else skipped."""

import csv
import json
import re

import pytest
from conftest import ROOT

BUNDLED = ROOT / "assets" / "flowers102.pth", ROOT / "assets" / "flowers102.onnx"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes, of 7000 photographs on two cores
def test_the_head_names_real_flowers(run_script, real_data, tmp_path):
    """At least 96.5 % on valid, and the same figure through predict.py."""
    assert run_script("train", real_data, "--epochs", 0, "--save_dir", tmp_path).code == 0
    with open(tmp_path / "history.csv", newline="") as file:
        accuracy = float(next(csv.DictReader(file))["valid_accuracy"])
    options = [real_data / "valid", tmp_path / "checkpoint.pth", "--score", "--format", "jsonl"]
    run = run_script("predict", *options)
    records = [json.loads(line) for line in run.out.splitlines()]
    correct = sum(record["category"] == record["file"].split("/")[-2] for record in records)
    assert f"({correct} of {len(records)})" in run.err
    assert correct / len(records) == accuracy >= 0.965


@pytest.mark.slow
@pytest.mark.parametrize("network", BUNDLED, ids=["checkpoint", "exported"])
def test_the_bundled_network_names_real_flowers(run_script, real_data, network):
    run = run_script("predict", real_data / "valid", network, "--score", "--format", "csv")
    correct, count = map(int, re.search(r"\((\d+) of (\d+)\)", run.err).groups())
    assert correct / count >= 0.985


def test_the_bundled_network_is_small_and_loads(run_script):
    assert max(path.stat().st_size for path in BUNDLED) <= 8_000_000
    checkpoint, exported = (run_script("predict", "--info", path) for path in BUNDLED)
    assert checkpoint.code == 0
    assert "categories: 102" in checkpoint.out
    assert "valid accuracy: 98.53%" in checkpoint.out
    assert exported.err == checkpoint.err  # its form, its metadata and its checksum are right
    one, other = (re.sub("computed by: .*", "", run.out) for run in (exported, checkpoint))
    assert one == other
