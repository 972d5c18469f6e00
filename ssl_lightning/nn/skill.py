"""How much better a prediction is than a baseline."""

from __future__ import annotations

import torch
from torch import Tensor


def skill(error: Tensor, baseline: Tensor) -> Tensor:
    """Computes 1 - error / baseline (Murphy 1988, Skill scores based on the mean square error,
    Equation 4): 1 for a perfect prediction, 0 for one that is as good as the baseline, below 0 for
    a worse one.

    Args:
        error: of the prediction.
        baseline: error of a prediction that needs no learning, in the same unit, on the same
            samples. Where it is 0 there is nothing to predict, and the skill is 0.
    """
    return torch.where(baseline > 0, 1 - error / baseline.clamp(min=1e-12), 0.0)


def wide(x: Tensor) -> Tensor:
    """Converts x to float32, for sums of errors; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
