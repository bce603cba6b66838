"""The fast form of a network, and results that do not depend on the company."""

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
