"""Sinkhorn-Knopp computes soft assignments of samples to prototypes that use all prototypes
equally."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..plugins.arguments import require


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float, iterations: int, total: Callable[[Tensor], Tensor] = Tensor.clone
) -> Tensor:
    """Computes codes that are close to the scores while each prototype gets an equal part of the
    samples (Caron et al. 2020, arXiv 2006.09882, Equations 3 to 5; Cuturi 2013, arXiv 1306.0895).

    With several processes each holds its own samples and passes the sum over processes as `total`:
    the codes are those of one process with all samples, at the cost of `iterations` sums of K
    values.

    Args:
        scores: [B, K] cosine similarities of B samples and K prototypes, at most 1.
        epsilon: the smaller, the closer the codes are to a choice of one prototype (Section 3.1:
            0.05).
        iterations: number of alternations between prototypes and samples (3).
        total: sums a tensor over processes, without gradient.

    Returns:
        [B, K] float32 codes, each row a distribution.

    Raises:
        ValueError: epsilon or iterations is not positive.
    """
    require("sinkhorn", above=0, epsilon=epsilon)
    require("sinkhorn", at_least=1, iterations=iterations)
    scores = scores.float()
    codes = (scores / epsilon).softmax(dim=1)  # a factor on a row cancels, and keeps it from underflow
    for iteration in range(iterations):
        # Minus 1 is a factor that cancels: no overflow.
        used = codes.sum(dim=0) if iteration else ((scores - 1) / epsilon).exp().sum(dim=0)
        codes /= total(used).clamp_(1e-30, 1e30)  # each prototype the same weight
        codes /= codes.sum(dim=1, keepdim=True)  # each sample the same weight
    return codes
