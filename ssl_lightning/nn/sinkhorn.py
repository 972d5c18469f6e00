"""Sinkhorn-Knopp: soft assignments of samples to prototypes that use all prototypes equally."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float, iterations: int, total: Callable[[Tensor], Tensor] = Tensor.clone
) -> Tensor:
    """Codes that are close to the scores while each prototype gets an equal part of the samples
    (Caron et al. 2020, arXiv 2006.09882, Equations 3 to 5; Cuturi 2013, arXiv 1306.0895).

    With several processes each holds its own samples and passes the sum over processes as `total`:
    the codes are those of one process with all samples, at the cost of `iterations` sums of K
    numbers.

    Args:
        scores: [B, K] cosine similarities of B samples and K prototypes, at most 1.
        epsilon: the smaller, the closer the codes are to a choice of one prototype (Section 3.1:
            0.05).
        iterations: of the alternation between prototypes and samples (3).
        total: sums a tensor over processes, without gradient.

    Returns:
        [B, K] float32 codes, each row a distribution.

    Raises:
        ValueError: epsilon or iterations is not positive.
    """
    if not epsilon > 0 or iterations < 1:
        raise ValueError(
            f"sinkhorn needs a positive epsilon and at least one iteration, got {epsilon} and {iterations}."
        )
    scores = scores.float()
    codes = (scores / epsilon).softmax(dim=1)  # a factor on a row does nothing here but keep it from vanishing
    for iteration in range(iterations):
        used = (
            codes.sum(dim=0) if iteration else ((scores - 1) / epsilon).exp().sum(dim=0)
        )  # less 1, which cancels: no overflow
        codes /= total(used).clamp_(1e-30, 1e30)  # each prototype the same weight
        codes /= codes.sum(dim=1, keepdim=True)  # each sample the same weight
    return codes
