"""Settings: written down once, with flags, bounds, defaults and the check of a resume file."""

import argparse
import dataclasses
import math

import pytest

from running.errors import InputError
from running.recipe import FINE_TUNING, FROM_SCRATCH, MOST_EPOCHS
from running.settings import Settings, resolve_settings

NAMES = [field.name for field in dataclasses.fields(Settings)]
RESOLVED = resolve_settings(Settings(), 224, True, True)

# For each setting what may be typed, what it becomes, and what may not be typed.
TYPED = {
    "arch": ("cnn", "cnn", []),
    "weights": ("none", "none", []),
    "hidden_units": ("512,256", [512, 256], ["0", "512,x", "", "1,", "-1", "1.5"]),
    "tune": ("all", "all", ["half", ""]),
    "epochs": ("0", 0, ["-1", "1000001", "two", "1.5"]),
    "lr": ("1e-3", 1e-3, ["0", "-1", "100.1", "nan", "inf", "x"]),
    "batch_size": ("1", 1, ["0", "1000001", "x"]),
    "image_size": ("32", 32, ["31", "1025", "x"]),
    "minutes": ("0.5", 0.5, ["0", "-1", "nan", "inf", "x"]),
    "seed": (str(2**63 - 1), 2**63 - 1, ["-1", str(2**63), "1" * 30, "x"]),
}


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    Settings.add_flags(parser)
    return parser.parse_args([*arguments])


# --- Flags ------------------------------------------------------------------------------


def test_every_setting_has_a_flag_a_help_and_a_line_here():
    parser = argparse.ArgumentParser(add_help=False)
    Settings.add_flags(parser)
    flags = {action.dest: action for action in parser._actions}
    assert [*flags] == NAMES == [*TYPED]
    for name, action in flags.items():
        assert action.option_strings[0] == f"--{name}"
        assert len(action.help) > 20
        assert "{" not in action.help
        assert "(default: " in action.help
    assert "--learning-rate" in flags["lr"].option_strings
    words = f"(default: {FINE_TUNING.epochs}, for few photographs up to {MOST_EPOCHS}, from scratch"
    assert f"{words} {FROM_SCRATCH.epochs})" in flags["epochs"].help


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name in NAMES for text in TYPED[name][2]]
)
def test_what_is_impossible_is_refused(name, text):
    with pytest.raises(argparse.ArgumentError) as caught:
        parse(f"--{name}={text}")
    assert f"argument --{name}" in str(caught.value)


# --- Resolved ---------------------------------------------------------------------------


@pytest.mark.parametrize(("pretrained", "recipe"), [(True, FINE_TUNING), (False, FROM_SCRATCH)])
def test_what_is_left_out_is_filled_in(pretrained, recipe):
    settings = resolve_settings(Settings("cnn", seed=3), 96, pretrained, False)
    assert settings.recipe == recipe
    assert settings == Settings("cnn", None, [], "all", *recipe, 96, None, 3)
    left = {name for name in NAMES if getattr(settings, name) is None}
    assert left == {"weights", "minutes"}


@pytest.mark.parametrize(
    ("typed", "lr"),
    [
        ({}, 4e-4),
        ({"batch_size": 64}, 4e-4),
        ({"batch_size": 256}, 8e-4),
        ({"batch_size": 16}, 2e-4),
        ({"batch_size": 256, "lr": 0.5}, 0.5),
        ({"batch_size": 1}, 5e-5),
    ],
)
def test_the_learning_rate_goes_with_the_root_of_the_batch_size(typed, lr):
    settings = resolve_settings(Settings(**typed), 32, True, False)
    assert settings.recipe.lr == pytest.approx(lr)
    assert settings.recipe.batch_size == typed.get("batch_size", 64)
    scratch = resolve_settings(Settings(**typed), 32, False, False)
    if "lr" not in typed:
        size = typed.get("batch_size", FROM_SCRATCH.batch_size)
        expected = FROM_SCRATCH.lr * math.sqrt(size / FROM_SCRATCH.batch_size)
        assert scratch.recipe.lr == pytest.approx(expected)


@pytest.mark.parametrize(
    ("photographs", "batch_size"), [(3, 8), (79, 8), (180, 18), (2560, 256), (8189, 256)]
)
def test_from_scratch_a_small_folder_gets_enough_steps_not_to_diverge(photographs, batch_size):
    scratch = resolve_settings(Settings("cnn"), 64, False, False, photographs).recipe
    assert scratch.batch_size == batch_size
    assert scratch.lr == pytest.approx(FROM_SCRATCH.lr * math.sqrt(batch_size / 256))
    typed = resolve_settings(Settings("cnn", batch_size=100), 64, False, False, photographs)
    assert typed.batch_size == 100


def test_settings_that_do_not_go_together_are_one_sentence():
    words = "--epochs 0 would leave cnn untrained: it starts from scratch"
    with pytest.raises(InputError, match=words):
        resolve_settings(Settings("cnn", epochs=0), 32, False, False)
    assert resolve_settings(Settings("cnn", epochs=0), 32, True, False).epochs == 0
    words = "--tune tail: cnn as it is here has no tail; that needs a pretrained network"
    with pytest.raises(InputError, match=words):
        resolve_settings(Settings("cnn", tune="tail"), 32, True, False)


# --- From a resume file -----------------------------------------------------------------

IMPOSSIBLE = [
    *(("arch", 5), ("weights", False), ("hidden_units", [0]), ("hidden_units", [True])),
    *(("tune", "half"), ("epochs", None), ("epochs", True), ("lr", math.nan), ("lr", 1)),
    *(("batch_size", 0), ("image_size", 31), ("minutes", 5), ("seed", 2**63)),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_impossible_settings_of_a_file_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is impossible"):
        Settings.from_entries({**dataclasses.asdict(RESOLVED), name: value})
