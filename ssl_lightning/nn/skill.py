"""How good a prediction is, and how much better than what needs no learning."""

from __future__ import annotations

import torch
from torch import Tensor


def skill(error: Tensor, reference: Tensor) -> Tensor:
    """1 - error / reference (Murphy 1988, Skill scores based on the mean square error, Equation 4):
    1 for a perfect prediction, 0 for one that is no better than the reference, below 0 for a worse
    one.

    Args:
        error: of the prediction.
        reference: the error of what needs no learning, in the same unit, on the same places. Where
            it is 0 there is nothing to predict, and no skill.
    """
    return torch.where(reference > 0, 1 - error / reference.clamp(min=1e-12), 0.0)


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 where it is that already: errors are added up there."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
