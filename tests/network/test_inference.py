"""The fast form of a network, and results that do not depend on the company."""

import threading

import numpy as np
import pytest
import torch
from conftest import random_images
from torch import nn

from network.checkpoint import new_model
from network.classifier import count_frozen_layers
from network.devices import rows_at_once
from network.inference import compute_logits, extract_features, for_inference, infer

# Where a CPU has no bfloat16, that takes ten times as long.
PRECISIONS = [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def default_model():
    return new_model("efficientnet_lite0", 4, 96)[0].eval()


@pytest.fixture(scope="module")
def small_model():
    torch.manual_seed(0)
    return for_inference(new_model("cnn", 3, 32)[0], torch.float32)


def test_for_inference_is_the_same_network(default_model):
    fast = for_inference(default_model, torch.float32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    batch = random_images(3, 96)
    with torch.inference_mode():
        torch.testing.assert_close(fast(batch), default_model(batch), rtol=1e-3, atol=1e-3)
        half = for_inference(default_model, torch.bfloat16)(batch)
        assert half.dtype == torch.float32
        assert (half != fast(batch)).any()
        assert (half.softmax(1) - fast(batch).softmax(1)).abs().max() < 0.03


def test_for_inference_is_a_copy_that_does_not_learn(monkeypatch):
    model, *_ = new_model("cnn", 3, 32)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    monkeypatch.setattr("network.inference.native_precision", lambda device: torch.bfloat16)
    fast = for_inference(model)
    assert fast.precision == torch.bfloat16
    assert next(fast.head.parameters()).dtype == torch.float32
    assert not fast.training
    assert not any(p.requires_grad for p in fast.parameters())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert before.keys() == model.state_dict().keys()
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    assert for_inference(model, torch.float32).precision == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_photograph_gets_the_same_result_in_any_batch(default_model, precision):
    """To the last bit, or a resumed run would be another run."""
    fast = for_inference(default_model, precision)
    images = random_images(19, 96)
    together = compute_logits(fast, [images])
    num_frozen = count_frozen_layers(fast.body)
    maps = fast.run_frozen(images, num_frozen)
    features = extract_features(fast, [maps], 19, num_frozen)
    for size in (1, 5):
        assert compute_logits(fast, images.split(size)).equal(together)
        assert extract_features(fast, maps.split(size), 19, num_frozen).equal(features)


def test_a_network_always_sees_the_same_number_of_rows(small_model):
    seen = []

    def look(x):
        seen.append(x.shape)
        return small_model(x)

    batches = [random_images(count, 32, seed=count) for count in (1, 8, 11, 0, 16)]
    results = [*infer(small_model, look, batches)]
    rows = rows_at_once(torch.device("cpu"))
    assert {*seen} == {(rows, 32, 32, 3)}
    assert len(seen) == 1 + 1 + 2 + 0 + 2
    assert [len(result) for result in results] == [1, 8, 11, 0, 16]
    with torch.inference_mode():
        for result, batch in zip(results, batches):
            if len(batch):
                torch.testing.assert_close(result, small_model(batch))


@pytest.mark.parametrize("end", ["done", "an error", "left early"])
def test_threads_are_as_many_as_before_whatever_happens(small_model, monkeypatch, end):
    """What a thread sets may be for all of them, with some libraries of linear algebra."""
    before, calls, set_num_threads = torch.get_num_threads(), [], torch.set_num_threads

    def spy(number):
        calls.append((threading.current_thread() is threading.main_thread(), number))
        set_num_threads(number)

    def batches():
        yield from [random_images(1, 32)] * 5
        if end == "an error":
            raise ValueError("a photograph is gone")

    monkeypatch.setattr(torch, "set_num_threads", spy)
    results = infer(small_model, small_model, batches())
    if end == "an error":
        with pytest.raises(ValueError, match="a photograph is gone"):
            [*results]
    elif end == "left early":
        next(results)
        results.close()
    else:
        assert len([*results]) == 5
    assert (False, 1) in calls
    assert calls[-1] == (True, before)
    assert torch.get_num_threads() == before


def test_features_are_what_the_head_sees_in_the_memory_that_is_given(small_model):
    images, given = random_images(11, 32), []

    def allocate(*shape):
        given.append(torch.full(shape, torch.nan))
        return given[-1]

    features = extract_features(small_model, images.split(4), 11, allocate=allocate)
    assert [memory is features for memory in given] == [True]
    assert features.shape == (11, 4096)
    np.testing.assert_allclose(
        small_model.head(features).numpy(), compute_logits(small_model, [images]), atol=1e-5
    )
