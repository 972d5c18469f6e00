"""Labels of which a sample has several: one logistic regression for each, on one vector a sample.

Notation for shapes: M samples to learn from, Q samples that are judged, D features, K labels, S
strengths, P problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...data.peek import sample
from ..lbfgs import minimised
from ..protocol import standardised
from ..regression import EXACT, FOR_CURVATURE, LEAST_CURVATURE, LOGITS_AT_ONCE, MOST_ITERATIONS, ROUGH, eigenbasis
from .base import Judgement, Needs, Protocol, Samples, score
from .ranking import Ranking, average_precision
from .values import finite

LISTED = 5
"""Labels that a line names."""


@dataclass(frozen=True, kw_only=True)
class Multilabel(Protocol):
    """L2-penalised logistic regression for each label against the rest, on standardised features.
    `map` is the mean over the labels of their average precision on the judged samples. All labels
    have one strength: that with the highest mean log-likelihood on held-out samples to learn from.

    Args:
        strengths: values of C to choose from, C being the inverse strength of the penalty.
        held_out: the share of the samples to choose by that is held out.
        most: samples to choose by.
    """

    name: ClassVar[str] = "multilabel"
    needs: ClassVar[Needs] = Needs("vectors", "multilabel")
    source: ClassVar[str] = (
        "one-vs-rest as in Kornblith et al. 2019 (1805.08974) on VOC 2007; mAP without interpolation"
    )
    strengths: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    held_out: float = 0.2
    most: int = 5_000

    def __post_init__(self) -> None:
        if not self.strengths or not all(isinstance(each, (int, float)) and each > 0 for each in self.strengths):
            raise ValueError(f"strengths={self.strengths} are not all positive numbers; give some, such as 0.01, 0.1.")
        if not 0 < self.held_out < 1 or self.most < 2:
            raise ValueError(f"held_out={self.held_out} and most={self.most}; give a share below 1, and at least 2.")

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        x, judged = (finite(part, each.x) for part, each in (("training", train), ("judged", test)))
        y, truth = train.target, test.target  # [M, K], [Q, K] bool
        names = train.names or tuple(f"label {number}" for number in range(y.shape[1]))
        left_out = {
            "without a positive sample to learn from": ~y.any(dim=0),
            "without a negative sample to learn from": y.all(dim=0),
            "without a positive judged sample": ~truth.any(dim=0),
        }
        remarks = [f"Labels {why}, left out: {_named(which, names)}." for why, which in left_out.items() if which.any()]
        kept = ~torch.stack(list(left_out.values())).any(dim=0)
        if not bool(kept.any()):
            raise ValueError(
                f"None of {len(names)} labels has positive and negative samples to learn from and to judge."
            )
        y, truth = y[:, kept], truth[:, kept]
        standard, standard_judged = standardised(x, judged)
        strength = self.chosen(standard, y, seed)
        if len(self.strengths) > 1 and strength in (min(self.strengths), max(self.strengths)):
            remarks.append(f"The weakest or strongest penalty that is tried was chosen: C = {strength:g}.")
        model = one_against_rest(standard, y, torch.full((y.shape[1],), strength))
        if unconverged := int((~model.converged).sum()):
            remarks.append(f"{unconverged} of {y.shape[1]} regressions stopped before they converged.")
        logits = standard_judged.double() @ model.weight + model.bias
        rankings = [Ranking(each, descending=True) for each in logits.T]

        def statistic(weights: Tensor) -> Tensor:
            each = [average_precision(order, label, weights) for order, label in zip(rankings, truth.T, strict=True)]
            return torch.stack(each).nanmean(dim=0)

        return Judgement({"map": score([statistic], len(truth))}, tuple(remarks))

    def chosen(self, x: Tensor, y: Tensor, seed: int) -> float:
        """The strength with the highest mean log-likelihood on held-out samples; labels that lack
        positive or negative samples to learn from there do not count.

        Args:
            x: [M, D] standardised features.
            y: [M, K] labels.
            seed: of the samples that are held out.
        """
        some = sample(len(x), self.most)
        some = some[torch.randperm(len(some), generator=torch.Generator().manual_seed(seed))]
        count = max(1, round(self.held_out * len(some)))
        out, rest = some[:count], some[count:]
        both = y[rest].any(dim=0) & ~y[rest].all(dim=0)
        if not bool(both.any()) or len(self.strengths) == 1:
            return self.strengths[len(self.strengths) // 2]
        y, count = y[:, both], len(self.strengths)
        strengths = torch.tensor(self.strengths).repeat_interleave(y.shape[1])
        model = one_against_rest(x[rest], y[rest].repeat(1, count), strengths, exact=False)
        truth = y[out].repeat(1, count).double()
        losses = F.binary_cross_entropy_with_logits(
            x[out].double() @ model.weight + model.bias, truth, reduction="none"
        )
        return self.strengths[int(losses.mean(dim=0).view(count, -1).mean(dim=1).argmin())]


class Fits(NamedTuple):
    """Weights [D, P], biases [P], and whether each has converged [P]."""

    weight: Tensor
    bias: Tensor
    converged: Tensor


def one_against_rest(x: Tensor, y: Tensor, strengths: Tensor, exact: bool = True) -> Fits:
    """Minimises C sum_i BCE(x_i w + b, y_i) + ||w||^2 / 2 for each problem, the objective of
    scikit-learn's `LogisticRegression` of two classes, whose bias is not penalised either. It is
    solved as in `regression.fit`.

    Args:
        x: [M, D] features.
        y: [M, P] bool, with both values in each column.
        strengths: [P] values of C.
        exact: in float64; else in float32, and roughly.
    """
    dtype = torch.float64 if exact else torch.float32
    x, mean, basis = x.to(dtype), x.to(dtype).mean(0), eigenbasis(x).to(dtype)
    z, penalty = (x - mean) @ basis, 1 / (strengths.to(dtype) * len(x))  # [M, R], [P]
    some = slice(None, None, max(1, len(x) // max(FOR_CURVATURE, 2 * x.shape[1])))
    squares, truth = z[some].square(), y.to(dtype)

    def curvatures(w: Tensor, problems: Tensor) -> Tensor:
        """The Hessian's diagonal [P, R + 1, 1], from some of the samples."""
        p = torch.sigmoid(z[some] @ w[:, :-1, 0].T + w[:, -1, 0])
        p = p * (1 - p) / len(squares)  # [m, P]
        curvature = torch.cat([squares.T @ p + penalty[problems], p.sum(0, keepdim=True)])
        return curvature.T[:, :, None].clamp(min=LEAST_CURVATURE)

    def evaluate(w: Tensor, problems: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and bias [P, R + 1, 1] -> losses [P] and gradients [P, R + 1, 1]."""
        weight, bias = w[:, :-1, 0].T, w[:, -1, 0]  # [R, P], [P]
        loss = penalty[problems] * weight.square().sum(0) / 2
        gradient, shift = weight * penalty[problems], torch.zeros_like(bias)
        rows = max(1, LOGITS_AT_ONCE // len(w))
        for first in range(0, len(z), rows):
            part = slice(first, first + rows)
            logits, label = z[part] @ weight + bias, truth[part][:, problems]
            loss = loss + (F.softplus(logits) - label * logits).sum(0) / len(z)
            residual = (torch.sigmoid(logits) - label) / len(z)
            gradient = gradient + z[part].T @ residual
            shift = shift + residual.sum(0)
        return loss, torch.cat([gradient, shift[None]]).T[:, :, None].contiguous()

    with torch.no_grad():
        w = torch.zeros(y.shape[1], basis.shape[1] + 1, 1, dtype=dtype)
        w, converged, _ = minimised(w, evaluate, curvatures, EXACT if exact else ROUGH, MOST_ITERATIONS)
        weight = (basis @ w[:, :-1, 0].T).double()
    return Fits(weight, w[:, -1, 0].double() - mean.double() @ weight, converged)


def _named(which: Tensor, names: Sequence[str]) -> str:
    listed = [repr(names[each]) for each in which.nonzero()[:, 0].tolist()]
    return ", ".join(listed[:LISTED]) + f", ... ({len(listed):,})" * (len(listed) > LISTED)
