"""Activations of the frozen layers: computed once, and the same wherever they are kept."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import learning.head
from images.batches import load_batches
from learning.activations import Activations
from learning.cache import discard_leftovers
from learning.distributed import ProcessGroup
from learning.resources import Resources
from learning.views import PhotographViews
from network.checkpoint import new_model
from network.classifier import count_frozen_layers
from network.inference import extract_features, for_inference


@pytest.fixture(scope="module")
def default_model():
    model, preprocessing, _ = new_model("efficientnet_lite0", 4, 64)
    return model.eval(), preprocessing


@pytest.fixture(scope="module")
def small_model():
    torch.manual_seed(0)
    model, preprocessing, _ = new_model("cnn", 4, 32)
    return for_inference(model, torch.float32), preprocessing


@pytest.fixture
def paths(drawn):
    return sorted(map(str, drawn.glob("train/*/*.jpg")))[:21]


def views_of(paths, preprocessing, folder=".", memory=0, seed=5, **resources) -> PhotographViews:
    resources = Resources(folder=folder, total_memory=memory, **resources)
    return PhotographViews(paths, preprocessing, seed, resources)


@pytest.mark.parametrize("place", ["memory", "file", "nowhere"])
def test_activations_are_the_same_wherever_they_are_kept(
    default_model, paths, tmp_path, monkeypatch, place
):
    model, preprocessing = default_model
    fast, num_frozen = for_inference(model, torch.float32), count_frozen_layers(model.body)
    if place == "nowhere":
        monkeypatch.delattr("os.posix_fallocate")
    memory = 10**9 if place == "memory" else 0
    views = views_of(paths, preprocessing, tmp_path, memory, workers=2)
    activations = Activations(fast, num_frozen, views, 3)
    assert (activations.cache is None) == (place == "nowhere")
    assert place in activations.location
    order, numbers = np.random.default_rng(0).permutation(21), np.arange(21) % 3
    for _ in range(2):
        batches = [*activations.batches(order, numbers, 10)]
        assert [len(batch) for batch in batches] == [10, 10, 1]
    assert len(os.listdir(tmp_path)) == (2 if place == "file" else 0)
    # Of 63 views the 21 that were asked for were computed.
    if activations.cache:
        assert activations.cache.filled.sum() == 21
    pixels = Activations(fast, 0, views_of(paths, preprocessing))
    expected = model.run_frozen(torch.cat([*pixels.batches(order, numbers)]), num_frozen)
    torch.testing.assert_close(torch.cat(batches), expected, rtol=1e-3, atol=1e-3)
    activations.discard()
    assert os.listdir(tmp_path) == []


def test_with_cut_0_they_are_the_pixels(small_model, paths):
    model, preprocessing = small_model
    activations = Activations(model, 0, views_of(paths, preprocessing))
    assert activations.cache is None
    expected = np.concatenate([*load_batches(paths, preprocessing)])
    assert (torch.cat([*activations.in_order()]).numpy() == expected).all()
    assert len(activations.paths) == 21
    sizes = [len(batch) for batch in activations.batches(np.arange(21), np.zeros(21, int), 20)]
    assert sizes == [20, 1]


def test_nothing_is_computed_twice(small_model, paths):
    model, preprocessing = small_model
    seen = []

    def progress(batches, total, description, unit="", done=0):
        seen.append((total, description))
        return iter(batches)

    views = views_of(paths, preprocessing, memory=10**9, progress=progress)
    activations = Activations(model, 3, views, 2)
    expected = torch.cat([*activations.in_order()])
    assert torch.cat([*activations.in_order()]).equal(expected)
    [*activations.batches(np.arange(21), np.arange(21) % 2)]
    assert seen == [(21, "new views"), (10, "new views")]


def test_processes_compute_their_shares(small_model, paths):
    model, preprocessing = small_model
    numbers = np.arange(21) % 2

    def activations(**resources):
        return Activations(model, 3, views_of(paths, preprocessing, memory=10**9, **resources), 2)

    whole = torch.cat([*activations().batches(np.arange(21), numbers)])
    for rank in (0, 1):
        share = activations(processes=ProcessGroup(rank, 2))
        mine = whole[rank::2]
        ours = torch.cat([*share.batches(np.arange(len(mine)), numbers[rank::2])])
        assert ours.equal(mine)


def test_activations_in_a_file_outlive_a_run_that_is_killed(
    default_model, paths, tmp_path, monkeypatch
):
    model, preprocessing = default_model
    fast, num_frozen = for_inference(model), count_frozen_layers(model.body)

    def activations(seed=5, identity="these", num_views=2, some=paths, rank=0, varied=False):
        views = views_of(some, preprocessing, tmp_path, seed=seed, processes=ProcessGroup(rank, 1))
        views.varied = varied
        return Activations(fast, num_frozen, views, num_views, identity)

    first = activations()
    order, numbers = np.arange(21), np.arange(21) % 2
    expected = torch.cat([*first.batches(order, numbers)])
    again = activations()
    assert again.cache.file == first.cache.file
    assert (again.cache.filled == first.cache.filled).all()
    assert again.cache.filled.sum() == 21
    monkeypatch.setattr(again, "_compute", None)  # nothing is computed twice
    assert (torch.cat([*again.batches(order, numbers)]) == expected).all()

    for other in (  # no one else's
        activations(seed=6),
        activations(identity="others"),
        activations(num_views=3),
        activations(some=paths[1:]),
        activations(varied=True),
    ):
        assert not other.cache.filled.any()
        assert other.cache.file != first.cache.file
    first.cache.note.write_bytes(b"?")  # half a note is none
    assert not activations().cache.filled.any()
    with torch.no_grad():
        next(fast.body.parameters()).add_(1)
    other = activations()
    assert other.cache.file != first.cache.file
    discard_leftovers(other.resources, [other.cache.file])
    assert os.listdir(tmp_path) == [other.cache.file.name]


def test_a_file_that_the_disk_cannot_hold_is_not_tried(small_model, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    model, preprocessing = small_model
    activations = Activations(model, 3, views_of(paths, preprocessing, tmp_path))
    assert activations.cache is None
    assert activations.location == "nowhere, as there is no room for them"
    activations.discard()


@pytest.mark.slow
def test_features_that_do_not_fit_into_memory_lie_in_a_file_without_a_name(
    small_model, paths, tmp_path, monkeypatch
):
    model, preprocessing = small_model
    labels, heads, mapped, memmap = torch.arange(21) % 3, [], [], np.memmap
    monkeypatch.setattr(learning.head, "L2_PENALTIES", (1e-2,))
    monkeypatch.setattr(np, "memmap", lambda *a, **k: mapped.append(k["shape"]) or memmap(*a, **k))
    for memory in (10**9, 0):
        views = views_of(paths, preprocessing, tmp_path, memory)
        activations = Activations(model, 0, views)
        batches = activations.in_order()
        features = extract_features(model, batches, 21, allocate=views.resources.allocate)
        assert mapped == ([] if memory else [features.shape])
        heads.append(nn.Linear(20, 3))
        learning.head.fit_linear_head(heads[-1], features[:, :20], labels)
    assert heads[0].weight.equal(heads[1].weight)
    assert heads[0].bias.equal(heads[1].bias)
    assert os.listdir(tmp_path) == []
