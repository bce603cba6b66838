"""Flags: both spellings, and sentences for values that cannot be."""

import argparse
import math

import pytest

from running.flags import IMAGE_SIZE, SHARE, WORKERS, Number, add_flag, fill_in, shard, widths


@pytest.mark.parametrize(
    ("names", "spellings"),
    [
        (["top_k"], ["--top_k", "--top-k"]),
        (["gpu"], ["--gpu"]),
        (["lr", "learning_rate"], ["--lr", "--learning_rate", "--learning-rate"]),
    ],
)
def test_a_flag_has_both_spellings(names, spellings):
    parser = argparse.ArgumentParser(add_help=False)
    add_flag(parser, *names, type=int, default=3)
    (action,) = parser._actions
    assert action.option_strings == spellings
    assert action.dest == names[0]
    for spelling in spellings:
        assert parser.parse_args([spelling, "5"]) == argparse.Namespace(**{names[0]: 5})


@pytest.mark.parametrize(
    ("number", "holds", "not_these"),
    [
        (Number(int, 0, 5), [0, 5], [-1, 6, 2.0, True, False, None, "2", math.nan]),
        (Number(float, 0, 5), [0.0, 5.0], [-0.1, 5.1, 2, math.nan, math.inf, "2.0", True]),
        (Number(float, 0, 5, above=True), [1e-9, 5.0], [0.0, -0.0, 0]),
        (Number(int, 1, math.inf), [1, 10**30], [0]),
    ],
)
def test_what_a_number_may_be(number, holds, not_these):
    assert all(number.holds(value) for value in holds)
    assert not [value for value in not_these if number.holds(value)]
    assert [number(str(value)) for value in holds] == holds
    assert {type(number(str(value))) for value in holds} == {number.kind}


@pytest.mark.parametrize(
    ("number", "text", "sentence"),
    [
        (Number(int, 0, 5), "6", "6 must be from 0 to 5"),
        (Number(float, 0, 5, above=True), "0", "0 must be above 0 and at most 5"),
        (Number(float, 0, 5), "nan", "nan must be from 0 to 5"),
        (Number(float, 0, 5, hint="0.1 is usual"), "9", "9 must be from 0 to 5; 0.1 is usual"),
        (Number(int, 0, 5), "two", "'two' is not a whole number"),
        (Number(int, 0, 5), "2.5", "'2.5' is not a whole number"),
        (Number(float, 0, 5), "x", "'x' is not a number"),
        (Number(int, 0, 5), "", "'' is not a whole number"),
        (Number(int, 0, 5), "9" * 5000, None),
        (SHARE, "95", "95 must be from 0 to 1"),
        (WORKERS, "0", "0 must be from 1 to 1024"),
        (IMAGE_SIZE, "8", "8 must be from 32 to 1024"),
    ],
)
def test_a_number_that_cannot_be_is_one_sentence(number, text, sentence):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        number(text)
    if sentence:
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", [512]),
        ("512,256", [512, 256]),
        ("1,2,3,4,5,6,7,8,9,999999", [*range(1, 10), 999999]),
    ],
)
def test_widths_of_hidden_layers(text, expected):
    assert widths(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "0", "0512", "-1", "512,", ",512", "512,x", "512 256", "1.5", "1234567", "1," * 10 + "1"],
)
def test_widths_that_cannot_be_are_one_sentence(text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        widths(text)
    assert str(caught.value) == f"{text} must be whole numbers above 0, as in 512,256"


@pytest.mark.parametrize(
    ("text", "expected"), [("1/1", (1, 1)), ("2/8", (2, 8)), ("8/8", (8, 8)), ("02/08", (2, 8))]
)
def test_shards(text, expected):
    assert shard(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0/2", "3/2", "1", "1/", "/2", "1/2/3", "a/b", "-1/2", "1/0", "1.0/2"]
)
def test_shards_that_cannot_be_are_one_sentence(text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        shard(text)
    assert str(caught.value).startswith(f"{text} must be I/N with I from 1 to N")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--check_data"], ["--check_data=pictures"]),
        (["--check-data", "flowers"], ["--check-data=pictures", "flowers"]),
        (["--check_data", "files", "flowers"], ["--check_data", "files", "flowers"]),
        (["--check_data=files", "flowers"], ["--check_data=files", "flowers"]),
        (["flowers", "--check_data", "--gpu"], ["flowers", "--check_data=pictures", "--gpu"]),
    ],
)
def test_a_flag_that_stands_alone_does_not_take_what_follows(argv, expected):
    assert fill_in(argv, "check_data", ("pictures", "files")) == expected
