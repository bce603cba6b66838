"""Flags: both spellings, and one sentence for a value that is not allowed."""

import argparse
import math

import pytest

from running.flags import Number, add_flag, fill_in, shard, widths


def test_a_flag_has_both_spellings():
    parser = argparse.ArgumentParser()
    add_flag(parser, "lr", "learning_rate", type=float)
    for spelling in ("--lr", "--learning_rate", "--learning-rate"):
        assert parser.parse_args([spelling, "5"]).lr == 5


@pytest.mark.parametrize(
    ("number", "allowed", "refused"),
    [
        (Number(int, 0, 5), [0, 5], [-1, 6, 2.0, True, False, None, "2", math.nan]),
        (Number(float, 0, 5), [0.0, 5.0], [-0.1, 5.1, 2, math.nan, math.inf, "2.0", True]),
        (Number(float, 0, 5, above=True), [1e-9, 5.0], [0.0, -0.0, 0]),
        (Number(int, 1, math.inf), [1, 10**30], [0]),
    ],
)
def test_only_numbers_within_the_limits_are_taken(number, allowed, refused):
    assert all(number.holds(value) for value in allowed)
    assert not [value for value in refused if number.holds(value)]
    assert [number(str(value)) for value in allowed] == allowed
    assert {type(number(str(value))) for value in allowed} == {number.kind}


def test_widths_and_shards_are_read():
    assert widths("512") == [512]
    assert widths("1,2,3,4,5,6,7,8,9,999999") == [*range(1, 10), 999999]
    assert (shard("1/1"), shard("2/8"), shard("8/8")) == ((1, 1), (2, 8), (8, 8))


def test_a_flag_that_stands_alone_does_not_take_the_folder_for_its_value():
    for argv, expected in [
        (["--check-data", "flowers"], ["--check-data=pictures", "flowers"]),
        (["flowers", "--check_data"], ["flowers", "--check_data=pictures"]),
        (["--check_data", "files", "flowers"], ["--check_data", "files", "flowers"]),
        (["--check_data=files", "flowers"], ["--check_data=files", "flowers"]),
    ]:
        assert fill_in(argv, "check_data", ("pictures", "files")) == expected
