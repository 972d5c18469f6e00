"""Losses of methods that predict another view's embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from .contrastive import _direction


def regression(p: Tensor, z: Tensor) -> Tensor:
    """Squared distance of l2-normalised predictions and targets, 2 - 2 cos (Grill et al. 2020,
    arXiv 2006.07733, Equation 2).

    Args:
        p: predictions [B, D].
        z: targets [B, D], which get no gradient: else all would move to one point.

    Returns:
        The mean over samples, a scalar of at least float32, under autocast too.
    """
    with torch.autocast(p.device.type, enabled=False):
        return (2 - 2 * (_direction(p) * _direction(z.detach())).sum(dim=1)).mean()
