"""How much embeddings differ from each other, as standard deviation and effective rank, and how far
those of two views agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import where_double


def spread(embeddings: Tensor, real: Tensor | None = None) -> Tensor:
    """Standard deviation of l2-normalised embeddings [S, D], averaged over dimensions, in units of
    1/sqrt(D): 1 where they are spread evenly over the sphere, 0 where all are equal (Chen and He
    2021, arXiv 2011.10566, Section 4.1).

    Args:
        embeddings: [S, D], of any length.
        real: [S] bool, which of them count. None: all.
    """
    z = F.normalize(embeddings.float(), dim=1)
    if real is None:
        return z.std(dim=0).mean() * z.shape[1] ** 0.5
    weight, count = real[:, None].to(z.dtype), real.sum()
    mean = (z * weight).sum(dim=0) / count.clamp(min=1)
    variance = ((z - mean).square() * weight).sum(dim=0) / (count - 1).clamp(min=1)
    return variance.sqrt().mean() * z.shape[1] ** 0.5


def effective_rank(embeddings: Tensor) -> Tensor:
    """Effective rank, exp(entropy of the singular values), of l2-normalised embeddings [S, D]
    (RankMe, arXiv 2210.02885, Equation 1, on centred embeddings, so that those on a line have rank
    1); NaN where one is not finite."""
    # In float32 the root of the Gram matrix's rounding would add up over dimensions.
    z = F.normalize(where_double(embeddings).double(), dim=1)
    z = z - z.mean(dim=0)
    gram = z @ z.T if z.shape[0] < z.shape[1] else z.T @ z
    if not gram.isfinite().all():
        return gram.new_tensor(float("nan"))  # the solver would raise; the loss has its own check
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    p = singular / singular.sum().clamp_min(1e-12)
    return torch.exp(-(p * torch.log(p.clamp_min(1e-12))).sum())


ITERATIONS = 4
"""Of the power method, which need not converge: of two directions that are nearly as large, either
may be left out."""
NOTHING = 1e-9
"""Share of the mean square at which a variance is that of rounding."""


def agreement(pairs: Tensor) -> Tensor:
    """What the features of two views of a sample have in common, over all directions but the one of
    the largest variance: [2], their covariance and their variance, summed over samples and
    directions. The ratio is 1 where the views agree, and about 0 where the features are noise, or
    are noise but for one direction. Both are 0 where no variance is left.

    Args:
        pairs: [S, 2, D], S >= 2.
    """
    x = pairs.to(torch.promote_types(pairs.dtype, torch.float32))
    floor = NOTHING * x.square().sum()
    x = x - x.mean(dim=(0, 1))
    flat = x.flatten(0, 1)  # [2S, D]
    direction = flat.T @ flat.square().sum(dim=1)  # in any order of samples
    for _ in range(ITERATIONS):
        direction = flat.T @ (flat @ F.normalize(direction, dim=0))
    direction = F.normalize(direction, dim=0)
    x = x - (x @ direction)[..., None] * direction
    sums = torch.stack([2 * (x[:, 0] * x[:, 1]).sum(), x.square().sum()])
    return torch.where(sums[1] > floor, sums, 0.0)
