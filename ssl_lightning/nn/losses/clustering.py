"""Losses of methods that predict cluster assignments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def swapped_prediction(scores: Sequence[Tensor], codes: Sequence[Tensor], temperature: float) -> Tensor:
    """Swapped prediction: every view predicts the code of each other full view (Caron et al. 2020,
    arXiv 2006.09882, Equations 1, 2 and 6).

    Args:
        scores: for each view, full ones first, similarities [B, K] to the prototypes.
        codes: for each full view, codes [B, K] computed from its scores, without gradient.
        temperature: divides the scores (the paper's tau).

    Returns:
        The mean over pairs of views and over samples, a scalar of float32.
    """
    with torch.autocast(scores[0].device.type, enabled=False):
        log_p = [(s.float() / temperature).log_softmax(dim=1) for s in scores]
        terms = [-(q * log_p[v]).sum(dim=1).mean() for i, q in enumerate(codes) for v in range(len(scores)) if v != i]
        return torch.stack(terms).mean()
