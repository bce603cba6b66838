"""Logistic regression: the search, its lines, and what whitens it."""

import pytest
import torch
from torch.nn import functional as F

import learning.regression
from learning.regression import Regression, _Line, find_direction


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


def test_slope_and_curvature_of_a_line_are_those_of_its_loss():
    torch.manual_seed(0)
    logits, change = torch.randn(2, 50, 4, dtype=torch.float64)
    line = _Line(logits, change, torch.arange(50) % 4, 0.1, [0.3, 0.2, 0.4])
    near = 1e-4
    for t in (0.0, 0.7, 3.0):
        before, point, after = (line.at(t + by) for by in (-near, 0, near))
        assert point.slope == pytest.approx((after.loss - before.loss) / (2 * near), rel=1e-5)
        assert point.curvature == pytest.approx((after.slope - before.slope) / (2 * near), rel=1e-5)
    loss = F.cross_entropy(logits + change, torch.arange(50) % 4, label_smoothing=0.1)
    assert line.at(1.0).loss == pytest.approx(loss.item() + (0.3 + 2 * 0.2 + 0.4) / 2)


@pytest.mark.parametrize("first", [1e-9, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("squared", [0.0, 0.01])
def test_a_line_is_searched_until_it_is_nearly_level(first, smoothing, squared):
    torch.manual_seed(0)
    labels = torch.arange(50) % 4
    logits = torch.randn(50, 4)
    change = F.one_hot(labels).float() + torch.randn(50, 4) / 2  # not every one gets better
    line = _Line(logits, change, labels, smoothing, [0.0, 0.0, squared])
    start = line.at(0.0)
    length, point = line.search(start.loss, start.slope, first)
    assert 0.1 < length < 100
    assert abs(point.slope) <= 0.1 * abs(start.slope)
    assert point.loss < start.loss
    assert point.shares.equal(line.at(length).shares)


def test_a_line_that_only_rises_is_left_where_it_begins():
    """Far behind an overshoot a line is about as steep as its start, whatever its slope says."""
    labels = torch.arange(50) % 4
    line = _Line(torch.zeros(50, 4), -F.one_hot(labels).float(), labels, 0.0, [0.0, 0.0, 0.0])
    start = line.at(0.0)
    assert start.slope > 0
    length, point = line.search(start.loss, -20 * start.slope, 50.0)
    assert length < 1e-3
    assert point.loss == pytest.approx(start.loss, abs=1e-3)


def test_the_direction_is_newtons_once_every_direction_has_been_seen():
    """Of a quadratic function with a diagonal of curvatures; steps along the axes."""
    curvatures = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    memory = [(step, curvatures * step) for step in torch.eye(3, dtype=torch.float64)]
    gradient = torch.tensor([3.0, -8.0, 27.0], dtype=torch.float64)
    torch.testing.assert_close(find_direction(gradient, memory), -gradient / curvatures)
    assert find_direction(gradient, []).equal(-gradient)
