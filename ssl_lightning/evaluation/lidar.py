"""LiDAR: how many directions tell samples apart better than views of one sample differ."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RIDGE = 1e-4
"""Added to the variance within samples in every direction (delta)."""
FLOOR = 1e-8
"""Added to each eigenvalue (epsilon), so that those that are 0 have a logarithm."""


def lidar(views: Tensor) -> float:
    """The effective rank of a linear discriminant analysis whose classes are the samples and whose
    members are views of them: exp(-sum p ln p), p = (lambda + epsilon) / sum(lambda + epsilon),
    with lambda the eigenvalues of W^-1/2 B W^-1/2 (Thilak et al. 2023, arXiv 2312.04000,
    Equations 1 to 4). W is the scatter within samples over n (q - 1), plus delta = 1e-4 in every
    direction; B is the covariance of the samples' means. It lies between 1 and min(D, n - 1), but
    for what epsilon adds, and compares encoders of the same D, n and q.

    NaN where views cannot tell: of fewer than 2 samples or views, of fewer than 2 dimensions, where
    D is larger than n (q - 1), so that delta alone would be the variance of some directions, and
    where a feature is not finite.

    Args:
        views: [n, q, D] features of q views of each of n samples.
    """
    count, each, dim = views.shape
    if min(count, each, dim) < 2 or dim > count * (each - 1) or not bool(views.isfinite().all()):
        return math.nan
    x = views.detach().cpu().double()
    means = x.mean(dim=1)  # [n, D]
    inner = (x - means[:, None]).flatten(0, 1)
    within = inner.T @ inner / (count * (each - 1)) + RIDGE * torch.eye(dim, dtype=x.dtype)
    between = (means - means.mean(dim=0)) / math.sqrt(count - 1)  # its square is B
    # The eigenvalues are the squares of the singular values of L^-1 between^T, with W = L L^T.
    root = torch.linalg.cholesky(within)
    singular = torch.linalg.svdvals(torch.linalg.solve_triangular(root, between.T, upper=False))
    eigenvalues = torch.zeros(dim, dtype=x.dtype)
    eigenvalues[: len(singular)] = singular.square()
    p = (eigenvalues + FLOOR) / (eigenvalues + FLOOR).sum()
    return float(torch.exp(-(p * p.log()).sum()))
