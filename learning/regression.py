"""Multinomial logistic regression: the optimum of a linear head, found by L-BFGS.

What a step costs are two passes over the features. Along a line, the logits change in a line, too,
so that the best point on it costs none: a search takes as many pairs of passes as steps.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

LARGEST = 10_000  # rows of a square matrix that is not yet huge
ROWS = 512  # of it that are computed at once

MEMORY = 20  # steps that the search remembers
MOST = 300  # steps of a search
TRIALS = 20  # points on a line
FLATTENED = 0.1  # of a line's slope at its start, where its search ends
ROUNDING = 1e-6  # of a loss
SMALLEST_RIDGE = 0.01  # so that rounding leaves a covariance positive

Part = tuple[torch.Tensor, torch.Tensor]  # features (n, F) and labels (n,)
Solution = tuple[torch.Tensor, torch.Tensor]  # weights (C, F) and biases (C,)

# Of a point on a line: the shares of the categories (n, C), the loss with the penalty, its slope,
# and how far it is to where a parabola through here is level.
Point = tuple[torch.Tensor, float, float, float]


class Regression:
    """Logistic regression on standardised features (N, F), with label smoothing, for many fits.

    The fits see `x`: the features, or their coordinates (N, N) along orthonormal `axes` (F, N).
    """

    def __init__(self, features: torch.Tensor, num_classes: int, smoothing: float):
        self.num_classes, self.smoothing = num_classes, smoothing
        self.x, self.axes = features, None
        if len(features) < min(features.shape[1], LARGEST):
            # At the optimum each category's weights are a weighted sum of the photographs'
            # features: the penalty leaves nothing else. So their N directions are enough, and
            # squared weights are the same along orthonormal axes.
            self.axes, triangle = torch.linalg.qr(features.T)
            self.x = triangle.T.contiguous()
        width = self.x.shape[1]
        self.covariance = _covariance(self.x) if width <= LARGEST else None
        self.factor: torch.Tensor | None = None
        self.penalty = -1.0  # that of the factor
        self.zero: Solution = self.x.new_zeros(num_classes, width), self.x.new_zeros(num_classes)

    def loss(self, solution: Solution, x: torch.Tensor, labels: torch.Tensor) -> float:
        """Sum up the cross-entropy of photographs' labels."""
        logits = F.linear(x, *solution)
        loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.smoothing)
        return loss.item()

    def whiten(self, penalty: float) -> None:
        """Find what whitens weights, so that the search for them is short.

        At its start the loss curves like the features' covariance, divided by C, and the penalty
        adds itself. With u L^-1 in the place of the weights, where L L^T is about C times that,
        it is round. The factor is L, lower triangular, or None where it would be huge.
        """
        if self.covariance is not None and self.penalty != penalty:
            self.factor, self.penalty = None, penalty  # makes room
            matrix = self.covariance.clone()
            matrix.diagonal().add_(max(self.num_classes * penalty, SMALLEST_RIDGE))
            self.factor = torch.linalg.cholesky(matrix)

    def solve(
        self, parts: Sequence[Part], penalty: float, start: Solution, tolerance: float
    ) -> Solution:
        """Minimise the mean loss plus `penalty` / 2 times the squared weights by L-BFGS.

        It learns from `parts`, rows of `x`, begins at `start`, and ends where a step changes the
        loss by less than `tolerance`.
        """
        self.whiten(penalty)
        weight, bias = (value.clone() for value in start)
        labels = torch.cat([labels for _, labels in parts])

        def compute_logits(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            return torch.cat([F.linear(x, weight, bias) for x, _ in parts])

        logits = compute_logits(weight, bias)
        shares, loss = logits.softmax(1), math.nan
        memory: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=MEMORY)
        step = before = None
        for _ in range(MOST):
            slopes = shares.sub_(self.smoothing / self.num_classes)  # of the mean loss, by logits
            own = slopes.new_full((len(labels), 1), self.smoothing - 1)
            slopes.scatter_add_(1, labels[:, None], own).div_(len(labels))
            by_weight = penalty * weight
            for (x, _), each in zip(parts, slopes.split([len(x) for x, _ in parts])):
                by_weight.addmm_(each.T, x)
            if self.factor is not None:
                by_weight = torch.linalg.solve_triangular(
                    self.factor.T, by_weight, upper=True, left=False
                )
            gradient = torch.cat([by_weight.flatten(), slopes.sum(0)])
            if gradient.abs().max() < 1e-6:
                break
            if step is not None and before is not None and step @ (gradient - before) > 0:
                memory.append((step, gradient - before))
            direction = find_direction(gradient, memory)
            turn, shift = direction[: weight.numel()].view_as(weight), direction[weight.numel() :]
            if self.factor is not None:
                turn = torch.linalg.solve_triangular(self.factor, turn, upper=False, left=False)
            change = compute_logits(turn, shift)
            pairs = (weight, weight), (weight, turn), (turn, turn)
            squares = [penalty * (a * b).sum().item() for a, b in pairs]
            look = self._line(logits, change, labels, squares)
            first = 1.0
            if not memory:
                _, loss, _, first = look(0.0)
            length, shares, lower = search_line(look, loss, (gradient @ direction).item(), first)
            weight.add_(turn, alpha=length)
            bias.add_(shift, alpha=length)
            logits.add_(change, alpha=length)
            step, before = direction * length, gradient
            if loss - lower < tolerance:
                break
            loss = lower
        return weight, bias

    def _line(
        self,
        logits: torch.Tensor,
        change: torch.Tensor,
        labels: torch.Tensor,
        squares: Sequence[float],
    ) -> Callable[[float], Point]:
        """Return the points of a line, on which logits (n, C) change by `change` for each unit.

        `squares` are the penalty times the products of weights with weights, of weights with
        their change, and of that with itself.
        """
        fixed, mixed, squared = squares
        start, slope = (
            (
                (1 - self.smoothing) * each.gather(1, labels[:, None]).mean()
                + self.smoothing * each.mean()
            ).item()
            for each in (logits, change)
        )

        def look(t: float) -> Point:
            shares = torch.add(logits, change, alpha=t)
            total = shares.logsumexp(1, keepdim=True)
            shares.sub_(total).exp_()
            weighted = shares * change
            means = weighted.sum(1)
            spread = (weighted.mul_(change).sum(1) - means.square()).mean().item()
            loss = total.mean().item() - start - t * slope
            loss += (fixed + 2 * t * mixed + t * t * squared) / 2
            rise = means.mean().item() - slope + mixed + t * squared
            return shares, loss, rise, -rise / max(spread + squared, 1e-12)

        return look


def search_line(
    look: Callable[[float], Point], loss: float, slope: float, t: float
) -> tuple[float, torch.Tensor, float]:
    """Find where a line is nearly level, and no higher than at 0, by Newton's method from t on.

    `loss` and `slope` are those at 0, where it ends if nothing better is found. Returns the place,
    and the shares and the loss there.
    """
    low, high = 0.0, torch.inf
    for _ in range(TRIALS):
        shares, there, rise, newton = look(t)
        is_lower = there <= loss + ROUNDING
        if is_lower and abs(rise) <= FLATTENED * abs(slope):
            return t, shares, there
        low, high = (t, high) if is_lower and rise < 0 else (low, t)
        t += newton
        if not low < t < high:  # the loss is convex, so it lies between them
            t = 10 * low if high == torch.inf else (low + high) / 2
    return low, *look(low)[:2]


def find_direction(
    gradient: torch.Tensor, memory: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Return the direction of a step, from a gradient, and earlier steps with its changes.

    The two loops of Nocedal, "Updating quasi-Newton matrices with limited storage" (Mathematics of
    Computation 35, 1980).
    """
    direction = -gradient
    factors = []
    for step, change in reversed(memory):
        factors.append((step @ direction) / (step @ change))
        direction.sub_(factors[-1] * change)
    if memory:
        step, change = memory[-1]
        direction.mul_((step @ change) / (change @ change))
    for (step, change), factor in zip(memory, reversed(factors)):
        direction.add_((factor - (change @ direction) / (step @ change)) * step)
    return direction


def _covariance(x: torch.Tensor) -> torch.Tensor:
    """Compute the lower half, which is enough, of the covariance (F, F) of features (N, F)."""
    count, width = x.shape
    covariance = x.new_zeros(width, width)
    for start in range(0, width, ROWS):
        end = min(start + ROWS, width)
        covariance[start:end, :end] = x[:, start:end].T @ x[:, :end] / count
    return covariance
