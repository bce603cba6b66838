"""What is answered: names, unknown and review, and some categories alone."""

import dataclasses

import numpy as np
import pytest
from conftest import small_info

from formats.schema import QUANTILES, Calibration, CalibrationSet, Prediction
from prediction.answers import (
    AnswerPolicy,
    Answers,
    describe_promises,
    match_groups,
    match_only,
    promise_entries,
    read_list,
)
from running.errors import ImageError, InputError

CATEGORIES, NAMES = ["2", "10", "rose"], ["orchid", "tulip", "rose"]
QUANTILE = np.linspace(0, 1, QUANTILES, dtype=np.float32)


def info_of(wrong: int = 0, count: int = 400):
    """What a file knows of a network that named so many of valid wrongly, all the least certain."""
    shares = np.full((count, 3), 0.005)
    shares[:, 0] = 0.99
    shares[:wrong] = [0.4, 0.35, 0.25]
    labels = np.zeros(count, int)
    labels[:wrong] = 1
    ood_score = np.full(count, 0.8)
    valid = CalibrationSet(np.log(shares).astype(np.float16), labels, ood_score)
    return small_info(
        None, categories=CATEGORIES, names=NAMES, calibration=Calibration(1.0, QUANTILE, valid)
    )


def predict(*shares: float, ood_score: float = 0.8) -> Prediction:
    return Prediction(np.array(shares, np.float32), ood_score)


def answer(rules: AnswerPolicy, result: Prediction, **info) -> str:
    answers = Answers(info_of(**info), NAMES, rules)
    return answers.record("a.jpg", answers.restrict(result)).answer


def test_without_rules_the_best_name_is_the_answer():
    assert answer(AnswerPolicy(), predict(0.2, 0.5, 0.3, ood_score=-1)) == "tulip"


def test_a_category_may_be_called_unknown():
    names = ["unknown", "review", "rose"]
    answers = Answers(info_of(), names, AnswerPolicy())
    record = answers.record("a.jpg", predict(0.9, 0.1, 0))
    assert (record.answer, record.is_named) == ("unknown", True)
    assert answers.is_right(record, 0)


def test_with_a_promise_what_is_not_safe_is_for_review():
    rules = AnswerPolicy(promise=0.99)
    assert answer(rules, predict(0.1, 0.9, 0.0), wrong=40) == "review"
    assert answer(rules, predict(0.005, 0.994, 0.001), wrong=40) == "tulip"
    assert answer(rules, predict(0.005, 0.99, 0.005, ood_score=0.01), wrong=40) == "review"
    assert answer(AnswerPolicy(promise=0.9), predict(0.4, 0.35, 0.25), wrong=10) == "orchid"


def test_unknown_comes_before_review():
    rules = AnswerPolicy(promise=0.99, keep=0.95)
    assert answer(rules, predict(0.4, 0.35, 0.25, ood_score=0.01), wrong=40) == "unknown"


def test_a_promise_is_about_what_is_not_unknown():
    """The most familiar part may be worse than all together; then it gets its own limit."""
    info = info_of(wrong=40)
    valid = info.calibration.valid
    ood_score = np.where(valid.labels == 1, 0.9, np.linspace(0, 0.8, 400))
    calibration = info.calibration._replace(valid=valid._replace(ood_score=ood_score))
    info = dataclasses.replace(info, calibration=calibration)
    assert Answers(info, NAMES, AnswerPolicy(promise=0.8)).threshold < 0.5
    assert Answers(info, NAMES, AnswerPolicy(promise=0.8, keep=0.3)).threshold > 0.9


@pytest.mark.parametrize(
    ("rules", "info", "words"),
    [
        (
            AnswerPolicy(promise=0.99),
            {"count": 80},
            "takes 299 .* knows 80; --promise 0.95 can",
        ),
        (
            AnswerPolicy(promise=0.99),
            {"wrong": 400},
            "too often wrong on valid; no promise can be kept",
        ),
    ],
)
def test_a_promise_that_cannot_be_kept_is_one_sentence(rules, info, words):
    with pytest.raises(InputError, match=words):
        Answers(info_of(**info), NAMES, rules)


def test_a_file_of_an_earlier_version_makes_no_promises():
    info = small_info(None, calibration=Calibration(1.0, QUANTILE))
    with pytest.raises(InputError, match="earlier version"):
        Answers(info, NAMES, AnswerPolicy(promise=0.99))


def test_what_is_safe_is_what_a_promise_goes_by():
    info = info_of(count=200)
    entries = promise_entries(info)
    assert [*entries] == ["0.98", "0.95"]  # 200 photographs are too few for 0.99
    for promise, safe in entries.items():
        answers = Answers(info, NAMES, AnswerPolicy(promise=float(promise)))
        assert safe == {"probability": answers.threshold, "familiarity": answers.least}
    lines = [*describe_promises(info)]
    assert [line.split(":")[0] for line in lines] == ["promise 0.98", "promise 0.95"]
    assert promise_entries(small_info(None)) == {}


def test_some_categories_alone_share_the_probability():
    answers = Answers(info_of(), NAMES, AnswerPolicy(only=np.array([False, True, True])))
    record = answers.record("a.jpg", answers.restrict(predict(0.5, 0.1, 0.4)))
    assert record.answer == "rose"
    assert record.guesses[0].probability == pytest.approx(0.8)
    assert len(record.guesses) == 2
    assert answers.restrict(ImageError("gone")).args == ("gone",)
    assert answers.is_right(record, 0) is None  # not among these
    # Also where the others have all of the probability.
    record = answers.record("a.jpg", answers.restrict(predict(1, 0, 0)))
    assert [guess.probability for guess in record.guesses] == [0.5, 0.5]
    assert record.answer == "tulip"


def test_a_batch_that_looks_otherwise_is_warned_of():
    answers = Answers(info_of(), NAMES, AnswerPolicy(promise=0.99))
    for _ in range(60):
        answers.record("a.jpg", predict(1, 0, 0))
    assert [*answers.warnings()] == []
    for _ in range(30):
        answers.record("a.jpg", predict(1, 0, 0, ood_score=-0.5))
    (line,) = answers.warnings()
    assert line.startswith(
        "warning: 33% of the photographs look unlike those of valid, of which 5%"
    )
    # Of two photographs one may be odd by chance.
    few = Answers(info_of(), NAMES, AnswerPolicy(promise=0.99))
    for ood_score in (0.8, -0.5):
        few.record("a.jpg", predict(1, 0, 0, ood_score=ood_score))
    assert [*few.warnings()] == []


def test_categories_and_names_are_read(tmp_path):
    file = tmp_path / "garden.txt"
    file.write_text("\ufefftulip\r\n\r\n 2 \n")
    assert read_list(file) == {"tulip", "2"}
    assert match_only({"tulip", "2"}, CATEGORIES, NAMES).tolist() == [True, True, False]
    with pytest.raises(InputError, match="--only: 7, foxglove: no category or name"):
        match_only({"tulip", "foxglove", "7"}, CATEGORIES, NAMES)
    file.write_text("\n")
    with pytest.raises(InputError, match="names no category"):
        read_list(file)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_list(tmp_path / "nowhere")


def test_where_no_name_is_safe_a_group_may_be():
    """Of a hundred photographs the network knows only that they are one of the first two."""
    shares = np.full((2000, 3), 0.005)
    shares[:, 0] = 0.99
    shares[:100] = [0.495, 0.485, 0.02]
    shares[100:140] = [0.4, 0.2, 0.4]
    labels = np.zeros(2000, int)
    labels[:100:2], labels[100:140] = 1, 2
    valid = CalibrationSet(np.log(shares).astype(np.float16), labels, np.full(2000, 0.8))
    info = small_info(
        None, categories=CATEGORIES, names=NAMES, calibration=Calibration(1.0, QUANTILE, valid)
    )
    groups = match_groups({"2": "bulbs", "tulip": "bulbs"}, CATEGORIES, NAMES)
    assert groups == ["bulbs", "bulbs", "rose"]
    answers = Answers(info, NAMES, AnswerPolicy(promise=0.99, groups=groups))
    assert answers.record("a.jpg", predict(0.99, 0.005, 0.005)).answer == "orchid"
    record = answers.record("a.jpg", predict(0.5, 0.49, 0.01))
    assert (record.answer, record.is_named) == ("bulbs", False)
    assert (answers.is_right(record, 1), answers.is_right(record, 2)) == (True, False)
    assert answers.record("a.jpg", predict(0.4, 0.2, 0.4)).answer == "review"
    plain = Answers(info, NAMES, AnswerPolicy(promise=0.99))
    assert plain.record("a.jpg", predict(0.5, 0.49, 0.01)).answer == "review"
    with pytest.raises(InputError, match="--group: oak: no category or name"):
        match_groups({"oak": "trees"}, CATEGORIES, NAMES)
    with pytest.raises(InputError, match="rose cannot be a group"):
        match_groups({"2": "rose", "10": "rose"}, CATEGORIES, NAMES)
    with pytest.raises(InputError, match="has no group"):
        match_groups({}, CATEGORIES, NAMES)
