"""What the head sees of photographs, and the file that keeps it."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import file_size_limit

import learning.features
from data_utils import find_data
from images.batches import digest_each
from learning.activations import Activations
from learning.features import HEADER, FeatureCache, identify
from learning.resources import Resources
from learning.run import Run
from learning.views import Photographs
from network.checkpoint import new_model
from network.inference import for_inference
from running.settings import Settings

ONE, OTHER = "01" * 32, "02" * 32
WIDTH = 6


def digests(*numbers):
    return [bytes([number]) * 16 for number in numbers]


def rows(*numbers):
    return np.array(numbers, np.float16)[:, None] + np.arange(WIDTH, dtype=np.float16) / 8


def read(file, *numbers):
    """The features that a file has of some photographs; None where it has none."""
    into = torch.zeros(len(numbers), WIDTH)
    found = file.read(digests(*numbers), into)
    return [row.tolist() if is_there else None for row, is_there in zip(into, found, strict=True)]


@pytest.fixture
def path(tmp_path):
    """A file of three photographs."""
    file = FeatureCache(tmp_path / "features.bin", ONE, WIDTH)
    file.append(digests(1, 2), rows(1, 2))
    file.append(digests(3), rows(3))
    return tmp_path / "features.bin"


def test_rows_come_back_in_any_order(path, monkeypatch):
    monkeypatch.setattr(learning.features, "BLOCK", 2)
    file = FeatureCache(path, ONE, WIDTH)
    expected = {number: row.tolist() for number, row in zip((1, 2, 3), rows(1, 2, 3))}
    assert read(file, 3, 9, 1) == [expected[3], None, expected[1]]
    assert read(file, 2, 3, 2, 1) == [expected[number] for number in (2, 3, 2, 1)]
    assert read(file, 9) == [None]
    assert read(FeatureCache(path.with_name("none"), ONE, WIDTH), 1) == [None]


@pytest.mark.parametrize("num_frozen", [1, 5, 37, 38])
def test_half_a_row_at_the_end_counts_as_not_there(path, num_frozen):
    content = path.read_bytes()
    path.write_bytes(content[:-num_frozen] if num_frozen < 32 else content + bytes(num_frozen - 36))
    file = FeatureCache(path, ONE, WIDTH)
    assert [each is not None for each in read(file, 1, 2, 3)] == [True, True, num_frozen > 32]
    file.append(digests(4), rows(4))
    again = FeatureCache(path, ONE, WIDTH)
    assert read(again, 1, 4) == [rows(1)[0].tolist(), rows(4)[0].tolist()]
    assert (path.stat().st_size - HEADER) % again.row == 0


@pytest.mark.parametrize("place", [0, 17, -1])
def test_a_row_that_is_damaged_counts_as_not_there(path, place):
    content = bytearray(path.read_bytes())
    row = FeatureCache(path, ONE, WIDTH).row
    content[HEADER + row + place % row] ^= 1
    path.write_bytes(content)
    file = FeatureCache(path, ONE, WIDTH)
    assert [each is not None for each in read(file, 1, 2, 3)] == [True, False, True]


def test_what_is_stale_goes_when_it_is_most_of_the_file(path):
    file = FeatureCache(path, ONE, WIDTH)
    file.take({str(digest): digest for digest in digests(1, 3)}, Resources(), pytest.fail)
    assert len(FeatureCache(path, ONE, WIDTH).places) == 3
    file.take({str(digest): digest for digest in digests(3, 7)}, Resources(), pytest.fail)
    for each in (file, FeatureCache(path, ONE, WIDTH)):
        assert {*each.places} == {*digests(3)}
        assert read(each, 3, 1) == [rows(3)[0].tolist(), None]
    file.append(digests(5), rows(5))
    assert read(FeatureCache(path, ONE, WIDTH), 5, 3) == [rows(5)[0].tolist(), rows(3)[0].tolist()]


# --- Of photographs -------------------------------------------------------------------


@pytest.fixture
def run():
    torch.manual_seed(0)
    model, preprocessing, _ = new_model("cnn", 4, 32)
    return Run(Settings(epochs=0), model.eval(), preprocessing, "weights", -1)


@pytest.fixture
def activations(run, drawn):
    paths = find_data(drawn).splits["valid"].paths
    return Activations(for_inference(run.model), 0, Photographs(paths, run.preprocessing))


@pytest.fixture
def known(activations):
    return dict(zip(activations.paths, digest_each(activations.paths, 1), strict=True))


def test_features_are_those_of_the_network_in_half_precision(activations):
    features = FeatureCache().of(activations)
    batches = activations.batches(np.arange(8), np.zeros(8, int))
    [whole] = [activations.model.features(x) for x in batches]
    assert features[:8].equal(whole.half().float())
    assert len(features) == 16


def test_what_is_known_is_not_computed_again(run, activations, known, tmp_path, monkeypatch):
    path = tmp_path / "features.bin"

    def opened(digests=known):
        run.open_features(path)
        features = run.features
        features.take(digests, Resources(), pytest.fail)
        return features

    first = opened()
    assert first.count_missing() == 16
    expected = first.of(activations)
    monkeypatch.setattr(activations, "_compute", lambda *_: 1 / 0)
    second = opened()
    assert second.count_missing() == 0
    assert {*second.places} == {*known.values()}
    assert second.of(activations).equal(expected)
    monkeypatch.undo()
    # Ten of them: they are less than half of what is needed with 20 others.
    changed = {path: bytes(16) if i < 6 else found for i, (path, found) in enumerate(known.items())}
    third = opened(changed)
    assert third.count_missing() == 1
    assert third.of(activations).equal(expected)


def test_a_full_disk_leaves_the_result_as_it_is(run, activations, known, tmp_path):
    path = tmp_path / "features.bin"
    run.open_features(path)
    features = run.features
    said = []
    features.take(known, Resources(), said.append)
    with file_size_limit(HEADER + 3 * features.row):
        found = features.of(activations)
    assert found.equal(FeatureCache().of(activations))
    assert features.path is None
    assert said == [f"features are no longer kept for an --update: {path}: File too large"]


def test_features_of_another_body_or_preprocessing_are_not_taken(run):
    model, preprocessing = run.model, run.preprocessing
    one = identify(for_inference(model), preprocessing)
    assert identify(for_inference(model), preprocessing) == one
    assert identify(for_inference(model), preprocessing._replace(resize=40)) != one
    with torch.no_grad():
        next(model.body.parameters())[0] += 0.1
    assert identify(for_inference(model), preprocessing) != one


@pytest.mark.parametrize(
    ("epochs", "changes", "kept"),
    [
        (0, {}, True),
        (5, {"is_update": True}, True),
        (5, {}, False),  # the body will learn
        (0, {"weights_source": None}, False),
        (5, {"is_update": True, "epoch": 1, "rng_state": torch.get_rng_state()}, False),
    ],
)
def test_features_are_kept_for_frozen_bodies_alone(run, tmp_path, epochs, changes, kept):
    run.settings = Settings(epochs=epochs)
    run = dataclasses.replace(run, **changes)
    run.open_features(tmp_path / "features.bin")
    assert bool(run.features.path) == kept
