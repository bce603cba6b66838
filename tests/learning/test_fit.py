"""How a network learns: shares and weights of photographs, the average, and what is frozen."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from data_utils import find_data
from learning.activations import Activations
from learning.distributed import ProcessGroup
from learning.fit import (
    CACHED_VIEWS,
    Learner,
    draw_epoch,
    lr_factor,
    open_activations,
    sample_weights,
    train_one_epoch,
)
from learning.head import fit_head
from learning.resources import Resources
from learning.run import Run
from learning.views import Photographs
from network.checkpoint import new_model
from network.classifier import chain, count_frozen_layers
from running.settings import FINE_TUNING, Settings, resolve_settings


@pytest.fixture(scope="module")
def splits(drawn):
    return find_data(drawn).splits


def begin(arch="cnn", side=32, source=None, **settings) -> Run:
    """A new run with resolved settings."""
    torch.manual_seed(0)
    model, preprocessing, weights = new_model(arch, 4, side)
    source = source or weights
    resolved = resolve_settings(
        Settings(arch=arch, **settings), side, source is not None, bool(model.feature_layers)
    )
    return Run(resolved, model, preprocessing, source, -1 if source else 0)


def learner_of(run: Run, split, count: int = 48, **resources) -> Learner:
    """A learner of some photographs of each of four kinds, on their pixels."""
    chosen = [i % 4 * 12 + i // 4 for i in range(count)]
    paths = [split.paths[i] for i in chosen]
    views = Photographs(paths, run.preprocessing, run.settings.seed, Resources(**resources), 10**9)
    return Learner(run, Activations(run.model, 0, views), split.labels[chosen])


# --- What falls to a process ------------------------------------------------------------


@pytest.mark.parametrize("count", [7, 8, 9])
@pytest.mark.parametrize("num_frozen", [0, 3])
def test_processes_share_out_the_order_of_an_epoch(monkeypatch, count, num_frozen):
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)  # of dropout, in the others

    def orders(size, epoch=2, seed=5):
        for rank in range(size):
            weights = sample_weights(count, 3, rank, size)
            activations = SimpleNamespace(num_frozen=num_frozen, num_views=5)
            learner = SimpleNamespace(
                processes=ProcessGroup(rank, size),
                activations=activations,
                labels=np.zeros(count),
                weights=weights,
                seed=seed,
                recipe=FINE_TUNING._replace(batch_size=3),
                steps_per_epoch=math.ceil(len(weights) / 3),
                steps=math.ceil(len(weights) / 3) * epoch,
            )
            order = draw_epoch(learner, epoch)
            learner.steps -= learner.steps_per_epoch - 1  # a short epoch is the beginning of it
            for whole, short in zip(order, draw_epoch(learner, epoch)):
                assert np.array_equal(short, whole[:3])
            assert {len(each) for each in order} == {len(weights)}
            yield weights, order

    [(_, whole)] = orders(1)
    photographs, views, mirrored = whole
    assert sorted(photographs) == [*range(count)]
    if num_frozen:
        assert {*views} <= {*range(5)}
        assert len({*views}) > 1
    else:
        assert {*views} == {2}  # every epoch sees a new one
    alone = dict(zip(photographs, zip(views, mirrored)))
    met = []
    for rank, (weights, order) in enumerate(orders(3)):
        counted = order[0][weights > 0]
        assert (counted % 3 == rank).all()
        assert (order[0] % 3 == rank).all()
        met += [*counted]
        assert all(alone[i] == (v, m) for i, v, m in zip(*order))
    assert sorted(met) == [*range(count)]
    for other in (next(orders(1, epoch=3)), next(orders(1, seed=6))):
        assert (other[1][0] != photographs).any()


@pytest.mark.parametrize("steps", [1, 2, 9, 1000])
def test_the_learning_rate_rises_and_then_falls_towards_0(steps):
    factors = [lr_factor(step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert peak <= steps / 10 + 1
    assert factors == sorted(factors[: peak + 1]) + sorted(factors[peak + 1 :], reverse=True)
    if steps == 1000:
        assert factors[0] < 0.02
        assert max(factors) > 0.99
        assert factors[-1] < 0.001


# --- The average of the weights ---------------------------------------------------------


def test_the_average_moves_by_its_share_from_the_first_step_on(splits):
    """Of a pretrained network that takes 40 steps: by a tenth of the run, 10 of 40."""
    run = begin(source="weights", epochs=4, batch_size=5)
    learner = learner_of(run, splits["train"])
    assert learner.steps == 40
    expected = {key: value.clone() for key, value in run.model.state_dict().items()}
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    rng = torch.Generator().manual_seed(0)
    for number in range(3):
        before = learner.model.head.weight.clone()
        loss = sum(
            (p * torch.randn(p.shape, generator=rng)).sum() for p in learner.model.parameters()
        )
        learner.model.body[1].running_mean.add_(1)  # what BatchNorm knows is averaged, too
        learner.step(loss, scaler, number)
        assert (learner.model.head.weight != before).any()
        for key, value in learner.model.state_dict().items():
            if value.is_floating_point():
                expected[key].mul_(0.75).add_(value, alpha=0.25)
        for key, value in learner.network.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, expected[key])
    assert learner.network is not learner.model


# --- Epochs -----------------------------------------------------------------------------


@pytest.mark.parametrize("tune", ["tail", pytest.param("all", marks=pytest.mark.slow)])
def test_tune_says_which_layers_learn(splits, tune, tmp_path):
    run = begin("efficientnet_lite0", 32, tune=tune, epochs=1, lr=1e-3, batch_size=16)
    model, labels = run.model, splits["train"].labels
    assert run.settings.tune == tune
    resources = Resources(folder=tmp_path)
    activations, valid = open_activations(run, splits, resources)
    num_frozen = count_frozen_layers(model.body) if tune == "tail" else 0
    assert activations.num_frozen == valid.num_frozen == num_frozen
    before = [[p.clone() for p in layer.parameters()] for layer in chain(model.body)]
    head_loss, solved = fit_head(run, activations, labels)
    learner = Learner(run, activations, labels)
    frozen, behind = chain(model.body)[:num_frozen], chain(model.body)[num_frozen:]
    assert not any(p.requires_grad for layer in frozen for p in layer.parameters())
    assert all(p.requires_grad for layer in behind for p in layer.parameters() if p.dim() > 1)
    wanted = [p for p in model.parameters() if p.requires_grad]
    assert [*map(id, learner.optimizer.param_groups[0]["params"])] == [*map(id, wanted)]
    loss, sums = train_one_epoch(learner, 1)
    assert math.isfinite(head_loss)
    assert math.isfinite(loss)
    assert (solved.sums.argmax(1) == torch.arange(4)).all()
    assert sums.sums.shape == (4, 4)
    first = sum(bool(weights) for weights in before[:num_frozen])
    for network in (learner.model, learner.network):
        changed = [
            any((a != b).any() for a, b in zip(layer.parameters(), weights))
            for layer, weights in zip(chain(network.body), before)
            if weights
        ]
        assert changed == [False] * first + [True] * (len(changed) - first)


def test_the_frozen_layers_output_is_cached_for_several_views(splits, tmp_path):
    run = begin("efficientnet_lite0", 32, tune="tail", epochs=1)
    run.fingerprint = "these"
    resources = Resources(folder=tmp_path, total_memory=0)
    train_set, valid_set = open_activations(run, splits, resources)
    assert (train_set.num_views, valid_set.num_views) == (1 + CACHED_VIEWS, 1)
    assert train_set.cache.rows.shape[:2] == (5, 48)
    assert valid_set.cache.rows.shape[:2] == (1, 16)
    assert train_set.photographs.memory_left == 0
    assert {*tmp_path.iterdir()} == {*train_set.cache.files[:1], *valid_set.cache.files[:1]}
    run.fingerprint = "others"
    others = open_activations(run, splits, resources)
    assert {*tmp_path.iterdir()} == {each.cache.files[0] for each in others}


def test_an_epochs_loss_is_the_mean_of_its_photographs(splits, monkeypatch):
    """Nothing learns here, so that the loss is known; the last batch is one photograph."""
    run = begin(epochs=1, batch_size=8)
    learner = learner_of(run, splits["train"], 17)
    sizes = []

    def step(loss, scaler, number):
        sizes.append((number, loss.item()))

    monkeypatch.setattr(learner, "step", step)
    monkeypatch.setattr("learning.fit.learning_precision", lambda model, num_frozen: torch.float32)
    model = run.model.eval()
    monkeypatch.setattr(model, "train", lambda mode=True: model)
    loss, sums = train_one_epoch(learner, 1)
    assert [number for number, _ in sizes] == [0, 1, 2]
    means = [mean for _, mean in sizes]
    assert loss == pytest.approx((8 * means[0] + 8 * means[1] + means[2]) / 17, rel=1e-5)

    photographs, views, _ = draw_epoch(learner, 1)
    with torch.no_grad():
        batches = learner.activations.batches(photographs, views, 17)
        logits = model(torch.cat([*batches]))
    labels = torch.from_numpy(learner.labels[photographs])
    direct = torch.stack([logits[labels == c].sum(0) for c in range(int(labels.max()) + 1)])
    torch.testing.assert_close(sums.sums, direct, rtol=1e-4, atol=1e-4)
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1).item()
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_loss_that_is_no_number_ends_the_epoch(splits, monkeypatch):
    run = begin(epochs=1, batch_size=8)
    learner = learner_of(run, splits["train"])
    steps = []

    def step(loss, scaler, number):
        steps.append(number)
        if number == 2:
            with torch.no_grad():
                run.model.head.bias.fill_(torch.nan)

    monkeypatch.setattr(learner, "step", step)
    loss, _ = train_one_epoch(learner, 1)
    assert math.isnan(loss)
    assert steps == [0, 1, 2, 3]  # of 6


def test_a_killed_run_learns_on_bit_for_bit(splits):
    """With dropout; of a pretrained network, which has an average."""

    def begin_dropping() -> Run:
        run = begin(source="weights", epochs=3, batch_size=8)
        torch.manual_seed(1)
        run.model = new_model("cnn", 4, 32, [8])[0]
        return run

    peace = begin_dropping()
    learner = learner_of(peace, splits["train"], 24)
    for epoch in (1, 2):
        train_one_epoch(learner, epoch)
    learner.write_state(peace, 2)
    resumed = copy.deepcopy(peace)  # as if it came from a file
    expected, _ = train_one_epoch(learner, 3)
    torch.manual_seed(99)
    again = learner_of(resumed, splits["train"], 24)
    assert train_one_epoch(again, 3)[0] == expected
    for one, other in ((learner.model, again.model), (learner.network, again.network)):
        assert all(value.equal(other.state_dict()[key]) for key, value in one.state_dict().items())
