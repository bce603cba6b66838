"""A run: last.pth brings it back as it was, and is not believed unchecked."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import METRICS, random_images, small_info
from torch.nn import functional as F

from formats.pth import read_archive
from images.manifest import Manifest
from learning.distributed import ProcessGroup
from learning.evaluation import Evaluation
from learning.fit import restore_optimizer
from learning.resources import Resources
from learning.run import L2Penalty, Run, new_run
from network.checkpoint import new_model
from running.errors import InputError
from running.settings import FINE_TUNING, Settings

CPU = torch.device("cpu")


def make_run(**settings) -> Run:
    """A run of three categories that has come to epoch 2 of 4."""
    run = new_run(Settings("cnn", epochs=4, **settings), 3, 32, CPU, Resources())
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for epoch, accuracy in ((1, 0.4), (2, 0.8)):
        run.best = Evaluation(1.5, 1.25, accuracy, logits)
        run.add_epoch(epoch, 2.5, run.best, 3.5, True)
    optimizer = torch.optim.Adam(run.model.parameters())
    F.cross_entropy(run.model(random_images(4, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    run.epoch, run.averaged = 2, copy.deepcopy(run.model)
    run.averaged.head.weight.data.add_(1)
    run.optimizer_state, run.rng_state = optimizer.state_dict()["state"], torch.get_rng_state()
    photographs = np.arange(32, dtype=np.uint8).reshape(2, 16), np.array([0, 2])
    run.manifest, run.fingerprint = Manifest(["2", "10", "rose"], {"train": photographs}), "these"
    run.suspects, run.l2_penalty = [(1, 2)], L2Penalty(0.01, 48, 3)
    run.tuned_history, run.tuned_on = run.history[:1], photographs[0]
    return run


@pytest.fixture
def saved(tmp_path):
    run = make_run(seed=7)
    run.save(tmp_path / "last.pth")
    return tmp_path / "last.pth", run


def test_a_run_comes_back_from_its_file_as_it_was(saved):
    path, run = saved
    again = Run.load(path)
    for name in ("model", "averaged"):
        ours, theirs = getattr(run, name).state_dict(), getattr(again, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(value.equal(theirs[key]) for key, value in ours.items())
    optimizer = torch.optim.Adam(again.model.parameters())
    restore_optimizer(optimizer, again.optimizer_state)
    for i, values in run.optimizer_state.items():
        kept = optimizer.state_dict()["state"][i]
        assert all(value.equal(kept[key]) for key, value in values.items())
    assert again.rng_state.equal(run.rng_state)
    assert (again.tuned_on == run.tuned_on).all()
    assert (again.best.logits == run.best.logits).all()
    assert again.best[:3] == run.best[:3]
    assert [*again.manifest.places()] == [*run.manifest.places()]
    for name in (
        *("settings", "preprocessing", "weights_source", "epoch", "history", "suspects"),
        *("fingerprint", "l2_penalty", "is_update", "has_ended", "tuned_history"),
    ):
        assert getattr(again, name) == getattr(run, name)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("epoch", 3),  # of another history
        ("model", {}),
        ("averaged", 1),
        ("random", torch.zeros(9, dtype=torch.uint8)),
        ("arch", "vgg99"),
        ("head.in_features", 10**9),
        ("preprocessing.crop", 64),  # other features than the head takes
        ("run.history", []),
        ("run.history.1.more", "x"),
        ("run.history.1.valid_loss", math.nan),
        ("run.best.logits", torch.zeros(5, 4)),
        ("run.best.accuracy", 1),
        ("run.suspects", [[-1, 1]]),
        ("run.suspects", [[1, 3]]),
        ("run.seen.categories", ["1", "2"]),
        ("run.seen.splits.train.digests", torch.zeros(2, 15, dtype=torch.uint8)),
        ("run.seen.splits.train.labels", torch.full((2,), 3)),
        ("run.tuned_on", torch.zeros(2, 16)),
        ("run.penalty", [2.0, 2, 2, 0]),
        ("run.settings.lr", math.inf),
        ("run.settings.epochs", 10**9),
        ("run.settings.hidden_units", [0]),
        ("run.settings.tune", "half"),
        ("run.settings.more", 1),
        ("format_version", 1),
    ],
)
def test_an_impossible_resume_file_is_refused_in_a_sentence_that_names_it(saved, place, value):
    path, _ = saved
    entries = read_archive(path)
    *way, last = [int(key) if key.isdecimal() else key for key in place.split(".")]
    part = entries
    for key in way:
        part = part[key]
    part[last] = value
    torch.save(entries, path)
    with pytest.raises(InputError, match=str(path)) as caught:
        Run.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.pop(0),
        lambda kept: kept[0].update(more=torch.ones(())),
        lambda kept: kept[1].update(exp_avg=torch.zeros(1)),
        lambda kept: kept[1].update(exp_avg=kept[1]["exp_avg"] + torch.nan),
        lambda kept: kept.update({0: []}),
    ],
)
def test_an_optimizers_state_of_other_parameters_is_refused(saved, change):
    _, run = saved
    kept = {i: dict(values) for i, values in run.optimizer_state.items()}
    change(kept)
    with pytest.raises(InputError, match=r"last\.pth is damaged"):
        restore_optimizer(torch.optim.Adam(run.model.parameters()), kept)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metrics": METRICS._replace(epoch=1, valid_loss=1.5)}, True),
        # The run was killed when it had saved a better network, but not yet its last.pth.
        ({"metrics": METRICS._replace(epoch=3, valid_loss=0.1)}, True),
        ({"metrics": METRICS._replace(epoch=2, valid_loss=0.1)}, False),
        ({"metrics": METRICS._replace(valid_loss=1.5), "seed": 1}, False),
        ({"metrics": METRICS._replace(valid_loss=1.5), "arch": "resnet18"}, False),
        ({"metrics": METRICS._replace(valid_loss=1.5), "categories": ["1", "2", "3"]}, False),
    ],
)
def test_a_checkpoint_of_another_run_is_not_continued(saved, changes, expected):
    _, run = saved
    assert run.owns(small_info(run.preprocessing, **changes)) == expected


# --- A new run --------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    model, _, _ = new_model("cnn", 4, 32)
    torch.save(model.body.state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("typed", "lr"),
    [({}, 4e-4), ({"batch_size": 256}, 8e-4), ({"batch_size": 256, "lr": 0.5}, 0.5)],
)
def test_a_pretrained_run_starts_with_its_head_and_fine_tunes(weights, typed, lr):
    settings = Settings("cnn", weights=weights, image_size=32, hidden_units=[7], **typed)
    run = new_run(settings, 4, None, CPU, Resources())
    assert (run.weights_source, run.epoch) == (weights, -1)
    assert run.settings.recipe.epochs == FINE_TUNING.epochs
    assert run.settings.recipe.lr == pytest.approx(lr)
    assert run.model.head[0].out_features == 7


def test_rank_0_downloads_weights_before_the_others_look_for_them(monkeypatch):
    order = []

    def build(*arguments):
        order.append("build")
        return new_model(*arguments)

    monkeypatch.setattr("learning.run.new_model", build)
    monkeypatch.setattr(ProcessGroup, "wait", lambda self: order.append("wait"))
    for rank in (0, 1):
        new_run(Settings("cnn"), 4, 32, CPU, Resources(processes=ProcessGroup(rank, 2)))
    assert order == ["build", "wait", "wait", "build"]


@pytest.mark.parametrize(
    ("photographs", "categories", "changed", "holds"),
    [
        *[(100, 20, 0, True), (110, 22, 0, True), (89, 20, 0, False), (100, 23, 0, False)],
        *[(100, 20, 10, True), (100, 20, 11, False)],
    ],
)
def test_an_l2_penalty_holds_while_a_tenth_changes(photographs, categories, changed, holds):
    found = L2Penalty(0.01, 100, 20, changed).value_for(photographs, categories)
    assert found == (0.01 if holds else None)
