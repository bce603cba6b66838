"""Plans: how long things take, what fits into the minutes, and that a run keeps to them."""

import math
import time

import numpy as np
import pytest
from conftest import CNN, history_of
from kill import result_of

from formats.pth import read_archive
from learning.evaluation import Evaluation
from learning.run import Run
from learning.time_budget import PLANNED, Costs, TimeBudget, make_plans, numbers_of_epochs
from running.recipe import FINE_TUNING
from running.settings import Settings, resolve_settings

COSTS = Costs(head=32.6, views=11.0, steps=12.0, evaluation=0.7, end=2.1)


def test_the_best_plan_comes_first_and_its_seconds_are_those_of_its_parts():
    plans = make_plans({128: COSTS, 224: COSTS}, [0, 3], 5, 224)
    best, worst = plans[0], plans[-1]
    assert (best.side, best.epochs, worst.side, worst.epochs) == (224, 3, 128, 0)
    views = 11 * (0.8 + 0.8**2 + 0.8**3)  # a new one in four of five, and so on
    assert best.seconds == pytest.approx(32.6 + views + 3 * (12 + 0.7) + 2.1)
    numbers = numbers_of_epochs(3)
    assert numbers == [1, 1.5, 1.75, 2, 2.5, 2.75, 3]
    half = (11 * 0.8**2 + 12) / 2 + 0.7
    assert COSTS.epochs(1.5) == pytest.approx(11 * 0.8 + 12 + 0.7 + half)


class Told:
    """A learner that notes how many epochs it is told."""

    def plan_epochs(self, epochs: float) -> None:
        self.epochs, self.recipe = epochs, FINE_TUNING._replace(epochs=math.ceil(epochs))


@pytest.mark.parametrize(
    ("epoch", "planned", "slowness", "left", "expected"),
    [
        (0, 5, 1, 10_000, 12),  # much more time
        (3, 5, 1, 10_000, 5),  # the learning rate has come down already
        (1, 5, 1, 36, 2.5),
        (1, 5, 1, 9, 1),
        (0, 5, 1, 12, 0),
        (1, 5, 3, 120, 2.75),
    ],
)
def test_epochs_go_by_the_time_that_is_left(monkeypatch, epoch, planned, slowness, left, expected):
    monkeypatch.setattr(time, "perf_counter", lambda: 500.0)
    run = Run(resolve_settings(Settings(epochs=planned), 224, True, True), None, None, "weights", 0)
    spent = COSTS.epochs(epoch)
    seconds = slowness * (spent - COSTS.epochs(epoch - 1) if epoch else COSTS.head)
    run.add_epoch(epoch, 1.0, Evaluation(1.0, 0.5, np.zeros((1, 2))), seconds)
    time_budget, learner = TimeBudget(500 + left, COSTS, planned, 12), Told()
    said = time_budget.replan(learner, run)
    assert learner.epochs == expected
    assert run.settings.epochs == math.ceil(expected)
    assert bool(said) == (expected != planned)
    rest = COSTS.epochs(expected) - spent + COSTS.end
    assert slowness * rest <= PLANNED * left or expected == epoch


def test_what_can_be_left_out_ends_before_the_time_is_up(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: 500.0)
    assert [TimeBudget(500 + left).has_ended() for left in (10, 0.5, -1)] == [False, True, True]
    assert not TimeBudget().has_ended()


# --- Runs -------------------------------------------------------------------------------


def test_too_little_time_is_one_sentence(run_script, drawn, tmp_path):
    run = run_script("train", drawn, *CNN, "--minutes", 0.0001, "--save_dir", tmp_path)
    assert run.code == 2
    assert run.err.startswith("train.py: --minutes 0.0001 is too little for these photographs")
    assert not (tmp_path / "checkpoint.pth").exists()


def test_measuring_a_machine_changes_nothing_and_a_resumed_run_keeps_the_plan(
    run_script, drawn, tmp_path
):
    plain, planned = tmp_path / "plain", tmp_path / "planned"
    options = [drawn, *CNN, "--epochs", 2, "--hidden_units", 8]
    assert run_script("train", *options, "--save_dir", plain).code == 0
    run = run_script("train", *options, "--minutes", 5, "--save_dir", planned)
    assert run.code == 0
    assert "plan: 2 epochs with 32 x 32 pixels, about " in run.out
    here, there = result_of(plain), result_of(planned)
    assert there["report"]["settings"].pop("minutes") == 5
    assert here["report"]["settings"].pop("minutes") is None
    assert here == there
    again = run_script("train", drawn, "--resume", "--save_dir", planned)
    assert again.code == 0
    assert "plan" not in again.out.replace(str(planned), "")
    other = run_script("train", drawn, "--resume", "--minutes", 2, "--save_dir", planned)
    assert other.code == 2
    assert "--minutes 2.0: the run that --resume continues has 5.0" in other.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learn", "plan"),
    [(1 / 12, "2 epochs with 96 x 96"), (15 / 16, "the head alone with 96 x 96")],
)
def test_size_and_epochs_are_chosen_and_kept(run_script, drawn, tmp_path, monkeypatch, learn, plan):
    """An epoch of 48 photographs with 96 x 96 pixels is said to take 4, and then 45 of 30 s."""
    monkeypatch.setattr("learning.time_budget.FOURTEENTHS", (4, 6))  # of 224: 64 and 96 pixels
    monkeypatch.setattr("running.recipe.MOST_EPOCHS", 2)
    monkeypatch.setattr("running.recipe.FINE_TUNING", FINE_TUNING._replace(epochs=2))
    costs = {64: Costs(1, 0, 48 * learn * (64 / 96) ** 2, 0, 1), 96: Costs(1, 0, 48 * learn, 0, 1)}
    monkeypatch.setattr("learning.time_budget.measure_costs", lambda *_: costs.__getitem__)
    run = run_script("train", drawn, "--minutes", 0.5, "--save_dir", tmp_path)
    assert run.code == 0
    assert f"plan: {plan} pixels, about 0." in run.out
    settings = read_archive(tmp_path / "last.pth")["run"]["settings"]
    assert f"{settings['image_size']} pixels" in f"{plan} pixels"
    assert settings["epochs"] == int(history_of(tmp_path)[-1]["epoch"])


def test_an_epoch_is_broken_off_when_the_time_is_up(run_script, drawn, tmp_path, monkeypatch):
    steps = []

    def is_up(self):
        steps.append(1)
        return len(steps) > 5

    monkeypatch.setattr("learning.time_budget.TimeBudget.is_up", is_up)
    options = [*CNN, "--epochs", 9, "--batch_size", 16]  # three steps an epoch
    run = run_script("train", drawn, *options, "--save_dir", tmp_path)
    assert run.code == 0
    assert "epoch 2 would end too late" in run.out
    assert [row["epoch"] for row in history_of(tmp_path)] == ["1"]
    monkeypatch.undo()
    assert Run.load(tmp_path / "last.pth").is_finished
    more = ["--resume", "--epochs", 9]
    assert run_script("train", drawn, *more, "--save_dir", tmp_path).code == 0
    assert [row["epoch"] for row in history_of(tmp_path)] == [*"123456789"]
