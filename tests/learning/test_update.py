"""What an update says of the run before it."""

from pathlib import Path

import numpy as np
import pytest
from conftest import METRICS, small_info

from images.decode import Preprocessing
from images.manifest import NO_DIGESTS, Manifest, compare
from learning.resume import HISTORY, Penalty, RunRecord
from learning.start import Start
from learning.update import (
    Earlier,
    describe_known,
    describe_start,
    describe_tuning,
    names_to_keep,
)
from running.settings import Settings


def row(epoch, accuracy, seconds, saved=1):
    return dict(zip(HISTORY, (epoch, 0.5, 0.5, 0.5, accuracy, seconds, saved), strict=True))


def seen(train, categories=("2", "10", "rose")):
    digests = np.arange(train, dtype=np.uint8)[:, None].repeat(16, 1)
    labels = np.arange(train) % len(categories)
    none = np.empty((0, 16), np.uint8), np.empty(0, np.int64)
    return Manifest([*categories], {"train": (digests, labels), "valid": none})


@pytest.fixture
def earlier():
    """A run of a head and two epochs on a hundred photographs."""
    info = small_info(Preprocessing(36, 32, (0.0,) * 3, (1.0,) * 3), metrics=METRICS)
    history = [row(0, 0.9, 20.0), row(1, 0.95, 50.0), row(2, 0.94, 50.0, 0)]
    record = RunRecord(Settings(), "weights", history=history, seen=seen(100))
    return Earlier(Path("checkpoint.pth"), None, info, record, is_aside=False)


def update_of(photographs, files="") -> RunRecord:
    """The record of an update that has found some photographs."""
    return RunRecord(Settings(), "weights", files, seen=photographs, is_update=True)


def test_what_is_computed_comes_with_the_seconds_that_the_earlier_run_took(earlier):
    changes, features = describe_start(earlier, update_of(seen(120)), 60)
    assert changes == "since the run in checkpoint.pth: 20 added"
    assert features == "features: 60 of 120 photographs have to be computed, in about 12 s"


@pytest.mark.parametrize(("files", "said"), [("a", "nothing"), ("b", "nothing but names of files")])
def test_the_same_files_are_told_from_files_of_other_names(earlier, files, said):
    earlier.record.photographs = "a"
    changes, _ = describe_start(earlier, update_of(seen(100), files), 0)
    assert changes == f"since the run in checkpoint.pth: {said}"


def test_epochs_are_offered_with_their_cost_and_their_gain(earlier):
    fewer = seen(60, ("2", "10"))
    lines = describe_tuning(earlier, compare(earlier.record.seen, fewer), 60)
    assert [*lines] == [
        "the layers before the head are those of the earlier run, whose 2 epochs were not run "
        "again: they would take about 60 s, and had raised the accuracy on valid from 90.00% to "
        "95.00%; --update --epochs 2 runs them",
        "the head has forgotten category rose exactly; the layers before it learned from those "
        "photographs, and may remember them",
    ]


def test_the_time_of_epochs_goes_by_the_photographs_that_they_were_run_on(earlier):
    """After an update, whose record has the history of the epochs, and fewer photographs."""
    update = RunRecord(Settings(), "weights", seen=seen(50), is_update=True)
    update.tuned, update.tuned_on = earlier.tuned, earlier.tuned_on
    info = small_info(earlier.info.preprocessing, metrics=METRICS._replace(epoch=0))
    later = earlier._replace(info=info, record=update)
    assert later.seconds(60, 60) == earlier.seconds(60, 60) == (12, 60)
    update.tuned_on = NO_DIGESTS  # a file of an earlier version
    assert later.seconds(60, 60) == (None, 100)


def test_of_a_head_alone_there_is_nothing_to_say(earlier):
    info = small_info(earlier.info.preprocessing, metrics=METRICS._replace(epoch=0))
    assert [*describe_tuning(earlier._replace(info=info), None, 60)] == []


def test_names_that_say_more_than_a_folder_are_kept(earlier):
    assert names_to_keep(earlier, update_of(None)) == {"2": "orchid"}


def test_a_category_with_another_name_keeps_what_is_known_of_it(earlier):
    """Its name, and that it has not been forgotten."""
    renamed = update_of(seen(100, ("wild", "10", "rose")))
    assert names_to_keep(earlier, renamed) == {"wild": "orchid"}
    changes = compare(earlier.record.seen, renamed.seen)
    assert changes.describe() == "1 renamed category (2 is wild now)"
    assert len([*describe_tuning(earlier, changes, 100)]) == 1


def test_photographs_that_were_in_train_flatter_whoever_learned_from_them():
    known, none = {"valid": 3, "test": 2}, {"valid": 0, "test": 0}
    assert [*describe_known(known, known)] == [
        "3 of valid and 2 of test came from train, where the layers before the head learned from "
        "them: the figures of both networks are too good"
    ]
    by_head = (
        "2 of valid came from train, where the earlier network learned from them: its figure is "
        "too good; this one did not"
    )
    assert [*describe_known(none, {"valid": 2, "test": 2})] == [by_head]
    assert [*describe_known(known, {"valid": 5, "test": 2})][1:] == [by_head]
    assert [*describe_known(none, none)] == []


@pytest.mark.parametrize(
    ("photographs", "categories", "holds"),
    [(100, 20, True), (110, 22, True), (89, 20, False), (111, 20, False), (100, 23, False)],
)
def test_a_penalty_holds_for_a_tenth_more_or_less(photographs, categories, holds):
    found = Penalty(0.01, 100, 20).value_for(photographs, categories)
    assert found == (0.01 if holds else None)


def test_other_photographs_of_the_same_number_take_another_penalty(earlier):
    record = update_of(None)
    record.penalty = Penalty(0.01, 100, 3)
    start = Start(None, None, record, None, earlier.info, earlier)
    digests, labels = seen(100).splits["train"]
    assert start.take_photographs(
        "others", 0, Manifest([*"abc"], {"train": (digests + 100, labels)})
    )
    assert record.penalty.value_for(100, 3) is None


def test_a_penalty_counts_the_photographs_that_have_changed_since():
    found = Penalty(0.01, 100, 20)
    assert found._replace(changed=10).value_for(100, 20) == 0.01
    assert found._replace(changed=11).value_for(100, 20) is None
