"""Statistics in which a sample counts as often as its weight says: average precision, Spearman's
correlation and R2.

Notation for shapes: Q samples, B sets of weights. A weight of 2 is a sample that is there twice.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Ranking:
    """The order of samples by a value, with those that are equal in one group.

    Args:
        values: [Q].
        descending: whether the largest are first.
    """

    def __init__(self, values: Tensor, descending: bool = False) -> None:
        self.order = values.argsort(descending=descending, stable=True)
        ordered = values[self.order]
        new = torch.ones(len(values), dtype=torch.bool)
        new[1:] = ordered[1:] != ordered[:-1]
        self.group = new.cumsum(0) - 1
        """[Q] the group of each sample in order."""
        self.groups = int(self.group[-1]) + 1

    def summed(self, weights: Tensor) -> Tensor:
        """The weights [B, Q] of the samples of each group, in order, [B, groups]."""
        return weights.new_zeros(len(weights), self.groups).index_add_(1, self.group, weights[:, self.order])

    def ranks(self, weights: Tensor) -> Tensor:
        """The rank [B, Q] of each sample, from 1 on; equal ones have the mean of theirs."""
        groups = self.summed(weights)
        middle = groups.cumsum(1) - groups + (groups + 1) / 2
        return torch.empty_like(weights).index_copy_(1, self.order, middle[:, self.group])


def average_precision(ranking: Ranking, positive: Tensor, weights: Tensor) -> Tensor:
    """The area under the curve of precision over recall as a sum of steps,
    sum_n (R_n - R_{n-1}) P_n over the thresholds (scikit-learn's `average_precision_score`), [B];
    NaN without positives.

    Args:
        ranking: by score, descending.
        positive: [Q] bool.
        weights: [B, Q].
    """
    hits, count = ranking.summed(weights * positive), ranking.summed(weights)
    precision = hits.cumsum(1) / count.cumsum(1).clamp(min=1e-30)
    return (hits * precision).sum(1) / hits.sum(1)


def spearman(ranking: Ranking, other: Ranking, weights: Tensor) -> Tensor:
    """Spearman's rank correlation [B] (Spearman 1904): Pearson's of the ranks; NaN where one has
    equal values only.

    Args:
        ranking, other: of the same samples.
        weights: [B, Q].
    """
    a, b = ranking.ranks(weights), other.ranks(weights)
    total = weights.sum(1, keepdim=True)
    a, b = (each - (weights * each).sum(1, keepdim=True) / total for each in (a, b))
    joint, one, two = ((weights * each).sum(1) for each in (a * b, a.square(), b.square()))
    return joint / (one * two).sqrt()


def explained(truth: Tensor, predicted: Tensor, weights: Tensor) -> Tensor:
    """The coefficient of determination R2 [B]: 1 - sum w (y - y')^2 / sum w (y - mean)^2; NaN where
    the truth is constant.

    Args:
        truth, predicted: [Q].
        weights: [B, Q].
    """
    level = truth.mean()
    truth, predicted = truth - level, predicted - level  # so that no digits are lost
    mean = weights @ truth / weights.sum(1)
    total = weights @ truth.square() - weights.sum(1) * mean.square()
    return torch.where(
        total > 1e-12 * truth.square().sum(), 1 - weights @ (truth - predicted).square() / total, torch.nan
    )
