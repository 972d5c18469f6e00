"""Losses of methods that predict another view's embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from .similarity import unit_vectors


def regression(p: Tensor, z: Tensor) -> Tensor:
    """Squared distance between l2-normalised predictions and targets, 2 - 2 cos (Grill et al. 2020,
    arXiv 2006.07733, Equation 2).

    Args:
        p: predictions [B, D].
        z: targets [B, D], which get no gradient: with one, all samples would collapse to one point.

    Returns:
        The mean over samples, a scalar of at least float32, under autocast too.
    """
    with torch.autocast(p.device.type, enabled=False):
        return (2 - 2 * (unit_vectors(p) * unit_vectors(z.detach())).sum(dim=1)).mean()
