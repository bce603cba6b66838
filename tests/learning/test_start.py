"""Where a run starts: at a new network, or where an earlier run stood."""

import copy

import numpy as np
import pytest
import torch
from conftest import METRICS, save_small, small_info

from learning.distributed import ProcessGroup
from learning.evaluation import Evaluation
from learning.resources import Resources
from learning.resume import RunRecord, TrainingState, save_training
from learning.start import Start, resume_run, start_new
from network.checkpoint import new_model
from running.errors import InputError
from running.run_folder import RunFolder
from running.settings import FINE_TUNING, FROM_SCRATCH, Settings, resolve_settings

CPU = torch.device("cpu")


@pytest.fixture
def weights(tmp_path) -> str:
    """A file of weights of the basic CNN."""
    path = str(tmp_path / "weights.pth")
    save_small(path, ["1", "2", "3"], ["1", "2", "3"])
    return path


# --- A new run --------------------------------------------------------------------------


def test_a_new_run_from_scratch_starts_with_epoch_1():
    start = start_new(Settings("cnn", seed=3), 4, 500, CPU, Resources())
    settings = start.record.settings
    assert not start.fits_head
    assert start.first_epoch == 1
    assert start.state is None
    assert start.record.source is None
    assert settings.recipe == FROM_SCRATCH
    assert (settings.tune, settings.image_size) == ("all", 64)
    assert start.preprocessing.crop == 64
    assert start.model.head.out_features == 4


def test_a_new_pretrained_run_starts_with_the_head(weights):
    settings = Settings("cnn", weights=weights, image_size=32, hidden_units=[7])
    start = start_new(settings, 4, None, CPU, Resources())
    assert start.fits_head
    assert start.first_epoch == 0
    assert start.record.source == weights
    assert start.record.settings.recipe == FINE_TUNING
    assert start.record.settings.tune == "all"  # what ends without pooling is seen whole
    assert start.model.head[0].out_features == 7


@pytest.mark.parametrize(("typed", "tune"), [({}, "tail"), ({"tune": "all"}, "all")])
def test_a_pretrained_chain_learns_its_tail_on_a_cpu(typed, tune):
    settings = Settings(image_size=32, **typed)
    start = start_new(settings, 4, None, CPU, Resources())
    assert start.record.settings.tune == tune
    assert start.preprocessing.crop == start.record.settings.image_size == 32


@pytest.mark.parametrize(
    ("typed", "lr"),
    [
        ({}, 4e-4),
        ({"batch_size": 64}, 4e-4),
        ({"batch_size": 256}, 8e-4),
        ({"batch_size": 16}, 2e-4),
        ({"batch_size": 256, "lr": 0.5}, 0.5),
    ],
)
def test_the_learning_rate_goes_with_the_root_of_the_batch_size(weights, typed, lr):
    settings = Settings("cnn", weights=weights, image_size=32, **typed)
    start = start_new(settings, 4, None, CPU, Resources())
    assert start.record.settings.recipe.lr == pytest.approx(lr)
    assert start.record.settings.batch_size == typed.get("batch_size", 64)


def test_a_short_side_is_all_that_a_network_of_any_size_sees():
    assert start_new(Settings("cnn"), 4, 40, CPU, Resources()).preprocessing.crop == 40


def test_the_seed_decides_about_the_new_weights():
    def head(seed):
        return start_new(Settings("cnn", seed=seed), 4, 32, CPU, Resources()).model.head.weight

    assert head(1).equal(head(1))
    assert not head(1).equal(head(2))


def test_the_primary_process_builds_first(monkeypatch):
    """It may download weights, and shows that."""
    order = []

    def progress(batches, total, description, unit="", done=0):
        return iter(batches)

    def build(*arguments):
        assert arguments[-1] is progress
        order.append("build")
        return new_model(*arguments)

    monkeypatch.setattr("learning.start.new_model", build)
    monkeypatch.setattr(ProcessGroup, "wait", lambda self: order.append("wait"))
    for rank in (0, 1):
        resources = Resources(processes=ProcessGroup(rank, 2), progress=progress)
        start_new(Settings("cnn"), 4, 32, CPU, resources)
    assert order == ["build", "wait", "wait", "build"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tune": "tail"}, "--tune tail: cnn as it is here has no tail"),
        ({"epochs": 0}, "--epochs 0 would leave cnn untrained: it starts from scratch"),
        ({"weights": "nowhere.pth"}, r"--weights nowhere\.pth: no such file"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(settings, words):
    with pytest.raises(InputError, match=words):
        start_new(Settings("cnn", **settings), 4, 32, CPU, Resources())


# --- A run that goes on -----------------------------------------------------------------


@pytest.fixture
def stood(tmp_path):
    """The folder of a run that stood behind epoch 2, and what its checkpoint knows."""
    torch.manual_seed(0)
    model, preprocessing, _ = new_model("cnn", 3, 32)
    settings = resolve_settings(Settings("cnn", epochs=4, seed=7, batch_size=16), 32, False, False)
    record = RunRecord(settings, None, "photographs")
    record.best = Evaluation(0.5, 0.5, 0.5, np.zeros((2, 3), np.float32))
    for epoch in (1, 2):
        record.add_epoch(epoch, 1.0, record.best, 1.0, epoch == 1)
    state = TrainingState(2, model, copy.deepcopy(model), {}, torch.get_rng_state())
    folder = RunFolder(tmp_path)
    save_training(folder.resume_file, state, preprocessing, record)
    return folder, small_info(preprocessing, metrics=METRICS), record


def test_a_run_goes_on_behind_its_last_epoch_with_its_settings(stood):
    folder, info, record = stood
    start = resume_run(folder, info, {}, 3, CPU)
    assert start.first_epoch == 3
    assert not start.fits_head
    assert start.state.epoch == 2
    assert start.model is start.state.model
    assert start.record.settings == record.settings
    assert start.record.photographs == "photographs"
    assert start.record.history == record.history
    assert start.preprocessing == info.preprocessing


def test_a_pretrained_run_that_goes_on_fits_no_head(stood):
    folder, info, _ = stood
    start = resume_run(folder, info, {}, 3, CPU)
    start.record.source = "a.pth"
    assert not start.fits_head
    assert start._replace(state=None).fits_head
    assert Start(start.model, start.preprocessing, start.record, None).first_epoch == 0


def test_more_epochs_extend_it(stood):
    folder, info, record = stood
    start = resume_run(folder, info, {"epochs": 9, "seed": 7}, 3, CPU)
    assert start.record.settings.recipe == record.settings.recipe._replace(epochs=9)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"epochs": 3}, "--epochs 3: the run that --resume continues has 4"),
        ({"seed": 5}, "--seed 5: the run that --resume continues has 7"),
        ({"arch": "resnet18"}, "--arch resnet18: the run that --resume continues has cnn"),
    ],
)
def test_other_settings_are_another_run(stood, typed, words):
    folder, info, _ = stood
    with pytest.raises(InputError, match=words):
        resume_run(folder, info, typed, 3, CPU)


@pytest.mark.parametrize(
    "changes", [{"seed": 8}, {"arch": "resnet18"}, {"metrics": METRICS._replace(valid_loss=0.1)}]
)
def test_a_checkpoint_of_another_run_is_refused(stood, changes):
    folder, info, _ = stood
    for name, value in changes.items():
        object.__setattr__(info, name, value)
    with pytest.raises(InputError) as caught:
        resume_run(folder, info, {}, 3, CPU)
    assert str(caught.value).startswith(f"{folder.checkpoint} is not the best network of the run")


def test_a_resume_file_of_other_categories_is_refused(stood):
    folder, info, _ = stood
    with pytest.raises(InputError, match="of another set of categories"):
        resume_run(folder, info, {}, 4, CPU)
