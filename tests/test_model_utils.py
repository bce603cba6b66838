"""Checkpoints: what is saved comes back, a damaged file is one sentence, and what they answer."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from conftest import CALIBRATION, random_images, small_info

import model_utils
from formats.pth import read_archive
from network.ood import ood_score
from running.errors import ImageError, InputError

CLASS_MEANS = torch.eye(3)


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of an untrained basic CNN, with its network, what it knows, and its path."""
    torch.manual_seed(0)
    model, preprocessing, _ = model_utils.new_model("cnn", 3, 40)
    info = small_info(preprocessing)
    path = tmp_path / "checkpoint.pth"
    model_utils.save_checkpoint(path, model, info, CLASS_MEANS)
    return model.eval(), info, path


@pytest.fixture
def loaded(saved):
    return model_utils.load_checkpoint(saved[2], precision=torch.float32)


def assert_same_info(one, other) -> None:
    assert np.array_equal(one.calibration.quantiles, other.calibration.quantiles)
    assert dataclasses.replace(one, calibration=other.calibration) == other


# --- There and back ---------------------------------------------------------------------


def test_a_checkpoint_rebuilds_the_network_alone(saved, loaded):
    model, info, _ = saved
    again, known = loaded
    batch = random_images(4, 40)
    with torch.inference_mode():
        torch.testing.assert_close(again(batch), model(batch) / 0.5)
    assert again.class_means.equal(CLASS_MEANS)
    assert again.temperature == 0.5
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert_same_info(known, info)
    assert known.categories == ["2", "10", "rose"]
    assert known.names[0] == "orchid"
    assert known.preprocessing.crop == 40
    assert known.seed == 7


def test_a_checkpoint_holds_what_version_1_knows(saved):
    """Under the names that it reads."""
    _, _, path = saved
    entries = read_archive(path)
    assert {*entries} == {
        "format_version",
        "arch",
        "head",
        "categories",
        "names",
        "preprocessing",
        "calibration",
        "figures",
        "seed",
        "command",
        "date",
        "versions",
        "state_dict",
    }
    assert entries["format_version"] == 4
    assert {*entries["calibration"]} == {"temperature", "patterns", "quantiles"}
    assert entries["calibration"]["patterns"].equal(CLASS_MEANS)
    assert torch.is_tensor(entries["calibration"]["quantiles"])
    assert {*entries["figures"]} == {
        "epoch",
        "valid_loss",
        "valid_accuracy",
        "valid_images",
        "precision",
    }


def test_halving_changes_matrices_alone_and_answers_little(saved, loaded, tmp_path):
    _, _, path = saved
    half = tmp_path / "half.pth"
    model_utils.halve(path, half)
    before, after = read_archive(path), read_archive(half)
    assert before.keys() == after.keys()
    for key, value in before["state_dict"].items():
        expected = value.half() if value.dim() > 1 else value
        assert after["state_dict"][key].dtype == expected.dtype
        assert after["state_dict"][key].equal(expected)
    assert after["calibration"]["patterns"].dtype == torch.float16
    assert after["calibration"]["quantiles"].dtype == torch.float32
    assert half.stat().st_size < 0.55 * path.stat().st_size
    model, info = model_utils.load_checkpoint(half, precision=torch.float32)
    assert_same_info(info, loaded[1])
    batches = [random_images(4, 40).numpy()]
    difference = model_utils.predict(model, batches) - model_utils.predict(loaded[0], batches)
    assert 0 < difference.abs().max() < 0.01


# --- Damage -----------------------------------------------------------------------------


def _archive(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _changed(**entries):
    def change(whole: bytes) -> bytes:
        checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
        checkpoint.update(entries)
        return _archive({key: value for key, value in checkpoint.items() if value is not None})

    return change


def _calibration(**entries):
    """Change what a checkpoint's calibration says, which is whole otherwise."""
    whole = {
        "temperature": CALIBRATION.temperature,
        "patterns": CLASS_MEANS,
        "quantiles": torch.from_numpy(CALIBRATION.quantiles),
    }
    return _changed(calibration={**whole, **entries})


def _state(change):
    def changed(whole: bytes) -> bytes:
        checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
        change(checkpoint["state_dict"])
        return _archive(checkpoint)

    return changed


SIZES = {"resize": 45, "crop": 40, "mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bicubic"}

DAMAGED = {
    "truncated": lambda whole: whole[:-1000],
    "html": lambda whole: b"<!doctype html><title>404</title>",
    "another version": _changed(format_version=1),
    "another network": _changed(arch="vgg99"),
    "a network that is refused": _changed(arch="vit_b_16"),
    "fewer categories and names": _changed(categories=["2", "10"], names=["a", "b"]),
    "no weights": _changed(state_dict={}),
    "weights that are none": _changed(state_dict=1),
    "no head": _changed(head={}),
    "another size": _changed(preprocessing={**SIZES, "resize": 64, "crop": 64}),
    "a calibration that is none": _changed(calibration=7),
    "class means of other categories": _calibration(patterns=torch.eye(4)),
    "class means that are no numbers": _calibration(patterns=CLASS_MEANS + torch.nan),
    "quantiles that fall": _calibration(quantiles=torch.linspace(1, 0, 1001)),
    "a tensor for a version": _changed(format_version=torch.ones(2)),
    "a weight that is not finite": _state(lambda state: state["head.bias"].fill_(torch.inf)),
    "a weight of another shape": _state(lambda state: state.update({"head.bias": torch.ones(4)})),
    "a weight too few": _state(lambda state: state.pop("head.bias")),
}


def test_what_is_damaged_here_is_whole_without_that(saved):
    """So that each change below is what is refused."""
    _, info, path = saved
    whole = path.read_bytes()
    for change in (
        _changed(),
        _calibration(),
        _changed(preprocessing=SIZES),
        _changed(head={"in_features": 6400, "hidden_units": [], "depths": []}),
    ):
        path.write_bytes(change(whole))
        again = model_utils.load_checkpoint(path)[1]
        assert again.categories == info.categories


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_is_one_sentence(saved, damage):
    _, _, path = saved
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    with pytest.raises(InputError, match=r"checkpoint\.pth") as caught:
        model_utils.load_checkpoint(path)
    assert "\n" not in str(caught.value)


# --- Answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_photograph_gets_its_prediction_or_keeps_its_error(loaded, batch_size):
    model, _ = loaded
    images = random_images(7, 40).numpy()
    gone = {i: ImageError(f"{i} is gone") for i in (0, 3, 4, 5, 8)}
    pictures = iter(images[:5])
    items = [(f"photo {i}", gone.get(i) or next(pictures)) for i in range(10)]
    predictions = [*model_utils.predict_each(model, items, batch_size)]
    assert [key for key, _ in predictions] == [key for key, _ in items]
    logits = model_utils.compute_logits(model, [images[:5]])
    rows = iter(
        zip(logits.softmax(1).numpy(), ood_score(logits, model.class_means).tolist(), strict=True)
    )
    for i, (_, prediction) in enumerate(predictions):
        if i in gone:
            assert prediction is gone[i]
        else:
            probabilities, ood_scores = next(rows)
            assert (prediction.probabilities == probabilities).all()
            assert prediction.ood_score == ood_scores
    assert [*model_utils.predict_each(model, [], batch_size)] == []
