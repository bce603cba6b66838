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
    as_float,
    check_forward,
    describe_head,
    new_model,
    read_entries,
    rebuild,
)
from network.layers import basic_cnn, fold_batch_norm
from running.errors import InputError
from running.flags import IMAGE_SIZE

# --- New networks -----------------------------------------------------------------------


@pytest.mark.parametrize("arch", OWN_ARCHITECTURES)
@pytest.mark.parametrize("image_size", [None, 32, 65])
def test_every_network_takes_pixels_of_its_size(arch, image_size):
    model, preprocessing, _ = new_model(arch, 7, image_size)
    side = image_size or OWN_ARCHITECTURES[arch].preprocessing.crop
    assert preprocessing.crop == side <= preprocessing.resize
    assert model.eval()(random_images(3, side)).shape == (3, 7)


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


@pytest.mark.parametrize("side", [20, 500])
def test_a_network_of_a_fixed_size_keeps_it(side):
    assert new_model("efficientnet_lite0", 2, weights="none", side=side)[1].crop == 224


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


@pytest.mark.slow
def test_alexnet_cannot_work_on_32_pixels():
    with pytest.raises(InputError, match="alexnet cannot work on 32 x 32 pixels"):
        new_model("alexnet", 2, 32, weights="none")


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


def test_a_folded_network_is_built_again(described):
    _, entries, _ = described
    model, *_ = new_model("cnn", 3, 32, [8])
    fold_batch_norm(model.eval().body)
    again, _ = rebuild(entries, 3, state_of(model))
    images = random_images(2, 32)
    with torch.inference_mode():
        assert again(images).equal(model(images))


def test_half_precision_becomes_float32(described):
    _, entries, state = described
    again, _ = rebuild(
        entries, 3, {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
    )
    assert {p.dtype for p in again.parameters()} == {torch.float32}


def changed(place: str, value):
    def change(entries, state):
        part = {"head": entries["head"], "entries": entries, "state": state}
        where, key = place.split(":")
        if value is None:
            del part[where][key]
        else:
            part[where][key] = value

    return change


IMPOSSIBLE = {
    "a list for a network": changed("entries:arch", ["cnn"]),
    "no network": changed("entries:arch", None),
    "a name without end": changed("entries:arch", "cnn" * 100),
    "no head": changed("entries:head", None),
    "a head that is none": changed("entries:head", []),
    "no preprocessing": changed("entries:preprocessing", None),
    "other preprocessing": changed("entries:preprocessing", {"resize": 3}),
    "a head of a billion": changed("head:in_features", 10**9),
    "a hidden layer of a billion": changed("head:hidden_units", [10**9]),
    "a hidden layer of nothing": changed("head:hidden_units", [0]),
    "a negative hidden layer": changed("head:hidden_units", [-8]),
    "a hidden layer of True": changed("head:hidden_units", [True]),
    "a hidden layer of a half": changed("head:hidden_units", [8.0]),
    "other hidden layers": changed("head:hidden_units", [8, 8]),
    "in_features of a half": changed("head:in_features", 4096.0),
    "no depths": changed("head:depths", None),
    "depths that are not there": changed("head:depths", [99]),
    "depths that are negative": changed("head:depths", [-1]),
    "depths in no order": changed("head:depths", [5, 3]),
    "depths twice": changed("head:depths", [3, 3]),
    "depths that are words": changed("head:depths", ["3"]),
    "a weight more": changed("state:more", torch.ones(1)),
    "a weight less": changed("state:head.0.bias", None),
    "a bias of another shape": changed("state:head.0.bias", torch.ones(9)),
    "a bias that is not finite": changed("state:head.0.bias", torch.full((8,), torch.nan)),
    "a bias of whole numbers": changed("state:head.0.bias", torch.ones(8, dtype=torch.int64)),
    "a bias that is no tensor": changed("state:head.0.bias", 1.0),
    "a count of another kind": changed("state:body.1.num_batches_tracked", torch.tensor(1.0)),
    "a count of another shape": changed("state:body.1.num_batches_tracked", torch.ones(2).long()),
}


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_what_does_not_fit_together_is_refused(described, change):
    _, entries, state = described
    IMPOSSIBLE[change](entries, state)
    with pytest.raises((ValueError, TypeError, KeyError, RuntimeError)):
        rebuild(entries, 3, state)


def test_a_file_of_other_categories_is_refused(described):
    _, entries, state = described
    with pytest.raises(ValueError, match="impossible numbers"):
        rebuild(entries, 2, state)


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


@pytest.mark.parametrize("arch", ["vgg99", "vit_b_16"])
def test_a_network_that_is_not_there_is_refused(described, arch):
    _, entries, state = described
    with pytest.raises(InputError, match=arch):
        rebuild({**entries, "arch": arch}, 3, state)


@pytest.mark.parametrize(
    "values",
    [
        None,
        [1.0, 2.0],
        torch.ones(2, dtype=torch.int64),
        torch.ones(3),
        torch.ones(2, 1),
        torch.tensor([1.0, torch.inf]),
        torch.tensor([torch.nan, 1.0]),
        torch.ones(2, dtype=torch.complex64),
    ],
)
def test_numbers_are_finite_and_of_their_shape(values):
    assert as_float(torch.ones(2, dtype=torch.float16), (2,)).dtype == torch.float32
    with pytest.raises(ValueError, match="impossible numbers"):
        as_float(values, (2,))


def test_a_head_of_other_features_is_found_out_by_a_picture(described):
    model, *_ = described
    check_forward(model.eval(), 32)
    with pytest.raises(RuntimeError):
        check_forward(model, 64)


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


def test_entries_of_this_version_are_read(tmp_path):
    entries = {"format_version": FORMAT_VERSION, "run": {"a": 1}}
    write_archive(tmp_path / "a.pth", entries)
    assert read_entries(tmp_path / "a.pth", "run") == entries
