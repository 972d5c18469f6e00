"""Contrastive losses: a vector picks its counterpart out of others.

Notation for shapes: B samples on this process, G samples on all of them, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .similarity import CHUNK, unit_vectors


def nt_xent(z1: Tensor, z2: Tensor, temperature: float, sizes: Sequence[int] | None = None, rank: int = 0) -> Tensor:
    """NT-Xent: each view picks the other view of its sample out of all other views (Chen et al.
    2020, arXiv 2002.05709, Equation 1).

    Memory grows with G, not G squared: similarities are computed in chunks of anchors, and the
    gradient along with them. Half-precision features are compared in float32, under autocast too.

    With several processes, gather both views first. Each process then takes its own samples as
    anchors:

        sizes = self.row_counts(z1)  # of `SSLMethod`
        loss = nt_xent(gather(z1, sizes), gather(z2, sizes), temperature, sizes, rank())

    The sum over its anchors is scaled by W / 2G for W processes, so that the mean over processes,
    which DistributedDataParallel takes of the gradients, is the loss of one process with all
    samples, however many each has.

    Args:
        z1: features of the first view [G, D], of any length: they are l2-normalised here.
        z2: features of the second view [G, D].
        temperature: divides the cosine similarities (the paper's tau; 0.1 to 0.5 in Table 5).
        sizes: number of samples that came from each process, in the order of ranks. None: one
            process, B = G.
        rank: index of this process.

    Returns:
        A scalar of at least float32. Zero for no sample, and for a single one, which has no
        negatives.

    Raises:
        ValueError: the shapes differ, the temperature is not positive, or `sizes` do not add up to
            G.
    """
    sizes = [len(z1)] if sizes is None else sizes
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(
            f"nt_xent compares two views [G, D] of the same samples, got {tuple(z1.shape)} and {tuple(z2.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"nt_xent divides by the temperature, which must be positive, got {temperature}.")
    if sum(sizes) != len(z1) or not 0 <= rank < len(sizes):
        raise ValueError(
            f"nt_xent got {len(z1)} samples for sizes={list(sizes)} and rank={rank}; gather both views first."
        )
    start = sum(sizes[:rank])
    with torch.autocast(z1.device.type, enabled=False):
        z = torch.stack((z1, z2), dim=1).flatten(0, 1)  # [2G, D], the views of sample k at 2k and 2k + 1
        z = unit_vectors(z)
        total: Tensor = _NTXentSum.apply(z, temperature, 2 * start, 2 * (start + sizes[rank]))
        return total * (len(sizes) / max(1, len(z)))


def quantized_nce(
    c: Tensor, q: Tensor, code: Tensor, other: Tensor, real: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """wav2vec 2.0's contrastive loss: each hidden token picks its quantized target out of those of
    other hidden tokens of its sample (Baevski et al. 2020, arXiv 2006.11477, Equation 3). Negatives
    that share the target's code are ignored.

    All similarities within a sample are computed at once, and those of the negatives picked: M
    squared values in place of M K D.

    Args:
        c: contextual tokens of S samples' hidden tokens, [S, M, D], of any length.
        q: their targets [S, M, D]. Both have a gradient.
        code: [S, M, G] entries of the codebooks that each target consists of.
        other: [S, M, K] negatives, as indices into the M tokens of the sample.
        real: [S, M] bool, which of the M tokens are hidden.
        temperature: divides the cosine similarities (the paper's kappa, 0.1).

    Returns:
        The sum over the hidden tokens, a scalar of at least float32, and the number of them that
        have negatives, all of which are less similar than the target.
    """
    with torch.autocast(c.device.type, enabled=False):
        s = unit_vectors(c) @ unit_vectors(q).mT / temperature  # [S, M, M]
        same = (code[:, :, None] == code[:, None]).all(3)  # [S, M, M]
        positive = s.diagonal(dim1=1, dim2=2)[:, :, None]  # [S, M, 1]
        negative = s.masked_fill(same, -torch.inf).gather(2, other)  # [S, M, K]
        nll = torch.cat([positive, negative], dim=2).logsumexp(2) - positive[:, :, 0]  # [S, M]
        best = negative.detach().amax(2)
        return torch.where(real, nll, 0.0).sum(), (real & (positive[:, :, 0] > best) & best.isfinite()).sum()


def queue_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE with a queue: each query picks its key out of the key and a queue of negatives (He et
    al. 2019, arXiv 1911.05722, Equation 1).

    Args:
        q: queries [B, D], of any length: they are l2-normalised here.
        k: their keys [B, D], which get no gradient.
        queue: K features [K, D] of length 1 from earlier batches.
        temperature: divides the cosine similarities (the paper's tau).

    Returns:
        The mean over the queries, a scalar of at least float32, under autocast too.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k = unit_vectors(q), unit_vectors(k.detach())
        positive = (q * k).sum(dim=1, keepdim=True)  # [B, 1]
        s = torch.cat([positive, q @ queue.detach().to(q.dtype).T], dim=1) / temperature  # [B, 1 + K]
        return -s.log_softmax(dim=1)[:, 0].mean()


def batch_nce(q: Tensor, keys: Tensor, temperature: float, first: int = 0) -> Tensor:
    """InfoNCE within a batch: each query picks its key out of the keys of the whole batch (Chen,
    Xie and He 2021, arXiv 2104.02057, Algorithm 1).

    Args:
        q: queries [B, D] of this process, of any length: they are l2-normalised here.
        keys: [G, D] of all processes, in the order of ranks; they get no gradient.
        temperature: divides the cosine similarities (the paper's tau).
        first: index of the first query's key; those of the others follow.

    Returns:
        The mean over the queries times 2 tau, as in the paper, a scalar of at least float32, under
        autocast too.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, keys = unit_vectors(q), unit_vectors(keys.detach())
        s = q @ keys.T / temperature  # [B, G]
        positive = torch.arange(first, first + len(q), device=q.device)
        return 2 * temperature * F.cross_entropy(s, positive)


class _NTXentSum(torch.autograd.Function):
    """Sum of l(i, j) over the anchors i in [start, stop); its gradient is ready when the value
    is."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, start: int, stop: int) -> Tensor:
        loss = z.new_zeros(())
        grad = torch.zeros_like(z) if ctx.needs_input_grad[0] else None
        rows = max(1, CHUNK // max(1, len(z)))
        for first in range(start, stop, rows):
            anchors = slice(first, min(first + rows, stop))
            i = torch.arange(anchors.start, anchors.stop, device=z.device)
            row, j = i - first, i ^ 1  # j: the other view of the same sample
            a = z[anchors] / temperature  # [c, D]
            s = a @ z.T  # [c, 2G]
            s[row, i] = -torch.inf  # k != i
            log_p = s.log_softmax(dim=1)
            loss -= log_p[row, j].sum()
            if grad is not None:
                ds = log_p.exp_()  # dl/ds = p - [k = j]
                ds[row, j] -= 1
                grad[anchors].addmm_(ds, z, alpha=1 / temperature)
                grad.addmm_(ds.T, a)
        if grad is not None:
            ctx.save_for_backward(grad)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        return grad_output * grad, None, None, None
