"""Building a network, new or from what a file says of it, which is not believed."""

import pytest
import torch
from conftest import random_images, save_small
from torch import nn

from formats.pth import state_of, write_archive
from formats.schema import preprocessing_entries
from images.decode import Preprocessing
from network.architectures import OWN_ARCHITECTURES, Architecture
from network.checkpoint import (
    FORMAT_VERSION,
    HEAD_PARAMETERS,
    describe_head,
    new_model,
    read_entries,
    rebuild,
)
from network.layers import basic_cnn
from running.errors import InputError
from running.flags import IMAGE_SIZE

# --- New networks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "given", "expected"),
    [
        (32, None, (32, 32)),
        (40, None, (40, 40)),
        (20, None, (32, 32)),
        (64, None, (64, 64)),
        (68, None, (68, 64)),
        (500, None, (71, 64)),
        (32, 32, (32, 32)),
        (500, 32, (36, 32)),
        (32, 64, (64, 64)),
        (None, None, (71, 64)),
    ],
)
def test_small_pictures_are_not_enlarged_for_a_network_of_any_size(side, given, expected):
    preprocessing = new_model("cnn", 2, given, side=side)[1]
    assert (preprocessing.resize, preprocessing.crop) == expected
    assert IMAGE_SIZE.holds(preprocessing.crop)


def test_a_network_says_where_its_weights_are_from(tmp_path):
    assert new_model("cnn", 2)[2] is None
    assert new_model("efficientnet_lite0", 2, 32, weights="none")[2] is None
    assert "efficientnet-lite0" in new_model("efficientnet_lite0", 2, 32)[2]
    path = str(tmp_path / "checkpoint.pth")
    save_small(path, ["1", "2", "3"], ["1", "2", "3"])
    model, _, source = new_model("cnn", 2, 32, weights=path)
    assert source == path
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_only_a_pretrained_network_is_seen_at_several_depths_and_folded():
    kinds = [
        (
            model.feature_layers,
            any(isinstance(module, nn.BatchNorm2d) for module in model.modules()),
        )
        for model in (
            new_model("efficientnet_lite0", 2, 32)[0],
            new_model("efficientnet_lite0", 2, 32, weights="none")[0],
        )
    ]
    assert len(kinds[0][0]) > 1
    assert [has_norm for _, has_norm in kinds] == [False, True]
    assert kinds[1][0] == []


@pytest.mark.parametrize("hidden_units", [[], [7], [7, 5]])
def test_the_head_has_the_hidden_layers_that_are_asked_for(hidden_units):
    model, *_ = new_model("cnn", 3, 32, hidden_units)
    layers = [*model.head] if hidden_units else [model.head]
    hidden = [nn.Linear, nn.ReLU, nn.Dropout]
    assert [type(layer) for layer in layers] == hidden * len(hidden_units) + [nn.Linear]
    assert describe_head(model) == {
        "in_features": 256 * 4 * 4,
        "hidden_units": hidden_units,
        "depths": [],
    }
    assert layers[-1].out_features == 3


@pytest.mark.parametrize("message", ["Calculated output size is too small", "out of memory"])
def test_a_size_that_is_too_small_is_one_sentence(monkeypatch, message):
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            raise RuntimeError(message)

    preprocessing = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
    architecture = Architecture(Fails, preprocessing, None)
    monkeypatch.setattr("network.checkpoint.find_architecture", lambda arch: architecture)
    if message == "out of memory":  # nothing that a larger size would mend
        with pytest.raises(RuntimeError, match=message):
            new_model("small", 2, 32)
    else:
        with pytest.raises(InputError, match=r"small cannot work on 32 x 32 pixels; try a larger"):
            new_model("small", 2, 32)


# --- Networks of a file -----------------------------------------------------------------


@pytest.fixture
def described():
    """A network of hidden layers, and what a file would say of it."""
    torch.manual_seed(0)
    model, preprocessing, _ = new_model("cnn", 3, 32, [8])
    entries = {
        "arch": "cnn",
        "head": describe_head(model),
        "preprocessing": preprocessing_entries(preprocessing),
    }
    return model, entries, state_of(model)


def test_a_network_is_built_again(described):
    model, entries, state = described
    again, preprocessing = rebuild(entries, 3, state)
    assert not again.training
    assert preprocessing == new_model("cnn", 3, 32)[1]
    assert describe_head(again) == entries["head"]
    images = random_images(2, 32)
    with torch.inference_mode():
        assert again(images).equal(model.eval()(images))


@pytest.mark.parametrize(
    ("num_parameters", "built"), [(0, True), (HEAD_PARAMETERS, True), (10**9, False)]
)
def test_a_network_is_not_built_before_the_file_holds_parameters_for_it(
    described, monkeypatch, num_parameters, built
):
    _, entries, state = described
    builds = []

    def build():
        builds.append(1)
        return basic_cnn()

    architecture = Architecture(
        build, OWN_ARCHITECTURES["cnn"].preprocessing, None, num_parameters=num_parameters
    )
    monkeypatch.setattr("network.checkpoint.find_architecture", lambda arch: architecture)
    if built:
        rebuild(entries, 3, state)
    else:
        with pytest.raises(ValueError, match="more layers than parameters"):
            rebuild(entries, 3, state)
    assert builds == [1] * built
    entries["head"]["in_features"] = 10**9
    with pytest.raises(ValueError, match="more layers than parameters"):
        rebuild(entries, 3, state)
    assert builds == [1] * built


# --- Entries of a file ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([1, 2], "is not a checkpoint of train.py"),
        ({}, "is not a checkpoint of train.py"),
        ({"format_version": "4", "run": 1}, "is not a checkpoint of train.py"),
        ({"format_version": True, "run": 1}, "is not a checkpoint of train.py"),
        ({"format_version": torch.ones(2), "run": 1}, "is not a checkpoint of train.py"),
        (
            {"format_version": 1, "run": 1},
            f"by another version of this project (format 1, here {FORMAT_VERSION})",
        ),
        ({"format_version": FORMAT_VERSION, "calibration": 1}, "but the other one: checkpoint.pth"),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path, entries, words):
    path = tmp_path / "a.pth"
    write_archive(path, entries)
    with pytest.raises(InputError) as caught:
        read_entries(path, "run")
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
