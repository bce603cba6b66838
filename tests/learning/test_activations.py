"""Activations of the frozen layers: computed once, and the same wherever they are kept."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from images.decode import load_batches
from learning.activations import Activations, discard_leftovers
from learning.resources import ProcessGroup, Resources
from learning.views import Photographs
from network.checkpoint import new_model
from network.classifier import count_frozen_layers
from network.inference import for_inference


@pytest.fixture(scope="module")
def network():
    """A pretrained network, its frozen layers, and its preprocessing."""
    model, preprocessing, _ = new_model("efficientnet_lite0", 4, 64)
    return for_inference(model, torch.float32), count_frozen_layers(model.body), preprocessing


@pytest.fixture
def paths(drawn):
    return sorted(map(str, drawn.glob("train/*/*.jpg")))[:21]


ORDER, VIEWS = np.arange(21), np.arange(21) % 2


def open_activations(network, paths, folder=".", memory=0, num_views=2, identity="", **more):
    model, num_frozen, preprocessing = network
    seed, varied = more.pop("seed", 5), more.pop("varied", False)
    resources = Resources(folder=folder, total_memory=memory, **more)
    photographs = Photographs(paths, preprocessing, seed, resources, varied=varied)
    return Activations(model, num_frozen, photographs, num_views, identity)


@pytest.mark.parametrize("place", ["memory", "file", "nowhere"])
def test_activations_are_the_same_wherever_they_are_kept(
    network, paths, tmp_path, monkeypatch, place
):
    model, num_frozen, preprocessing = network
    if place == "nowhere":
        monkeypatch.setattr("os.posix_fallocate", lambda *_: os.close(-1))  # raises OSError
    memory = 10**9 if place == "memory" else 0
    activations = open_activations(network, paths, tmp_path, memory, 3, workers=2)
    assert (activations.rows is None) == (place == "nowhere")
    assert place in activations.location
    order = np.random.default_rng(0).permutation(21)
    for _ in range(2):
        batches = [*activations.batches(order, ORDER % 3, [10] * len(order))]
        assert [len(batch) for batch in batches] == [10, 10, 1]
    assert len(os.listdir(tmp_path)) == (1 if place == "file" else 0)
    if place != "nowhere":  # of 63 views the 21 that were asked for were computed
        assert activations.filled.sum() == 21
    pixels = open_activations((model, 0, preprocessing), paths)
    expected = model.run_frozen(torch.cat([*pixels.batches(order, ORDER % 3)]), num_frozen)
    torch.testing.assert_close(torch.cat(batches), expected, rtol=1e-3, atol=1e-3)
    activations.discard()
    assert os.listdir(tmp_path) == []


def test_without_frozen_layers_they_are_the_pixels(network, paths):
    activations = open_activations((network[0], 0, network[2]), paths)
    assert activations.rows is None
    expected = np.concatenate([*load_batches(paths, network[2])])
    assert (torch.cat([*activations.in_order()]).numpy() == expected).all()


def test_processes_compute_their_shards_and_nothing_twice(network, paths):
    seen = []

    def progress(batches, total, description, unit="", done=0):
        seen.append((total, description))
        return iter(batches)

    activations = open_activations(network, paths, memory=10**9, progress=progress)
    whole = torch.cat([*activations.batches(ORDER, VIEWS)])
    assert torch.cat([*activations.batches(ORDER, VIEWS)]).equal(whole)
    [*activations.in_order()]
    assert seen == [(21, "new views"), (10, "new views")]
    for rank in (0, 1):
        shard = open_activations(network, paths, memory=10**9, processes=ProcessGroup(rank, 2))
        count = len(whole[rank::2])
        mine = torch.cat([*shard.batches(np.arange(count), VIEWS[rank::2])])
        assert mine.equal(whole[rank::2])


def test_activations_in_a_file_outlive_a_run_that_is_killed(network, paths, tmp_path, monkeypatch):
    def open_again(some=paths, **changes):
        return open_activations(network, some, tmp_path, **changes)

    first = open_again(identity="these")
    expected = torch.cat([*first.batches(ORDER, VIEWS)])
    again = open_again(identity="these")
    assert again.filled.sum() == 21
    monkeypatch.setattr(again, "_compute", None)  # nothing is computed twice
    assert torch.cat([*again.batches(ORDER, VIEWS)]).equal(expected)

    os.truncate(first.file, 10_000)  # damaged
    assert not open_again(identity="these").filled.any()
    for changes in ({"seed": 6}, {"num_views": 3}, {"varied": True}, {"some": paths[1:]}):
        other = open_again(**{"identity": "these", **changes})
        assert other.file != first.file
    other = open_again(identity="others")
    assert other.file != first.file
    discard_leftovers(other.resources, [other])
    assert os.listdir(tmp_path) == [other.file.name]


def test_a_file_that_the_disk_cannot_hold_is_not_tried(network, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    activations = open_activations(network, paths, tmp_path)
    assert activations.location == "nowhere, as there is no room for them"
    activations.discard()
    assert os.listdir(tmp_path) == []
