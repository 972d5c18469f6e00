"""Multinomial logistic regression for many strengths and folds at once, on torch.

Notation for shapes: M samples, D features, K classes, P problems.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MOST_ITERATIONS = 500
"""A problem that has not converged by then keeps what it has, and says so."""
EXACT, ROUGH = 1e-6, 1e-4
"""A problem has converged once its Newton decrement, which estimates how far the mean loss is above
its minimum, is below this part of the loss; and below which it is enough to choose a strength by,
in float32."""
MEMORY = 8
"""Pairs of steps and gradients from which L-BFGS estimates the curvature."""
LOGITS_AT_ONCE = 2**22
"""Most logits held in memory at a time (32 MiB)."""
FOR_CURVATURE = 5_000
"""The basis in which the problem is well conditioned is computed from at most this many samples, or
twice as many as there are features."""


class OutOfTime(Exception):
    """A fit would end after the time that there is."""


class Fits(NamedTuple):
    """Solutions of P problems: weights [P, D, K], biases [P, K], whether each has converged [P],
    and the number of iterations."""

    weight: Tensor
    bias: Tensor
    converged: Tensor
    iterations: int


def fit(
    x: Tensor, y: Tensor, shares: Tensor, strengths: Tensor, deadline: float = math.inf, exact: bool = True
) -> Fits:
    """Minimises C sum_i s_i CE(x_i W + b, y_i) + ||W||^2 / 2 for each problem, the objective of
    scikit-learn's `LogisticRegression`, whose bias is not penalised either.

    L-BFGS (Liu and Nocedal 1989) in the eigenbasis of the features' covariance, where the Hessian
    is nearly the identity: some ten iterations do what takes hundreds in the features themselves.
    More features than samples cost no more than as many as samples, since the solution lies in
    their span.

    Args:
        x: [M, D] features.
        y: [M] classes, from 0; each has a sample with a positive share in every problem.
        shares: [P, M] the weight of each sample in each problem, 0 for those left out.
        strengths: [P] the inverse strength of the penalty, C.
        deadline: a time on the monotonic clock.
        exact: in float64, to `EXACT`; else in float32, to `ROUGH`.

    Raises:
        OutOfTime: the deadline has passed.
    """
    dtype = torch.float64 if exact else torch.float32
    x, shares, strengths = x.to(dtype), shares.to(dtype), strengths.to(dtype)
    total, classes = shares.sum(1), int(y.max()) + 1
    mean = x.mean(0)
    basis, variance = _basis(x - mean)
    narrow = basis.shape[1] < x.shape[1]
    z = (x - mean) @ basis if narrow else x - mean
    penalty = 1 / (strengths * total)  # [P], of the mean loss
    curvature = (classes - 1) / classes**2  # of the loss in a logit, where all classes are alike
    scale = (curvature * variance + penalty[:, None]).rsqrt()  # [P, R]

    def weights(theta: Tensor, problems: Tensor) -> Tensor:
        """Parameters [P, R + 1, K] -> weights of z [P, R or D, K]."""
        weight = theta[:, :-1] * scale[problems, :, None]
        return weight if narrow else basis @ weight

    def evaluate(theta: Tensor, problems: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters [P, R + 1, K] -> losses [P] and gradients [P, R + 1, K]."""
        weight, bias = weights(theta, problems), theta[:, -1] / math.sqrt(curvature)
        share = shares[problems] / total[problems, None]
        loss = penalty[problems] * weight.square().sum((1, 2)) / 2
        gradient, shift = torch.zeros_like(weight), torch.zeros_like(bias)
        rows = max(1, LOGITS_AT_ONCE // bias.numel())
        flat = weight.transpose(0, 1).reshape(z.shape[1], -1)  # [D, P K]
        for first in range(0, len(z), rows):
            part = slice(first, first + rows)
            log_p = ((z[part] @ flat).unflatten(1, bias.shape) + bias).log_softmax(2)  # [rows, P, K]
            label = y[part, None, None].expand(-1, len(bias), 1)
            loss = loss - (share[:, part].T * log_p.gather(2, label)[:, :, 0]).sum(0)
            residual = log_p.exp_()
            residual.scatter_add_(2, label, torch.full_like(residual[:, :, :1], -1.0))
            residual *= share[:, part].T[:, :, None]
            gradient += (z[part].T @ residual.flatten(1)).unflatten(1, bias.shape).transpose(0, 1)
            shift += residual.sum(0)
        inner = (gradient if narrow else basis.T @ gradient) * scale[problems, :, None]
        inner += penalty[problems, None, None] * scale[problems, :, None].square() * theta[:, :-1]
        return loss, torch.cat([inner, shift[:, None] / math.sqrt(curvature)], dim=1)

    with torch.no_grad():
        start = torch.zeros(len(shares), z.shape[1] + 1, classes, dtype=dtype)
        theta, converged, iterations = _minimised(start, evaluate, EXACT if exact else ROUGH, deadline)
        weight = weights(theta, torch.arange(len(shares)))
        weight = basis @ weight if narrow else weight
    return Fits(weight, theta[:, -1] / math.sqrt(curvature) - mean @ weight, converged, iterations)


def _basis(x: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis [D, R] in which centred features [M, D] are nearly uncorrelated, and
    their variances in it [R]: of R < M dimensions that span the samples where D is larger, else of
    all D."""
    count, dim = x.shape
    if dim >= count:
        variance, left = (each.to(x.dtype) for each in torch.linalg.eigh((x @ x.T / count).float()))
        kept = variance > 1e-6 * variance[-1].clamp(min=1e-30)
        variance, left = variance[kept], left[:, kept]
        return x.T @ left / (count * variance).sqrt(), variance
    few = x[:: max(1, count // max(FOR_CURVATURE, 2 * dim))].float()
    variance, basis = (each.to(x.dtype) for each in torch.linalg.eigh(few.T @ few / len(few)))
    return basis, variance.clamp(min=0.0)


def _minimised(
    theta: Tensor, evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], tolerance: float, deadline: float
) -> tuple[Tensor, Tensor, int]:
    """The minimum of each of P convex functions by L-BFGS with backtracking; problems that have
    converged are no longer computed.

    Args:
        theta: [P, ...] where to start.
        evaluate: parameters of some problems, and their numbers -> values and gradients.
        tolerance: the part of a value that its Newton decrement may be.
        deadline: a time on the monotonic clock.
    """
    slack = 4 * torch.finfo(theta.dtype).eps
    result, done = theta.clone(), torch.zeros(len(theta), dtype=torch.bool)
    problems = torch.arange(len(theta))
    value, gradient = evaluate(theta, problems)
    pairs: list[tuple[Tensor, Tensor]] = []
    for iteration in range(MOST_ITERATIONS):
        direction = _direction(gradient, pairs)
        slope = _dot(gradient, direction)
        finished = -slope / 2 <= tolerance * value
        if bool(finished.any()):
            result[problems[finished]], done[problems[finished]] = theta[finished], True
            left = ~finished
            if not bool(left.any()):
                return result, done, iteration
            problems, theta, value, gradient = problems[left], theta[left], value[left], gradient[left]
            direction, slope = direction[left], slope[left]
            pairs = [(moved[left], turned[left]) for moved, turned in pairs]
        if time.monotonic() > deadline:
            raise OutOfTime
        length = torch.ones_like(value)
        for _ in range(30):
            moved = _times(length, direction)
            value_there, gradient_there = evaluate(theta + moved, problems)
            enough = value_there <= value + 1e-4 * length * slope + slack * value
            if bool(enough.all()):
                break
            length = torch.where(enough, length, length / 2)
        pairs = [*pairs[1 - MEMORY :], (moved, gradient_there - gradient)]
        theta, value, gradient = theta + moved, value_there, gradient_there
    result[problems] = theta
    return result, done, MOST_ITERATIONS


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The step that L-BFGS takes, by its two loops over the last pairs."""
    step, kept = -gradient, []
    for moved, turned in reversed(pairs):
        inverse = 1 / _dot(moved, turned).clamp(min=1e-30)
        part = inverse * _dot(moved, step)
        step = step - _times(part, turned)
        kept.append((inverse, part))
    if pairs:
        moved, turned = pairs[-1]
        step = _times(_dot(moved, turned) / _dot(turned, turned).clamp(min=1e-30), step)
    for (moved, turned), (inverse, part) in zip(pairs, reversed(kept), strict=True):
        step = step + _times(part - inverse * _dot(turned, step), moved)
    return step


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _times(factor: Tensor, tensor: Tensor) -> Tensor:
    return factor[:, None, None] * tensor
