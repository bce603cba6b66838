"""The resume file: what it holds comes back as it was, and nothing in it is believed unchecked."""

import copy
import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import METRICS, random_images, small_info
from torch.nn import functional as F

from formats.pth import read_archive
from learning.evaluation import Evaluation
from learning.resume import (
    HISTORY,
    RunRecord,
    TrainingState,
    is_of_run,
    load_training,
    restore_optimizer,
    save_training,
)
from network.checkpoint import new_model
from running.errors import InputError
from running.settings import Settings, resolve_settings


def record_of_two_epochs(**settings) -> RunRecord:
    chosen = resolve_settings(Settings("cnn", **settings), 32, False, False)
    record = RunRecord(chosen, None, "fingerprint")
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for epoch, accuracy in ((1, 0.4), (2, 0.8)):
        result = Evaluation(1.5, 1.25, accuracy, logits)
        record.add_epoch(epoch, 2.5, result, 3.5, True)
    record.best = result
    return record


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A resume file of two epochs, with all that it was made of."""
    torch.manual_seed(0)
    model, preprocessing, _ = new_model("cnn", 3, 32)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters())
    F.cross_entropy(model(random_images(4, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    state = TrainingState(
        2, model, averaged, optimizer.state_dict()["state"], torch.get_rng_state()
    )
    record = record_of_two_epochs()
    path = tmp_path_factory.mktemp("made") / "last.pth"
    save_training(path, state, preprocessing, record)
    return path, state, preprocessing, record


@pytest.fixture
def saved(made, tmp_path):
    """The same in a file that a test may change."""
    path, state, preprocessing, _ = made
    return shutil.copy(path, tmp_path / "last.pth"), state, preprocessing, record_of_two_epochs()


def assert_same_network(one, other) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(value.equal(theirs[key]) for key, value in ours.items())


def assert_same_record(one: RunRecord, other: RunRecord) -> None:
    assert (one.best.logits == other.best.logits).all()
    without = [
        dataclasses.replace(each, best=each.best._replace(logits=None)) for each in (one, other)
    ]
    assert without[0] == without[1]


# --- There and back ---------------------------------------------------------------------


def test_what_is_saved_comes_back(saved):
    path, state, preprocessing, record = saved
    again, same_preprocessing, same_record = load_training(path, 3)
    assert again.epoch == 2
    assert same_preprocessing == preprocessing
    assert_same_record(record, same_record)
    assert_same_network(again.model, state.model)
    assert_same_network(again.averaged, state.averaged)
    assert (again.model.head.weight != again.averaged.head.weight).any()
    assert again.random.equal(state.random)
    optimizer = torch.optim.Adam(again.model.parameters())
    restore_optimizer(optimizer, again.optimizer)
    kept = optimizer.state_dict()["state"]
    assert kept.keys() == state.optimizer.keys()
    for i, values in state.optimizer.items():
        assert all(value.equal(kept[i][key]) for key, value in values.items())


def test_what_is_no_average_is_kept_once(saved, tmp_path):
    _, state, preprocessing, record = saved
    path = tmp_path / "alone.pth"
    save_training(path, state._replace(averaged=state.model), preprocessing, record)
    assert read_archive(path)["averaged"] is None
    again, *_ = load_training(path, 3)
    assert again.averaged is again.model


@pytest.mark.parametrize("settings", [{"hidden_units": [7, 5]}, {"weights": "none", "seed": 9}])
def test_a_record_comes_back(settings):
    record = record_of_two_epochs(**settings)
    assert_same_record(RunRecord.from_entries(record.entries(), 3), record)


def test_suspects_come_back_and_files_without_them_are_read():
    record = record_of_two_epochs()
    record.suspects = [(3, 2), (0, 1)]
    entries = record.entries()
    again = RunRecord.from_entries(entries, 3)
    assert again.suspects == [(3, 2), (0, 1)]
    assert again.list_suspects([], np.array([], int), []) == []  # of fewer photographs
    listed = again.list_suspects([*"abcd"], np.array([0, 0, 0, 1]), ["rose", "aster", "tulip"])
    assert listed == [
        {"file": "d", "name": "aster", "looks_like": "tulip"},
        {"file": "a", "name": "rose", "looks_like": "aster"},
    ]
    del entries["suspects"]
    assert RunRecord.from_entries(entries, 3).suspects == []


def test_a_history_without_the_calibrated_loss_is_read():
    """Of version 1."""
    record = record_of_two_epochs()
    entries = record.entries()
    entries["history"] = [
        {key: value for key, value in row.items() if key != "calibrated_loss"}
        for row in record.history
    ]
    again = RunRecord.from_entries(entries, 3)
    assert [row["calibrated_loss"] for row in again.history] == [None, None]
    assert [row["valid_loss"] for row in again.history] == [1.5, 1.5]
    assert all([*row] == [*HISTORY] for row in again.history)


def test_columns_of_other_names_are_left_out():
    record = record_of_two_epochs()
    entries = copy.deepcopy(record.entries())
    entries["history"][0]["more"] = "x"
    assert_same_record(RunRecord.from_entries(entries, 3), record)


# --- Not believed -----------------------------------------------------------------------


def spoil(path, place: str, value) -> None:
    """Change one entry of a resume file."""
    entries = read_archive(path)
    *way, last = [int(key) if key.isdecimal() else key for key in place.split(".")]
    part = entries
    for key in way:
        part = part[key]
    if value == "is missing":
        del part[last]
    else:
        part[last] = value
    torch.save(entries, path)


ROW = dict.fromkeys(HISTORY, 1.0) | {"epoch": 2, "saved": 1}
IMPOSSIBLE = [
    ("format_version", 1),
    ("epoch", -1),
    ("epoch", 3),
    ("epoch", "2"),
    ("epoch", True),
    ("model", {}),
    ("model", []),
    ("averaged", {}),
    ("averaged", 1),
    ("random", torch.zeros(9, dtype=torch.uint8)),
    ("random", None),
    ("optimizer", []),
    ("arch", "vgg99"),
    ("arch", "efficientnet_lite0"),
    ("head", {}),
    ("head.in_features", 10**9),
    ("preprocessing.crop", 10**6),
    ("preprocessing.crop", 64),  # other features than the head takes
    ("run", {}),
    ("run", None),
    ("run.source", 7),
    ("run.photographs", 5),
    ("run.photographs", None),
    ("run.history", []),
    ("run.history", {}),
    ("run.history", [{}]),
    ("run.history", [5]),
    ("run.history", [{**ROW, "saved": 0}]),
    ("run.history", [{**ROW, "epoch": 1}]),
    ("run.history", [{**ROW, "saved": 1.0}]),
    ("run.history", [{**ROW, "valid_loss": math.nan}]),
    ("run.history", [{**ROW, "calibrated_loss": math.inf}]),
    ("run.history", [{**ROW, "calibrated_loss": "x"}]),
    ("run.history", [{**ROW, "train_loss": None}]),
    ("run.best", {}),
    ("run.best", None),
    ("run.best.loss", None),
    ("run.best.calibrated_loss", math.nan),
    ("run.best.accuracy", 1),
    ("run.best.more", 1),
    ("run.best.logits", torch.zeros(5, 4)),
    ("run.best.logits", torch.zeros(5, 3, dtype=torch.float16)),
    ("run.best.logits", torch.full((5, 3), torch.nan)),
    ("run.best.logits", torch.zeros(())),
    ("run.best.logits", None),
    ("run.suspects", None),
    ("run.suspects", [[1]]),
    ("run.suspects", [[1, 3]]),
    ("run.suspects", [["x", 1]]),
    ("run.suspects", [[-1, 1]]),
    ("run.suspects", [[math.inf, 1]]),
    ("run.settings", {}),
    ("run.settings", None),
    ("run.settings.arch", "vgg99"),
    ("run.settings.more", 1),
    *[
        (f"run.settings.{name}", value)
        for name, values in {
            "arch": [None, 5, "is missing"],
            "weights": [5, [], "is missing"],
            "hidden_units": [None, "8", 8, "is missing"],
            "tune": [None, 5, "is missing"],
            "epochs": [None, -1, 10**9, 2.0, True, "is missing"],
            "lr": [None, 0.0, -1.0, 1, "x", math.nan, math.inf, 101.0, "is missing"],
            "batch_size": [None, 0, 10**7, "16", "is missing"],
            "image_size": [None, 31, 1025, "is missing"],
            "seed": [None, -1, 2**63, True, "is missing"],
        }.items()
        for value in values
    ],
]


@pytest.mark.parametrize(("place", "value"), IMPOSSIBLE)
def test_a_resume_file_is_not_believed(saved, place, value):
    path, *_ = saved
    spoil(path, place, value)
    with pytest.raises(InputError, match=str(path)) as caught:
        load_training(path, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("run.settings.tune", "half"),
        ("run.settings.hidden_units", ["8"]),
        ("run.settings.hidden_units", [0]),
    ],
)
def test_what_no_run_could_have_written_is_refused(saved, place, value):
    path, *_ = saved
    spoil(path, place, value)
    with pytest.raises(InputError, match=str(path)):
        load_training(path, 3)


def test_an_epoch_before_the_first_one_is_refused(saved):
    path, *_ = saved
    spoil(path, "epoch", -1)
    spoil(path, "run.history", [{**ROW, "epoch": -1}])
    with pytest.raises(InputError, match=str(path)):
        load_training(path, 3)


def test_a_file_of_other_categories_is_refused(saved):
    with pytest.raises(InputError, match="is damaged, or of another set of categories"):
        load_training(saved[0], 4)


def test_too_little_memory_is_no_damage(saved, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("learning.resume.check_forward", fail)
    with pytest.raises(MemoryError):
        load_training(saved[0], 3)

    def fail_as_pytorch_does(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("learning.resume.check_forward", fail_as_pytorch_does)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_training(saved[0], 3)


def changed_optimizer(kept, change):
    kept = {i: dict(values) for i, values in kept.items()}
    change(kept)
    return kept


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.pop(0),
        lambda kept: kept.update({99: kept[0]}),
        lambda kept: kept[0].pop("exp_avg"),
        lambda kept: kept[0].update(more=torch.ones(())),
        lambda kept: kept[0].update(step=torch.ones(2)),
        lambda kept: kept[1].update(exp_avg=torch.zeros(1)),
        lambda kept: kept[1].update(exp_avg_sq=None),
        lambda kept: kept[1].update(exp_avg=kept[1]["exp_avg"] + torch.nan),
        lambda kept: kept.update({0: []}),
    ],
)
def test_what_an_optimizer_kept_of_other_parameters_is_refused(saved, change):
    _, state, _, _ = saved
    optimizer = torch.optim.Adam(state.model.parameters())
    restore_optimizer(optimizer, state.optimizer)
    kept = changed_optimizer(state.optimizer, change)
    with pytest.raises(InputError, match=r"the optimizer's state in last\.pth is damaged"):
        restore_optimizer(optimizer, kept)


# --- Whose it is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metrics": METRICS._replace(epoch=1, valid_loss=1.5)}, True),
        # The run was killed when it had saved a better network, but not yet the rest.
        ({"metrics": METRICS._replace(epoch=3, valid_loss=0.1)}, True),
        ({"metrics": METRICS._replace(epoch=2, valid_loss=0.1)}, False),
        ({"metrics": METRICS._replace(epoch=2, valid_loss=1.5), "seed": 1}, False),
        ({"metrics": METRICS._replace(epoch=2, valid_loss=1.5), "arch": "resnet18"}, False),
    ],
)
def test_a_checkpoint_is_of_the_run_whose_best_network_it_is(saved, changes, expected):
    _, state, preprocessing, record = saved
    info = small_info(preprocessing, **{"seed": 0, **changes})
    assert is_of_run(info, state, record) == expected


def test_photographs_are_those_of_the_run():
    record = RunRecord(Settings(), None)
    assert record.take_photographs("one", 3)  # a new run takes what there is
    assert record.photographs == "one"
    record.best = Evaluation(1.0, 1.0, 0.5, np.zeros((3, 2), np.float32))
    assert record.take_photographs("one", 3)
    assert not record.take_photographs("others", 3)
    assert not record.take_photographs("one", 4)
    assert record.photographs == "one"


# --- In words ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "source", "expected"),
    [
        ({"epochs": 3}, None, "network: cnn, starting from scratch, 64 x 64 pixels, 3 epochs"),
        (
            {"epochs": 1, "tune": "all"},
            "a.pth",
            "network: cnn, starting from a.pth, 64 x 64 pixels, 1 epoch",
        ),
        (
            {"epochs": 2, "tune": "tail"},
            "a.pth",
            "network: cnn, starting from a.pth, 64 x 64 pixels, 2 epochs of the last third of "
            "its layers",
        ),
        (
            {"epochs": 0, "tune": "tail"},
            "a.pth",
            "network: cnn, starting from a.pth, 64 x 64 pixels, the head alone",
        ),
    ],
)
def test_what_learns_is_said(settings, source, expected):
    assert RunRecord(Settings("cnn", **settings), source).describe(64) == expected


def test_the_best_network_so_far_is_said():
    record = RunRecord(Settings(), "a.pth")
    record.add_epoch(0, 1.0, Evaluation(1.0, 1.0, 0.75, None), 1.0, True)
    expected = "the best network so far is in c.pth (the head, 75.00% on valid)"
    assert record.describe_best("c.pth") == expected
    record.add_epoch(1, 1.0, Evaluation(1.0, 1.0, 0.8125, None), 1.0, True)
    record.add_epoch(2, 1.0, Evaluation(1.0, 1.0, 0.5, None), 1.0, False)
    expected = "the best network so far is in c.pth (epoch 1, 81.25% on valid)"
    assert record.describe_best("c.pth") == expected


def test_an_epoch_is_a_row_of_the_history():
    record = RunRecord(Settings(), None)
    record.add_epoch(4, 1.5, Evaluation(0.5, 0.25, 0.75, None), 9.5, False)
    assert record.history == [
        {
            "epoch": 4,
            "train_loss": 1.5,
            "valid_loss": 0.5,
            "calibrated_loss": 0.25,
            "valid_accuracy": 0.75,
            "seconds": 9.5,
            "saved": 0,
        }
    ]
