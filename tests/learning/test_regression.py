"""Logistic regression: the search, its lines, and what whitens it."""

import pytest
import torch
from torch.nn import functional as F

import learning.regression
from learning.regression import Regression, find_direction


def examples(count: int, width: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw features, standardised, whose scales and directions differ, and labels."""
    generator = torch.Generator().manual_seed(count + width)
    labels = torch.arange(count) % classes
    features = torch.randn(count, width, generator=generator)
    features = features @ torch.randn(width, width, generator=generator)
    features[:, : classes - 1] += 2 * F.one_hot(labels)[:, : classes - 1]
    return (features - features.mean(0)) / features.std(0, correction=0), labels


def objective(solution, x, labels, penalty):
    loss = F.cross_entropy(F.linear(x, *solution), labels, label_smoothing=0.1)
    return (loss + penalty / 2 * solution[0].square().sum()).item()


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("width", [4, 30, 90])
def test_no_step_from_the_end_is_better(width, penalty):
    x, labels = examples(60, width)
    regression = Regression(x, 3, 0.1)
    weight, bias = regression.solve(
        [(regression.x[:20], labels[:20]), (regression.x[20:], labels[20:])],
        penalty,
        regression.zero,
        1e-7,
    )
    if regression.axes is not None:
        weight = weight @ regression.axes.T
    x, weight, bias = x.double(), weight.double(), bias.double()
    best = objective((weight, bias), x, labels, penalty)
    weight.requires_grad_()
    bias.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels, label_smoothing=0.1)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert best - objective((weight.detach(), bias.detach()), x, labels, penalty) < 1e-5


@pytest.mark.parametrize("penalty", [1e-2, 1e-4])
def test_whitening_is_what_makes_the_search_short(penalty, monkeypatch):
    x, labels = examples(500, 40)
    steps = []
    monkeypatch.setattr(
        learning.regression,
        "find_direction",
        lambda *args: steps.append(1) or find_direction(*args),
    )
    counts = []
    for largest in (10_000, 0):
        monkeypatch.setattr(learning.regression, "LARGEST", largest)
        regression = Regression(x, 3, 0.1)
        regression.solve([(x, labels)], penalty, regression.zero, 1e-5)
        counts.append(len(steps) - sum(counts))
    whitened, plain = counts
    assert whitened < 0.6 * plain
