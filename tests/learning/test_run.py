"""A run: last.pth brings it back as it was, and is not believed unchecked."""

import math
import shutil

import pytest
import torch

from formats.pth import read_archive
from learning.resources import Resources
from learning.run import L2Penalty, Run, new_run
from running.settings import FINE_TUNING, Settings


def plain(value):
    """The same with lists in the place of tensors, which can be compared."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value.tolist() if torch.is_tensor(value) else value


def test_a_run_comes_back_from_its_file_as_it_was(trained, tmp_path):
    run = Run.load(trained / "last.pth")
    assert (run.epoch, run.model.training) == (1, False)
    run.save(tmp_path / "again.pth")
    entries = read_archive(trained / "last.pth")
    assert entries["averaged"]
    assert entries["optimizer"]
    assert plain(read_archive(tmp_path / "again.pth")) == plain(entries)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("epoch", 3),  # of another history
        ("model", {}),
        ("averaged", 1),
        ("optimizer", {0: []}),
        ("optimizer.1.exp_avg", torch.zeros(1)),
        ("random", torch.zeros(9, dtype=torch.uint8)),
        ("arch", "vgg99"),
        ("preprocessing.crop", 64),  # other features than the head takes
        ("run.history.1.valid_loss", math.nan),
        ("run.best.logits", torch.zeros(5, 5)),
        ("run.suspects", [[1, 4]]),
        ("run.seen.splits.train.labels", torch.full((48,), 4)),
        ("run.settings.epochs", 10**9),
        ("format_version", 1),
    ],
)
def test_an_impossible_resume_file_is_one_sentence(run_script, drawn, cnn, tmp_path, place, value):
    folder = shutil.copytree(cnn, tmp_path / "run")
    part = entries = read_archive(folder / "last.pth")
    *way, last = [int(key) if key.isdecimal() else key for key in place.split(".")]
    for key in way:
        part = part[key]
    part[last] = value
    torch.save(entries, folder / "last.pth")
    run = run_script("train", drawn, "--resume", "--epochs", 10, "--save_dir", folder)
    assert run.code == 2
    assert "last.pth" in run.err.splitlines()[0]


def test_a_pretrained_run_starts_with_its_head_and_fine_tunes(cnn, tmp_path):
    weights = str(cnn / "checkpoint.pth")
    settings = Settings("cnn", weights=weights, hidden_units=[7], batch_size=256)
    run = new_run(settings, 4, 32, torch.device("cpu"), resources=Resources(folder=tmp_path))
    assert (run.weights_source, run.epoch) == (weights, -1)
    assert run.settings.recipe.epochs == FINE_TUNING.epochs
    assert run.settings.recipe.lr == pytest.approx(8e-4)  # 4e-4 for 64 photographs a step
    assert run.model.head[0].out_features == 7


def test_an_l2_penalty_holds_while_a_tenth_changes():
    """Cross-validation would choose the same, and costs most of an update's time."""
    for photographs, categories, changed, holds in (
        *[(100, 20, 0, True), (110, 22, 0, True), (89, 20, 0, False), (100, 23, 0, False)],
        *[(100, 20, 10, True), (100, 20, 11, False)],
    ):
        found = L2Penalty(0.01, 100, 20, changed).value_for(photographs, categories)
        assert found == (0.01 if holds else None)
