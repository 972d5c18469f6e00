"""Multinomial logistic regression for many strengths and folds at once, on torch.

Notation for shapes: M samples, D features, K classes, P problems.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from .lbfgs import minimised

MOST_ITERATIONS = 500
"""A problem that has not converged by then keeps what it has, and says so."""
EXACT, ROUGH = 1e-6, 1e-4
"""A problem has converged once its Newton decrement, which estimates how far the mean loss is above
its minimum, is below this part of the loss; and below which it is enough to choose a strength by,
in float32."""
LOGITS_AT_ONCE = 2**22
"""Most logits held in memory at a time (32 MiB)."""
FOR_CURVATURE = 5_000
"""The basis and the diagonal of the Hessian in it are computed from at most this many samples, or
twice as many as there are features."""
LEAST_CURVATURE = 1e-12
"""No direction is taken to be flatter."""


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
    x: Tensor,
    y: Tensor,
    shares: Tensor,
    strengths: Tensor,
    deadline: float = math.inf,
    exact: bool = True,
    basis: Tensor | None = None,
    start: Fits | None = None,
) -> Fits:
    """Minimises C sum_i s_i CE(x_i W + b, y_i) + ||W||^2 / 2 for each problem, the objective of
    scikit-learn's `LogisticRegression`, whose bias is not penalised either.

    L-BFGS (Liu and Nocedal 1989) in the eigenbasis of the features' covariance, where the Hessian
    is nearly diagonal. It corrects that diagonal at the point reached, which is computed anew every
    few iterations: where classes are nearly separated, few samples have a curvature. More features
    than samples cost no more than as many as samples, since the solution lies in their span.

    Args:
        x: [M, D] features.
        y: [M] classes, from 0; each has a sample with a positive share in every problem.
        shares: [P, M] the weight of each sample in each problem, 0 for those left out.
        strengths: [P] the inverse strength of the penalty, C.
        deadline: a time on the monotonic clock.
        exact: in float64, to `EXACT`; else in float32, to `ROUGH`.
        basis: what `eigenbasis` gave for these features, or for more; None: it is computed.
        start: where to begin, such as the solutions for a neighbouring C; None: at zero.

    Raises:
        OutOfTime: the deadline has passed.
    """
    dtype = torch.float64 if exact else torch.float32
    x, shares, strengths = x.to(dtype), shares.to(dtype), strengths.to(dtype)
    total, classes = shares.sum(1), int(y.max()) + 1
    mean = x.mean(0)
    basis = (eigenbasis(x) if basis is None else basis).to(dtype)
    narrow = basis.shape[1] < x.shape[1]
    z = (x - mean) @ basis if narrow else x - mean
    penalty = 1 / (strengths * total)  # [P], of the mean loss
    some = slice(None, None, max(1, len(x) // max(FOR_CURVATURE, 2 * x.shape[1])))
    squares = (z[some] if narrow else z[some] @ basis).square()  # [m, R]

    def log_probabilities(w: Tensor, z: Tensor) -> Tensor:
        """Weights and bias [P, R + 1, K], features [m, R or D] -> [m, P, K]."""
        weight = w[:, :-1] if narrow else basis @ w[:, :-1]
        flat = weight.transpose(0, 1).reshape(z.shape[1], -1)  # [R or D, P K]
        return ((z @ flat).unflatten(1, w[:, -1].shape) + w[:, -1]).log_softmax(2)

    def curvatures(w: Tensor, problems: Tensor) -> Tensor:
        """The Hessian's diagonal [P, R + 1, K], from some of the samples."""
        share = shares[problems][:, some]
        share = share / share.sum(1, keepdim=True).clamp(min=1e-30)
        curvature = torch.zeros_like(w)
        rows = max(1, LOGITS_AT_ONCE // (len(w) * classes))
        for first in range(0, len(squares), rows):
            part = slice(first, first + rows)
            p = log_probabilities(w, z[some][part]).exp_()
            p = p * (1 - p) * share[:, part].T[:, :, None]
            curvature[:, :-1] += (squares[part].T @ p.flatten(1)).unflatten(1, p.shape[1:]).transpose(0, 1)
            curvature[:, -1] += p.sum(0)
        curvature[:, :-1] += penalty[problems, None, None]
        return curvature.clamp(min=LEAST_CURVATURE)

    def evaluate(w: Tensor, problems: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and bias [P, R + 1, K] -> losses [P] and gradients [P, R + 1, K]."""
        if time.monotonic() > deadline:
            raise OutOfTime
        share = shares[problems] / total[problems, None]
        loss = penalty[problems] * w[:, :-1].square().sum((1, 2)) / 2
        gradient, shift = w.new_zeros(len(w), z.shape[1], classes), torch.zeros_like(w[:, -1])
        rows = max(1, LOGITS_AT_ONCE // shift.numel())
        for first in range(0, len(z), rows):
            part = slice(first, first + rows)
            log_p = log_probabilities(w, z[part])
            label = y[part, None, None].expand(-1, len(w), 1)
            loss = loss - (share[:, part].T * log_p.gather(2, label)[:, :, 0]).sum(0)
            residual = log_p.exp_()
            residual.scatter_add_(2, label, torch.full_like(residual[:, :, :1], -1.0))
            residual *= share[:, part].T[:, :, None]
            gradient += (z[part].T @ residual.flatten(1)).unflatten(1, shift.shape).transpose(0, 1)
            shift += residual.sum(0)
        inner = (gradient if narrow else basis.T @ gradient) + penalty[problems, None, None] * w[:, :-1]
        return loss, torch.cat([inner, shift[:, None]], dim=1)

    with torch.no_grad():
        w = torch.zeros(len(shares), basis.shape[1] + 1, classes, dtype=dtype)
        if start is not None:
            weight = start.weight.to(dtype)
            w[:, :-1], w[:, -1] = basis.T @ weight, start.bias.to(dtype) + mean @ weight
        w, converged, iterations = minimised(w, evaluate, curvatures, EXACT if exact else ROUGH, MOST_ITERATIONS)
        weight = basis @ w[:, :-1]
    return Fits(weight, w[:, -1] - mean @ weight, converged, iterations)


def eigenbasis(x: Tensor) -> Tensor:
    """An orthonormal basis [D, R] in which features [M, D] are nearly uncorrelated: of R < M
    dimensions that span the samples where D is larger, else of all D."""
    x = (x - x.mean(0)).float()
    count, dim = x.shape
    if dim >= count:
        variance, left = torch.linalg.eigh(x @ x.T / count)
        kept = variance > 1e-6 * variance[-1].clamp(min=1e-30)
        return x.T @ left[:, kept] / (count * variance[kept]).sqrt()
    few = x[:: max(1, count // max(FOR_CURVATURE, 2 * dim))]
    return torch.linalg.eigh(few.T @ few / len(few))[1]
