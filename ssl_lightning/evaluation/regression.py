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
MIXED = 2**22
"""From so many feature values on, an exact fit multiplies features in float32, in half of the time,
and adds up in float64; what does not converge so is finished in float64."""
SUMMED = 2**18
"""Logits whose products are added up in float32 then."""
NOISE = 1e-8
"""Rounding errors of a loss then, as a part of it."""
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
    precise = torch.float64 if exact else torch.float32
    basis = (eigenbasis(x) if basis is None else basis).to(precise)
    total, classes, mean = shares.to(precise).sum(1), int(y.max()) + 1, x.mean(0, dtype=precise)
    penalty = 1 / (strengths.to(precise) * total)  # [P], of the mean loss
    shares = shares.to(precise) / total[:, None]

    def objective(dtype: torch.dtype, some: Tensor) -> Objective:
        return Objective(x, mean, y, shares[some], penalty[some], classes, basis, dtype, deadline)

    tolerance, every = EXACT if exact else ROUGH, torch.arange(len(shares))
    with torch.no_grad():
        w = torch.zeros(len(shares), basis.shape[1] + 1, classes, dtype=precise)
        if start is not None:
            weight = start.weight.to(precise)
            w[:, :-1], w[:, -1] = basis.T @ weight, start.bias.to(precise) + mean @ weight
        mixed = exact and x.numel() >= MIXED
        first = objective(torch.float32 if mixed else precise, every)
        slack = NOISE if mixed else 0.0
        w, converged, iterations = minimised(w, first.evaluate, first.curvatures, tolerance, MOST_ITERATIONS, slack)
        if mixed and not bool(converged.all()):
            left = (~converged).nonzero()[:, 0]
            last = objective(precise, left)
            w[left], converged[left], more = minimised(
                w[left], last.evaluate, last.curvatures, tolerance, MOST_ITERATIONS
            )
            iterations += more
        weight = basis @ w[:, :-1]
    return Fits(weight, w[:, -1] - mean @ weight, converged, iterations)


class Objective:
    """The mean losses of P problems, and their gradients, at parameters w [P, R + 1, K]: weights in
    the basis, and biases. Sums over samples are in the dtype of w.

    Args:
        x: [M, D] features.
        mean: [D] theirs.
        y: [M] classes.
        shares: [P, M] weights of the samples, whose sum is 1.
        penalty: [P] of the squared weights.
        classes: K.
        basis: [D, R].
        dtype: of the products with features.
        deadline: a time on the monotonic clock.
    """

    def __init__(
        self, x: Tensor, mean: Tensor, y: Tensor, shares: Tensor, penalty: Tensor, classes: int, basis: Tensor,
        dtype: torch.dtype, deadline: float,
    ) -> None:  # fmt: skip
        self.y, self.shares, self.penalty, self.classes, self.deadline = y, shares, penalty, classes, deadline
        self.basis, self.dtype, self.narrow = basis, dtype, basis.shape[1] < x.shape[1]
        z = x.to(dtype) - mean.to(dtype)
        self.z = z @ basis.to(dtype) if self.narrow else z
        self.some = slice(None, None, max(1, len(x) // max(FOR_CURVATURE, 2 * x.shape[1])))
        part = self.z[self.some].to(basis.dtype)
        self.squares = (part if self.narrow else part @ basis).square()  # [m, R]

    def log_probabilities(self, w: Tensor, z: Tensor) -> Tensor:
        """Parameters and features [m, R or D] -> [m, P, K]."""
        weight = w[:, :-1] if self.narrow else self.basis @ w[:, :-1]
        flat = weight.transpose(0, 1).reshape(z.shape[1], -1).to(self.dtype)  # [R or D, P K]
        logits = (z @ flat).unflatten(1, w[:, -1].shape) + w[:, -1].to(self.dtype)
        return logits.sub_(logits.logsumexp(2, keepdim=True))  # log_softmax takes four times as long for few classes

    def curvatures(self, w: Tensor, problems: Tensor) -> Tensor:
        """The Hessian's diagonal [P, R + 1, K] at parameters of some problems, from some of the
        samples."""
        share = self.shares[problems][:, self.some]
        share = share / share.sum(1, keepdim=True).clamp(min=1e-30)
        curvature, z = torch.zeros_like(w), self.z[self.some]
        rows = max(1, LOGITS_AT_ONCE // (len(w) * self.classes))
        for first in range(0, len(z), rows):
            part = slice(first, first + rows)
            p = self.log_probabilities(w, z[part]).to(w.dtype).exp_()
            p = p * (1 - p) * share[:, part].T[:, :, None]
            curvature[:, :-1] += (self.squares[part].T @ p.flatten(1)).unflatten(1, p.shape[1:]).transpose(0, 1)
            curvature[:, -1] += p.sum(0)
        curvature[:, :-1] += self.penalty[problems, None, None]
        return curvature.clamp(min=LEAST_CURVATURE)

    def evaluate(self, w: Tensor, problems: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of some problems -> losses [P] and gradients [P, R + 1, K].

        Raises:
            OutOfTime: the deadline has passed.
        """
        if time.monotonic() > self.deadline:
            raise OutOfTime
        share, penalty = self.shares[problems], self.penalty[problems]
        loss = penalty * w[:, :-1].square().sum((1, 2)) / 2
        gradient, shift = w.new_zeros(len(w) * self.classes, self.z.shape[1]), torch.zeros_like(w[:, -1])
        rows = max(1, (LOGITS_AT_ONCE if self.dtype == w.dtype else SUMMED) // shift.numel())
        for first in range(0, len(self.z), rows):
            part = slice(first, first + rows)
            log_p, weights = self.log_probabilities(w, self.z[part]), share[:, part].T
            label = self.y[part, None, None].expand(-1, len(w), 1)
            loss = loss - (weights * log_p.gather(2, label)[:, :, 0]).sum(0)
            residual = log_p.exp_()
            residual.scatter_add_(2, label, torch.full_like(residual[:, :, :1], -1.0))
            residual *= weights[:, :, None].to(self.dtype)
            gradient += residual.flatten(1).T @ self.z[part]
            shift += residual.sum(0)
        gradient = gradient.unflatten(0, shift.shape).transpose(1, 2)  # [P, R or D, K]
        inner = (gradient if self.narrow else self.basis.T @ gradient) + penalty[:, None, None] * w[:, :-1]
        return loss, torch.cat([inner, shift[:, None]], dim=1)


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
