"""What is answered: names, unknown and review, groups, and some categories alone."""

import dataclasses

import numpy as np
import pytest
from conftest import small_info

from formats.schema import QUANTILES, Calibration, CalibrationSet, Prediction
from prediction.answers import Answers, find_promises, match_groups
from running.errors import ImageError, InputError

CATEGORIES, NAMES = ["2", "10", "rose"], ["orchid", "tulip", "rose"]
QUANTILE = np.linspace(0, 1, QUANTILES, dtype=np.float32)


def info_of(shares, labels, ood_score=0.8):
    """What a file knows of a network that predicted these shares (V, 3) for valid."""
    logs = np.log(shares).astype(np.float16)
    valid = CalibrationSet(logs, labels, np.broadcast_to(ood_score, len(labels)))
    calibration = Calibration(1.0, QUANTILE, valid)
    return small_info(None, categories=CATEGORIES, names=NAMES, calibration=calibration)


def wrong_of(wrong: int = 0, count: int = 400):
    """What a file knows of a network whose least certain names for valid were wrong."""
    shares = np.full((count, 3), 0.005)
    shares[:, 0] = 0.99
    shares[:wrong] = [0.4, 0.35, 0.25]
    return info_of(shares, (np.arange(count) < wrong).astype(int))


def predict(*shares: float, ood_score: float = 0.8) -> Prediction:
    return Prediction(np.array(shares, np.float32), ood_score)


def answer(result: Prediction, info, **policy) -> str:
    answers = Answers(info, NAMES, **policy)
    return answers.record("a.jpg", answers.restrict(result)).answer


def test_a_category_may_be_called_unknown():
    answers = Answers(wrong_of(), ["unknown", "review", "rose"])
    record = answers.record("a.jpg", predict(0.9, 0.1, 0))
    assert (record.answer, record.is_named) == ("unknown", True)
    assert answers.is_right(record, 0)


@pytest.mark.parametrize(
    ("policy", "result", "expected"),
    [
        ({"promise": 0.99}, predict(0.1, 0.9, 0.0), "review"),
        ({"promise": 0.99}, predict(0.005, 0.994, 0.001), "tulip"),
        ({"promise": 0.99}, predict(0.005, 0.99, 0.005, ood_score=0.01), "review"),
        ({"promise": 0.99, "keep": 0.95}, predict(0.4, 0.4, 0.2, ood_score=0), "unknown"),
    ],
)
def test_with_a_promise_what_is_not_safe_is_for_review(policy, result, expected):
    assert answer(result, wrong_of(40), **policy) == expected


def test_a_promise_is_about_what_is_not_unknown():
    info = wrong_of(40)
    valid = info.calibration.valid
    ood_score = np.where(valid.labels == 1, 0.9, np.linspace(0, 0.8, 400))
    calibration = info.calibration._replace(valid=valid._replace(ood_score=ood_score))
    info = dataclasses.replace(info, calibration=calibration)
    assert Answers(info, NAMES, promise=0.8).threshold < 0.5
    assert Answers(info, NAMES, promise=0.8, keep=0.3).threshold > 0.9


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (wrong_of(count=80), "takes 299 .* there are 80; --promise 0.95 can"),
        (wrong_of(400), "no promise can be kept"),
        (small_info(None, calibration=Calibration(1.0, QUANTILE)), "earlier version"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_one_sentence(info, words):
    with pytest.raises(InputError, match=words):
        Answers(info, NAMES, promise=0.99)


def test_the_promises_of_a_file_are_those_that_answers_keep():
    info = wrong_of(count=200)
    found = [*find_promises(info)]
    assert [promise for promise, *_ in found] == [0.98, 0.95]  # too few photographs for 0.99
    for promise, probability, least, _ in found:
        answers = Answers(info, NAMES, promise=promise)
        assert (probability, least) == (answers.threshold, answers.least)
    assert not [*find_promises(small_info(None))]


def test_some_categories_alone_share_the_probability():
    answers = Answers(wrong_of(), NAMES, only=np.array([False, True, True]))
    record = answers.record("a.jpg", answers.restrict(predict(0.5, 0.1, 0.4)))
    assert record.answer == "rose"
    assert [guess.probability for guess in record.guesses] == pytest.approx([0.8, 0.2])
    assert answers.restrict(ImageError("gone")).args == ("gone",)
    assert answers.is_right(record, 0) is None  # not among these
    # Also where the others have all of the probability.
    record = answers.record("a.jpg", answers.restrict(predict(1, 0, 0)))
    assert [guess.probability for guess in record.guesses] == [0.5, 0.5]


def mixed(count: int = 400):
    """What a file knows of a network whose names for valid are all right, of three kinds alike."""
    labels = np.arange(count) % 3
    shares = np.full((count, 3), 0.005)
    shares[np.arange(count), labels] = 0.99
    return info_of(shares, labels, np.linspace(0.5, 1, count))


def of(number: int, ood_score: float = 0.8) -> Prediction:
    """A photograph that looks like one of the kinds."""
    return predict(*np.roll([0.99, 0.005, 0.005], number % 3), ood_score=ood_score)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ([of(i) for i in range(60)], None),
        ([of(i, 0.8 * (i >= 5)) for i in range(60)], None),
        ([of(i, 0.8 * (i < 30)) for i in range(60)], r"50% look like nothing .* \(2% of valid\)"),
        ([of(i % 2) for i in range(60)], "50% look most like tulip .33% of valid"),
        ([of(1)], None),
        ([ImageError("gone")] * 60, None),
    ],
)
def test_no_promise_is_made_for_photographs_unlike_valid(batch, words):
    answers = Answers(mixed(), NAMES, promise=0.99)
    if words is None:
        answers.require_alike(batch)
        return
    with pytest.raises(InputError, match=f"^--promise 0.99 .* of 60 looked at, {words}.*--checked"):
        answers.require_alike(batch)
    Answers(mixed(), NAMES).require_alike(batch)  # without a promise, anything is named


def test_what_is_unknown_is_no_part_of_the_comparison():
    batch = [of(i, 0.8 * (i < 30)) for i in range(60)]
    Answers(mixed(), NAMES, promise=0.99, keep=0.95).require_alike(batch)


def test_in_a_stream_a_promise_is_broken_off():
    answers = Answers(mixed(), NAMES, promise=0.99)
    stream = [of(i) for i in range(50)] + [of(i, -0.5) for i in range(110)]
    said, named = [], []
    for result in stream:
        named.append(answers.record("a.jpg", result).is_named)
        if why := answers.watch(result):
            said.append((len(named), why))
    [(first, why)] = said
    assert first == 80 and "of 80 looked at, 38% look like nothing" in why
    assert named[:50] == [True] * 50 and not any(named[50:])
    assert answers.record("a.jpg", of(0)).answer == "review"


def test_a_promise_can_rest_on_a_checked_sample():
    shares = np.full((100, 3), 0.2)
    shares[:, 0] = np.linspace(0.4, 0.99, 100)
    labels = np.where(shares[:, 0] > 0.6, 0, -1)  # the less certain names are wrong
    sample = CalibrationSet(np.log(shares), labels, np.full(100, -0.5))
    answers = Answers(mixed(), NAMES, promise=0.9, sample=sample)
    assert 0.55 < answers.threshold <= 0.61
    answers.require_alike([of(0, -0.5)] * 60)  # it is about this batch
    assert answers.record("a.jpg", of(0, -0.5)).is_named
    with pytest.raises(InputError, match="takes 299 checked .* are 100; --promise 0.97 can be"):
        Answers(mixed(), NAMES, promise=0.99, sample=sample._replace(labels=labels * 0))
    with pytest.raises(InputError, match="takes 59 checked .* there are 50; --promise"):
        some = CalibrationSet(*(array[50:] for array in sample))
        Answers(mixed(), NAMES, promise=0.95, sample=some)


def test_where_no_name_is_safe_a_group_may_be():
    shares = np.full((2000, 3), 0.005)
    shares[:, 0] = 0.99
    shares[:100] = [0.495, 0.485, 0.02]
    shares[100:140] = [0.4, 0.2, 0.4]
    labels = np.zeros(2000, int)
    labels[:100:2], labels[100:140] = 1, 2
    groups = match_groups({"2": "bulbs", "tulip": "bulbs"}, CATEGORIES, NAMES)
    assert groups == ["bulbs", "bulbs", "rose"]
    info = info_of(shares, labels)
    answers = Answers(info, NAMES, promise=0.99, groups=groups)
    assert answers.record("a.jpg", predict(0.99, 0.005, 0.005)).answer == "orchid"
    record = answers.record("a.jpg", predict(0.5, 0.49, 0.01))
    assert (record.answer, record.is_named) == ("bulbs", False)
    assert (answers.is_right(record, 1), answers.is_right(record, 2)) == (True, False)
    assert answers.record("a.jpg", predict(0.4, 0.2, 0.4)).answer == "review"
    assert answer(predict(0.5, 0.49, 0.01), info, promise=0.99) == "review"


@pytest.mark.parametrize(
    ("groups", "words"),
    [({"oak": "trees"}, "oak"), ({"2": "rose", "10": "rose"}, "rose"), ({}, "")],
)
def test_impossible_groups_are_one_sentence(groups, words):
    with pytest.raises(InputError, match=f"--group: .*{words}"):
        match_groups(groups, CATEGORIES, NAMES)
