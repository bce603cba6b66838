"""How a network learns: shares and weights of photographs, the average, and what is frozen."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_utils import Split, find_data
from learning.fit import (
    Learner,
    divide,
    draw_epoch,
    lr_factor,
    open_activations,
    sample_weights,
    train_one_epoch,
)
from learning.head import fit_head, view_features
from learning.resources import ProcessGroup, Resources
from learning.run import new_run
from network.classifier import chain, count_frozen_layers
from running.settings import Settings


@pytest.fixture
def begin(drawn, tmp_path):
    """Return a function that begins a run on some photographs of each of four kinds."""

    def begin(count: int = 48, **settings):
        """Return the run, its activations, and the labels."""
        splits = {**find_data(drawn).splits}
        paths, labels = splits["train"]
        chosen = [i % 4 * 12 + i // 4 for i in range(count)]
        splits["train"] = Split([paths[i] for i in chosen], labels[chosen])
        resources, settings = Resources(folder=tmp_path), Settings(image_size=32, **settings)
        run = new_run(settings, 4, None, torch.device("cpu"), resources)
        return run, open_activations(run, splits, resources)[0], labels[chosen]

    return begin


@pytest.mark.parametrize("count", [7, 8, 9])
@pytest.mark.parametrize("num_frozen", [0, 3])
def test_processes_share_out_an_epoch_and_every_photograph_counts_once(
    monkeypatch, count, num_frozen
):
    """Photographs, views and mirroring are those of a process that is alone."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)  # of dropout, in the others

    def orders(size, epoch=2, seed=5):
        for rank in range(size):
            batch_sizes = divide(-(-count // size), 3)
            weights = sample_weights(count, batch_sizes, rank, size)
            learner = SimpleNamespace(
                processes=ProcessGroup(rank, size),
                activations=SimpleNamespace(num_frozen=num_frozen, num_views=5),
                labels=np.zeros(count),
                weights=weights,
                seed=seed,
                batch_sizes=batch_sizes,
                steps_per_epoch=len(batch_sizes),
                steps=len(batch_sizes) * epoch,
            )
            yield weights, draw_epoch(learner, epoch)

    [(_, whole)] = orders(1)
    photographs, views, mirrored = whole
    assert sorted(photographs) == [*range(count)]
    assert {*views} == {2} if not num_frozen else len({*views}) > 1
    alone = dict(zip(photographs, zip(views, mirrored)))
    seen, shares = [], [*orders(3)]
    for rank, (weights, order) in enumerate(shares):
        assert (order[0] % 3 == rank).all()
        assert all(alone[i] == (view, is_mirrored) for i, view, is_mirrored in zip(*order))
        seen += [*order[0][weights > 0]]
    assert sorted(seen) == [*range(count)]
    # The mean over the processes of their sums is the mean over the photographs of a step.
    first = divide(-(-count // 3), 3)[0]
    step = np.stack([weights[:first] for weights, _ in shares])
    np.testing.assert_allclose(step[step > 0] / 3, 1 / (step > 0).sum(), rtol=1e-6)
    for other in (next(orders(1, epoch=3)), next(orders(1, seed=6))):
        assert (other[1][0] != photographs).any()


def test_no_batch_is_much_smaller_than_the_others():
    for count, most in ((1280, 256), (1281, 256), (1282, 256), (101, 10), (5, 2), (3, 256), (1, 1)):
        sizes = divide(count, most)
        assert sum(sizes) == count
        assert len(sizes) == math.ceil(count / most)
        assert max(sizes) <= most
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("steps", [1, 9, 1000])
def test_the_learning_rate_rises_and_then_falls_towards_0(steps):
    factors = [lr_factor(step, steps) for step in range(steps)]
    peak = factors.index(max(factors))
    assert peak <= steps / 10 + 1
    assert factors == sorted(factors[: peak + 1]) + sorted(factors[peak + 1 :], reverse=True)
    if steps == 1000:
        assert (factors[0], factors[-1]) == pytest.approx((0, 0), abs=0.02)
        assert max(factors) > 0.99


@pytest.mark.parametrize("tune", ["tail", pytest.param("all", marks=pytest.mark.slow)])
def test_tune_says_which_layers_learn(begin, tune):
    """Of the network that learns, and of the average, which is kept."""
    run, activations, labels = begin(tune=tune, epochs=1, lr=1e-3, batch_size=16)
    num_frozen = count_frozen_layers(run.model.body) if tune == "tail" else 0
    before = [[p.clone() for p in layer.parameters()] for layer in chain(run.model.body)]
    features = view_features(run, activations, len(labels))
    fit_head(run, features, labels, activations.resources)
    learner = Learner(run, activations, labels)
    loss = train_one_epoch(learner, 1)
    assert math.isfinite(loss)
    assert learner.network is not learner.model
    for network in (learner.model, learner.network):
        for i, (layer, weights) in enumerate(zip(chain(network.body), before)):
            changed = [(a != b).any() for a, b in zip(layer.parameters(), weights)]
            assert any(changed) == (bool(weights) and i >= num_frozen)


def test_the_average_moves_by_its_share_from_the_first_step_on(begin):
    """Of a pretrained network that takes 40 steps: by a tenth of the run, 10 of 40."""
    run, activations, labels = begin(epochs=4, batch_size=5)
    learner = Learner(run, activations, labels)
    assert learner.steps == 40
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    expected = learner.network.head.weight.clone()
    for number in range(3):
        learner.step(learner.model.head.weight.square().sum(), scaler, number)
        expected.mul_(0.75).add_(learner.model.head.weight, alpha=0.25)
        torch.testing.assert_close(learner.network.head.weight, expected)
    assert (learner.network.head.weight != learner.model.head.weight).any()


def test_an_epochs_loss_is_the_mean_of_its_photographs(begin, monkeypatch):
    """Nothing learns here, so that the loss is known; the last batch is one photograph."""
    run, activations, labels = begin(17, arch="cnn", epochs=1, batch_size=8)
    learner, model = Learner(run, activations, labels), run.model.eval()
    monkeypatch.setattr(learner, "step", lambda *_: None)
    monkeypatch.setattr(model, "train", lambda mode=True: model)
    monkeypatch.setattr("learning.fit.learning_precision", lambda *_: torch.float32)
    loss = train_one_epoch(learner, 1)
    photographs, views, _ = draw_epoch(learner, 1)
    with torch.no_grad():
        logits = model(torch.cat([*activations.batches(photographs, views, [17])])) + learner.offset
    targets = torch.from_numpy(labels[photographs])
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1).item()
    assert loss == pytest.approx(expected, rel=1e-4)
