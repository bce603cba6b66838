"""From pixels to logits: several depths, frozen layers, folding, and what BatchNorm remembers."""

import pytest
import torch
from conftest import as_if_it_had_learned, random_images
from torch import nn

from network.architectures import find_architecture
from network.checkpoint import new_model
from network.classifier import (
    Classifier,
    chain,
    count_frozen_layers,
    find_feature_layers,
    pool,
    run_layer,
)
from network.inference import for_inference
from network.layers import efficientnet_lite


@pytest.fixture(scope="module")
def default_model():
    return new_model("efficientnet_lite0", 4, 96)[0].eval()


class Skips(nn.Module):
    """More than a chain: the ReLU is no child."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.two(self.one(x)).relu().mean((2, 3))


# --- The chain and its layers --------------------------------------------------


def test_a_chain_opens_what_only_runs_its_children():
    relu, conv, skips, linear = nn.ReLU(), nn.Conv2d(3, 3, 1), Skips(), nn.Linear(4, 2)
    body = nn.Sequential(nn.Sequential(conv, nn.Sequential(relu)), skips, linear)
    assert chain(body) == [conv, relu, skips, linear]


def test_the_head_sees_the_ends_of_the_last_stages():
    body = efficientnet_lite().eval()
    layers = chain(body)
    x, shapes = torch.rand(1, 3, 224, 224), []
    feature_layers = find_feature_layers(body, x)
    for layer in layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert [shapes[i] for i in feature_layers] == [
        (112, 14, 14),
        (192, 7, 7),
        (320, 7, 7),
        (1280, 7, 7),
    ]
    assert count_frozen_layers(body) == feature_layers[0] + 1
    model, *_ = new_model("efficientnet_lite0", 2)
    assert model.feature_layers == feature_layers
    assert model.head.in_features == 2 * (112 + 192 + 320 + 1280)


# Channels of the maps that the head sees; DenseNet has a ReLU between its children.
DEPTHS = {
    "vgg11": [512, 4096],
    "resnet18": [128, 256, 512],
    "densenet121": [],
    "mobilenet_v3_small": [48, 96, 576, 1024],
    "efficientnet_b0": [112, 192, 320, 1280],
    "convnext_tiny": [384, 768, 768],
    "regnet_y_400mf": [208, 440],
    "shufflenet_v2_x0_5": [96, 192, 1024],
    "squeezenet1_1": [384, 512],
    "mnasnet0_5": [48, 96, 160, 1280],
}
QUICK = "shufflenet_v2_x0_5"


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[pytest.mark.slow] * (arch != QUICK)) for arch in DEPTHS]
)
def test_the_head_takes_the_stages_of_each_family_and_folding_changes_nothing(arch):
    torch.manual_seed(0)
    body = as_if_it_had_learned(find_architecture(arch).build())
    feature_layers = find_feature_layers(body, torch.rand(1, 3, 96, 96))
    model = Classifier(body, nn.Identity(), (127.5,) * 3, (64,) * 3, feature_layers).eval()
    x, channels = model._normalise(torch.zeros(1, 96, 96, 3)), []
    with torch.inference_mode():
        for i, layer in enumerate(chain(body)[: max(feature_layers, default=-1) + 1]):
            x = run_layer(layer, x)
            channels += [x.shape[1]] * (i in feature_layers)
        assert channels == DEPTHS[arch]

        images = torch.randint(256, (2, 96, 96, 3), dtype=torch.uint8)
        fast = for_inference(model, torch.float32)(images)
        torch.testing.assert_close(fast, model(images), rtol=1e-3, atol=1e-3)


def test_frozen_layers_apart_change_nothing(default_model):
    batch = random_images(3, 96)
    with torch.inference_mode():
        whole = default_model(batch)
        for num_frozen in (1, count_frozen_layers(default_model.body)):
            frozen = default_model.run_frozen(batch, num_frozen)
            torch.testing.assert_close(default_model(frozen, num_frozen), whole)


# --- Normalising, pooling, the temperature ----------------------------------------------


def test_pooling_is_mean_and_standard_deviation():
    x = torch.rand(3, 5, 4, 6)
    pooled = pool(x).numpy()
    torch.testing.assert_close(pooled[:, :5], x.numpy().mean((2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled[:, 5:], x.numpy().std((2, 3)), rtol=1e-3, atol=1e-5)
    vectors = torch.rand(3, 7)
    assert pool(vectors).equal(vectors)
    assert pool(x.bfloat16()).dtype == torch.float32
    constant = torch.ones(1, 2, 3, 3, requires_grad=True)
    pool(constant).sum().backward()
    assert constant.grad.isfinite().all()


# --- BatchNorm --------------------------------------------------------------------------


def test_frozen_statistics_survive_a_batch_of_one():
    body = efficientnet_lite()
    model = Classifier(body, nn.Linear(1280, 2), (127.5,) * 3, (64,) * 3)
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key}
    model.frozen_statistics = True
    model.train()
    model(random_images(1, 32)).sum().backward()
    assert model.training
    assert all((model.state_dict()[key] == before[key]).all() for key in before)
    model.frozen_statistics = False
    model.train()
    model(random_images(4, 32))
    assert any((model.state_dict()[key] != before[key]).any() for key in before)
