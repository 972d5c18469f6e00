"""The loss of methods that predict tokens of a vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .similarity import CHUNK


def vocabulary_nll(h: Tensor, table: Tensor, bias: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of tokens under softmax(h table^T + bias): the last layer and
    cross-entropy of a language model.

    The scores [M, V] are never held at once: they are computed in chunks of tokens, and the
    gradient along with them. Under autocast the products are in its dtype, softmax and sums in
    float32.

    Args:
        h: [M, D] vectors that are projected onto the vocabulary.
        table: [V, D] a vector for each token of the vocabulary.
        bias: [V].
        target: [M] the true tokens.
        weight: [M] weight of each token in the sums, without gradient.

    Returns:
        The weighted sum of the negative log-likelihoods, a scalar of at least float32, and the
        weighted number of tokens that have the highest score, without gradient.
    """
    kind = h.device.type
    dtype = (
        torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.promote_types(h.dtype, table.dtype)
    )
    with torch.autocast(kind, enabled=False):
        total, correct = _VocabularyNLL.apply(h, table, bias, target, weight, dtype)
    return total, correct


class _VocabularyNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, table: Tensor, bias: Tensor, target: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(dtype, torch.float32)
        learns = any(ctx.needs_input_grad[:3])
        dh = torch.empty_like(h, dtype=exact)
        dtable, dbias = (torch.zeros_like(each, dtype=exact) for each in (table, bias))
        total, correct = (torch.zeros((), dtype=exact, device=h.device) for _ in range(2))
        cast = table.to(dtype)
        rows = max(1, CHUNK // len(table))
        for start in range(0, len(h), rows):
            part = slice(start, start + rows)
            x, y, w = h[part].to(dtype), target[part], weight[part].to(exact)
            scores = (x @ cast.T).to(exact).add_(bias)  # [m, V]
            correct += (w * (scores.argmax(dim=1) == y)).sum()
            log_p = scores.log_softmax(dim=1)
            row = torch.arange(len(y), device=y.device)
            total -= (w * log_p[row, y]).sum()
            if learns:
                d = log_p.exp_()
                d[row, y] -= 1
                d *= w[:, None]
                dbias += d.sum(dim=0)
                d = d.to(dtype)
                dh[part] = d @ cast
                dtable += d.T @ x
        if learns:
            ctx.save_for_backward(dh.to(h.dtype), dtable.to(table.dtype), dbias.to(bias.dtype))
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        dh, dtable, dbias = ctx.saved_tensors
        return (
            (dh * grad_total).to(dh.dtype),
            (dtable * grad_total).to(dtable.dtype),
            (dbias * grad_total).to(dbias.dtype),
            None,
            None,
            None,
        )
