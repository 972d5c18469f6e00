"""Spans of hidden tokens and their negatives are drawn from the samples' keys alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...augment.random import fold, uniform
from .tokens import take

START, ROUNDING, OTHERS, NOISE = (int.from_bytes(name, "big") for name in (b"spans", b"rounds", b"others", b"noise"))
"""Separate the draws from a sample's key."""


class Spans(NamedTuple):
    """Which tokens of each sample are hidden.

    Args:
        hidden: [S, N] bool.
        positions: [S, M] positions of the hidden tokens in order, followed by others: M is the same
            for every batch of rows of N.
        real: [S, M] bool, which of these are hidden.
    """

    hidden: Tensor
    positions: Tensor
    real: Tensor

    def take(self, x: Tensor) -> Tensor:
        """x [S, N, D] at these positions: [S, M, D]."""
        return take(x, self.positions)

    def keys(self, key: Tensor) -> Tensor:
        """A key for the noise at each of these positions, [S, M], from the samples' keys [S]."""
        keys = fold(key, NOISE)[:, None].expand_as(self.positions)
        return fold(keys.flatten(), self.positions.flatten()).view_as(self.positions)

    def hide(self, x: Tensor, token: Tensor) -> Tensor:
        """x [S, N, D] with a token [D] in place of the hidden ones."""
        return torch.where(self.hidden[:, :, None], token.to(x.dtype), x)

    def blank(self, x: Tensor) -> Tensor:
        """x [S, N, D] with NaN, which pictures show as hidden, in place of the hidden ones."""
        return x.masked_fill(self.hidden[:, :, None], torch.nan)


def span_masks(key: Tensor, lengths: Tensor, tokens: int, ratio: float, length: int) -> Spans:
    """Hides spans of equal length that may overlap (Baevski, Zhou, Mohamed and Auli 2020, wav2vec
    2.0, arXiv 2006.11477, Section 3.1 and Appendix A).

    A sample with n tokens has ratio * n / length spans, rounded up or down at random so that the
    mean is kept, and at least one. They begin at different positions. With 0.65 and spans of 10,
    about half of the tokens are hidden, since spans overlap. In a sample with less than twice the
    length, spans have half the length of the sample.

    Args:
        key: [S] int64, the samples' keys, `batch["key"]`.
        lengths: [S] int64, tokens of each sample; those behind are padding, and never hidden.
        tokens: N, tokens of a row.
        ratio: part of the tokens that would be hidden if no spans overlapped, in (0, 1).
        length: tokens of a span.
    """
    span = (lengths // 2).clamp(min=1, max=length)  # [S]
    starts = (lengths - span + 1).clamp(min=0)
    count = (ratio * lengths.float() / span + uniform(fold(key, ROUNDING), 1)[:, 0]).floor().clamp(min=1)
    position = torch.arange(tokens, device=key.device)
    drawn = uniform(fold(key, START), tokens).masked_fill(position >= starts[:, None], 2.0)
    first = (drawn.argsort(dim=1, stable=True).argsort(dim=1) < count[:, None]) & (drawn < 2.0)
    begun = first.long().cumsum(1)
    ended = begun.gather(1, (position - span[:, None]).clamp(min=0)).masked_fill(position < span[:, None], 0)
    hidden = begun > ended
    most = min(tokens, max(2, math.ceil(ratio * tokens) + length))
    order = hidden.logical_not().long().argsort(dim=1, stable=True)[:, :most]
    return Spans(hidden, order, hidden.gather(1, order))


def others(key: Tensor, real: Tensor, count: int) -> Tensor:
    """Draws negatives for each hidden token among the others of the same sample, with replacement:
    never padding, a visible token, or itself (arXiv 2006.11477, Section 3.2).

    Args:
        key: [S] int64, the samples' keys.
        real: [S, M] bool, as `Spans.real`: the first ones of each sample.
        count: K, number of negatives.

    Returns:
        [S, M, K] indices in 0 ... M - 1. A sample with a single hidden token has no others; there
        they are its own, which `quantized_nce` ignores.
    """
    samples, most = real.shape
    index = torch.arange(most, device=key.device).expand(samples, most)
    keys = fold(fold(key, OTHERS)[:, None].expand_as(index).flatten(), index.flatten())
    last = (real.sum(1) - 1).clamp(min=0)[:, None, None]  # [S, 1, 1]
    drawn = torch.minimum((uniform(keys, count).view(samples, most, count) * last).long(), (last - 1).clamp(min=0))
    return torch.minimum(drawn + (drawn >= index[:, :, None]), last)
