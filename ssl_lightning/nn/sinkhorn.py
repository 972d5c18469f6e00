"""Sinkhorn-Knopp computes soft assignments of samples to prototypes that use all prototypes
equally."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..plugins.arguments import require


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float, iterations: int, gather: Callable[[Tensor], Tensor] = Tensor.clone
) -> Tensor:
    """Computes codes that are close to the scores while each prototype gets an equal part of the
    samples (Caron et al. 2020, arXiv 2006.09882, Equations 3 to 5; Cuturi 2013, arXiv 1306.0895).

    It works with logarithms: at the smaller epsilons of the paper's code a sample's weight on a
    distant prototype is below the least float32, and yet decides who gets that prototype.

    With several processes each holds its own samples and gathers the rows of all: the codes are
    those of one process with all samples, at the cost of `iterations` + 1 rows of K values.

    Args:
        scores: [B, K] similarities of B samples and K prototypes.
        epsilon: the smaller, the closer the codes are to a choice of one prototype (Section 3.1:
            0.05).
        iterations: number of alternations between prototypes and samples (3).
        gather: from a row [1, K] of this process to those of all processes [W, K].

    Returns:
        [B, K] float32 codes, each row a distribution.

    Raises:
        ValueError: epsilon or iterations is not positive.
    """
    require("sinkhorn", above=0, epsilon=epsilon)
    require("sinkhorn", at_least=1, iterations=iterations)
    scores = scores.float()
    # Each prototype's highest score cancels in the first sum, and keeps the digits of what is
    # divided. A process may have no samples.
    highest = F.pad(scores, (0, 0, 0, 1), value=-torch.inf).amax(dim=0, keepdim=True)
    log_codes = (scores - gather(highest).amax(dim=0)) / epsilon
    for _ in range(iterations):
        used = gather(log_codes.logsumexp(dim=0, keepdim=True)).logsumexp(dim=0)  # [K]
        log_codes = (log_codes - used).log_softmax(dim=1)  # each prototype, then each sample the same weight
    return log_codes.exp()
