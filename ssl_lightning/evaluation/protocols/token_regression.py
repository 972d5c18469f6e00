"""Logistic regression on single tokens, whose strength is chosen on whole samples that are held
out.

Notation for shapes: T tokens, D features, K classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..protocol import GAIN, LARGEST, SMALLEST, STRENGTHS
from ..regression import Fits, eigenbasis, fit

HELD_OUT = 5
"""One of so many samples is held out to choose the strength by."""


class TokenClassifier(NamedTuple):
    """A linear classifier of standardised tokens: mean [D], scale [D], weight [D, K], bias [K] (of
    a class that the labels lack, 0 and -inf), the strength C and a line on it."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    strength: float
    remark: str

    def logits(self, x: Tensor) -> Tensor:
        """Tokens [T, D] -> logits [T, K], float64."""
        return ((x.double() - self.mean) / self.scale) @ self.weight + self.bias


def token_classifier(
    x: Tensor, y: Tensor, sample: Tensor, num_classes: int, shares: Tensor | None = None, seed: int = 0
) -> TokenClassifier:
    """L2-penalised logistic regression on tokens, standardised by their mean and deviation. C is a
    power of ten: that with the highest mean log-likelihood on a fifth of the samples, whose tokens
    no fit of the search has seen. The last fit is on all tokens.

    Args:
        x: [T, D] tokens.
        y: [T] classes.
        sample: [T] the number of the sample that each token is of.
        num_classes: K.
        shares: [T] the weight of each token; None: all are equal.
        seed: of the samples that are held out.

    Raises:
        ValueError: there is one class or one sample alone, or a token is not finite.
    """
    if not bool(x.isfinite().all()):
        raise ValueError("Tokens hold NaN or infinity; has the encoder diverged?")
    samples, number = sample.unique(return_inverse=True)
    if len(samples) < 2 or len(y.unique()) < 2:
        raise ValueError(
            f"There are tokens of {len(samples):,} samples and {len(y.unique()):,} classes to learn from; give at least"
            " two of each."
        )
    shares = torch.ones(len(y)) if shares is None else shares
    std, mean = torch.std_mean(x.double(), dim=0, correction=0)
    scale = torch.where(std > 1e-7 * mean.abs(), std, math.inf)
    z = ((x.double() - mean) / scale).float()
    drawn = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    out = torch.zeros(len(samples), dtype=torch.bool)
    out[drawn[: max(1, len(samples) // HELD_OUT)]] = True
    strength, at_end = _chosen(z, y, shares, out[number])
    basis = eigenbasis(z)
    weight, bias, converged = _fitted(z, y, shares, [strength], num_classes, basis)
    remark = f"C = {strength:g} was the best on {int(out.sum()):,} of the {len(samples):,} samples to learn from."
    remark += " It is the weakest or strongest penalty that is tried." * at_end
    remark += " The last fit stopped before it converged." * (not converged)
    return TokenClassifier(mean, scale, weight[0], bias[0], strength, remark)


def _chosen(z: Tensor, y: Tensor, shares: Tensor, out: Tensor) -> tuple[float, bool]:
    """The best C on the tokens `out`, and whether it is at an end of what is tried."""
    learned = y[~out].unique()
    judged = out & torch.isin(y, learned)
    if len(learned) < 2 or not bool(judged.any()):
        return 1.0, False  # nothing to choose by
    basis, count = eigenbasis(z[~out]), int(y.max()) + 1
    known: dict[float, float] = {}

    def judge(strengths: list[float]) -> None:
        weight, bias, _ = _fitted(z[~out], y[~out], shares[~out], strengths, count, basis, exact=False)
        for number, strength in enumerate(strengths):
            log_p = (z[judged].double() @ weight[number] + bias[number]).log_softmax(dim=1)
            share = shares[judged].double()
            known[strength] = float((share * log_p.gather(1, y[judged, None])[:, 0]).sum() / share.sum())

    judge(list(STRENGTHS))
    while True:
        order = sorted(known)
        best = order.index(max(known, key=known.__getitem__))
        if best not in (0, len(order) - 1):
            return order[best], False
        beside = order[1 if best == 0 else best - 1]
        further = order[best] / 10 if best == 0 else order[best] * 10
        if known[order[best]] - known[beside] < GAIN:
            return order[best], False
        if not SMALLEST * 0.99 <= further <= LARGEST * 1.01:
            return order[best], True
        judge([further])


def _fitted(
    z: Tensor, y: Tensor, shares: Tensor, strengths: list[float], count: int, basis: Tensor, exact: bool = True
) -> tuple[Tensor, Tensor, bool]:
    """Weights [P, D, count], biases [P, count] and whether all have converged, for each C."""
    classes, number = y.unique(return_inverse=True)
    every = shares[None].expand(len(strengths), -1)
    fits: Fits = fit(z, number, every, torch.tensor(strengths), exact=exact, basis=basis)
    weight = torch.zeros(len(strengths), z.shape[1], count, dtype=torch.float64)
    bias = torch.full((len(strengths), count), -math.inf, dtype=torch.float64)
    weight[:, :, classes], bias[:, classes] = fits.weight.double(), fits.bias.double()
    return weight, bias, bool(fits.converged.all())
