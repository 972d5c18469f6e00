"""What features tell without labels: their spectrum, whether two views of a sample find each other,
nearest neighbours, near-duplicates and outliers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

NEAR = 0.25
"""Near-duplicates are closer than this share of the median distance to the nearest neighbour."""
SAME = 1e-6
"""Distance of features that are equal but for rounding."""
NEIGHBOURS = 5
"""Neighbours of a sample that are shown, and over which an outlier's distance is a mean."""
SHARE = 1e-7
"""Added to each singular value's share, so that those that are 0 have a logarithm (epsilon)."""
FIRST, LAST = 3, 100
"""The eigenvalues, counted from 1, that a power law is fitted to: without the largest, as its
authors advise, and without the noise of the smallest."""


def alpha_req(features: Tensor) -> float:
    """Exponent of the power law i^-alpha that the eigenvalues of the features' covariance follow
    (alpha-ReQ, Agrawal et al. 2022, Section 3; fitted in logarithms, each eigenvalue with weight
    1/i, as in Stringer et al. 2019). Near 1 is good, much above it few directions carry all, below
    it the features are noise; NaN where the features have too few dimensions for a fit.

    Args:
        features: [N, D]; the eigenvalues from the third to the hundredth, but at most half as many
            as there are, are fitted.
    """
    x = features.double()
    x = x - x.mean(dim=0)
    singular = torch.linalg.svdvals(x)
    eigenvalues = singular[singular > 1e-6 * singular[:1].clamp_min(1e-12)].square().numpy()
    last = min(LAST, len(eigenvalues) // 2)
    if last < FIRST + 2:
        return float("nan")
    index = np.arange(FIRST, last + 1)
    slope, _ = np.polyfit(np.log(index), np.log(eigenvalues[index - 1]), 1, w=index**-0.5)  # numpy squares weights
    return float(-slope)


def rankme(features: Tensor) -> float:
    """How many directions features use: exp(-sum p ln p), p = sigma / sum(sigma) + 1e-7, with sigma
    the singular values of the features as they are, neither centred nor normalised (RankMe, Garrido
    et al. 2022, arXiv 2210.02885, Equation 1). Between 1 and min(N, D), but for what 1e-7 adds; NaN
    where all features are 0.

    Args:
        features: [N, D]; the authors advise more than 25,000 samples, and 10 for each dimension.
    """
    singular = torch.linalg.svdvals(features.double())
    p = singular / singular.sum() + SHARE
    return float(torch.exp(-(p * p.log()).sum()))


def finds_own_view(first: Tensor, second: Tensor) -> float:
    """Share of the samples whose own second view is the nearest of all second views, by cosine.

    Args:
        first, second: [N, D], N >= 2, two views of the same samples. Of equal similarities a half
            counts as nearer, so that equal features find each other by chance.
    """
    first, second = _normal(first), _normal(second)
    ranks = []
    for start in range(0, len(first), 1024):
        similarity = first[start : start + 1024] @ second.T  # [B, N]
        own = similarity.diagonal(start)[:, None]
        ranks.append((similarity > own + 1e-6).sum(1) + ((similarity - own).abs() <= 1e-6).sum(1).sub(1) / 2)
    return float((torch.cat(ranks) < 0.5).float().mean())


def nearest(features: Tensor, queries: Tensor, count: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """The nearest neighbours of some samples among all others, by the cosine of centred features.

    Args:
        features: [N, D].
        queries: [Q] indices of samples.
        count: at most this many neighbours, and at most N - 1.

    Returns:
        Indices [Q, count], the nearest first, and distances [Q, count] between the normalised
        features: 0 for equal ones, 2 for opposite ones.
    """
    z = _normal(features - features.mean(dim=0))
    indices, distances = [], []
    for part in queries.split(1024):
        similarity = z[part] @ z.T  # [B, N]
        similarity[torch.arange(len(part)), part] = -torch.inf
        value, index = similarity.topk(min(count, len(z) - 1), dim=1)
        indices.append(index)
        distances.append((2 - 2 * value).clamp_min(0).sqrt())
    return torch.cat(indices), torch.cat(distances)


def near_duplicates(index: Tensor, distance: Tensor) -> NDArray[np.int64]:
    """Pairs of samples [P, 2] that are much nearer to each other than samples usually are, the
    nearest first.

    Args:
        index, distance: [N, K] neighbours of all samples, by `nearest`. The median is over the
            distances to the nearest neighbour that are not 0; where all are, there are no pairs.
    """
    apart = distance[:, 0][distance[:, 0] > SAME]
    if not len(apart):
        return np.empty((0, 2), dtype=np.int64)  # all are equal: collapsed
    limit = NEAR * apart.median()
    sample, rank = (distance <= limit).nonzero(as_tuple=True)
    pairs = torch.stack([sample, index[sample, rank]], dim=1).sort(dim=1).values
    order = distance[sample, rank].argsort(stable=True)
    unique = dict.fromkeys(map(tuple, pairs[order].tolist()))
    return np.array(list(unique), dtype=np.int64).reshape(-1, 2)


def outliers(distance: Tensor, count: int = 20) -> tuple[Tensor, Tensor]:
    """The samples that are farthest from their neighbours (mean distance to the K nearest, as in
    Sun et al. 2022, arXiv 2204.06507).

    Args:
        distance: [N, K] to the nearest neighbours of all samples.
        count: of the samples to return.

    Returns:
        Indices [count], the farthest first, and how many times the median their mean distance is.
    """
    mean = distance.mean(dim=1)
    value, index = mean.topk(min(count, len(mean)))
    return index, value / mean.median().clamp_min(1e-12)


def _normal(features: Tensor) -> Tensor:
    return F.normalize(features.double(), dim=1)
