"""Spans of hidden tokens, and what the true one among them is to be told from: both from the
samples' keys alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...augment.random import fold, uniform

START, ROUNDING, OTHERS, NOISE = (int.from_bytes(name, "big") for name in (b"spans", b"rounds", b"others", b"noise"))
"""Separate the draws from a sample's key."""


class Spans(NamedTuple):
    """Which tokens of each sample are hidden.

    Args:
        hidden: [S, N] bool.
        place: [S, M] the places of the hidden ones in order, as many for every batch of rows of N;
            behind them others.
        real: [S, M] bool, which of these are hidden.
    """

    hidden: Tensor
    place: Tensor
    real: Tensor

    def take(self, x: Tensor) -> Tensor:
        """x [S, N, D] at these places: [S, M, D]."""
        return x.gather(1, self.place[:, :, None].expand(-1, -1, x.shape[2]))

    def keys(self, key: Tensor) -> Tensor:
        """A key for the noise at each of these positions, [S, M], from the samples' keys [S]."""
        keys = fold(key, NOISE)[:, None].expand_as(self.place)
        return fold(keys.flatten(), self.place.flatten()).view_as(self.place)

    def hide(self, x: Tensor, token: Tensor) -> Tensor:
        """x [S, N, D] with a token [D] in place of the hidden ones."""
        return torch.where(self.hidden[:, :, None], token.to(x.dtype), x)


def span_masks(key: Tensor, lengths: Tensor, tokens: int, ratio: float, length: int) -> Spans:
    """Hides spans of equal length that may overlap (Baevski, Zhou, Mohamed and Auli 2020, wav2vec
    2.0, arXiv 2006.11477, Section 3.1 and Appendix A).

    Of a sample with n tokens, ratio * n / length spans, rounded up or down at random so that the
    mean is kept, and at least one, begin at as many different places. With 0.65 and spans of 10,
    about half of the tokens are hidden: spans overlap. A sample with less than twice the length has
    shorter spans, half of its own.

    Args:
        key: [S] int64, the samples' keys, `batch["key"]`.
        lengths: [S] int64, tokens of each sample; those behind are padding, and never hidden.
        tokens: N, places in a row.
        ratio: part of the tokens that would be hidden if no spans overlapped, in (0, 1).
        length: of a span, in tokens.
    """
    span = torch.minimum(lengths // 2, lengths.new_tensor(length)).clamp(min=1)  # [S]
    starts = (lengths - span + 1).clamp(min=0)
    count = (ratio * lengths / span + uniform(fold(key, ROUNDING), 1)[:, 0]).floor().clamp(min=1)
    place = torch.arange(tokens, device=key.device)
    drawn = uniform(fold(key, START), tokens).masked_fill(place >= starts[:, None], 2.0)
    first = (drawn.argsort(dim=1, stable=True).argsort(dim=1) < count[:, None]) & (drawn < 2.0)
    begun = first.long().cumsum(1)
    ended = begun.gather(1, (place - span[:, None]).clamp(min=0)).masked_fill(place < span[:, None], 0)
    hidden = begun > ended
    most = min(tokens, max(2, math.ceil(ratio * tokens) + length))
    order = hidden.logical_not().long().argsort(dim=1, stable=True)[:, :most]
    return Spans(hidden, order, hidden.gather(1, order))


def others(key: Tensor, real: Tensor, count: int) -> Tensor:
    """For each hidden token, others of the same sample, drawn with replacement: never padding, a
    visible token, or itself (arXiv 2006.11477, Section 3.2).

    Args:
        key: [S] int64, the samples' keys.
        real: [S, M] bool, as `Spans.real`: the first ones of each sample.
        count: K, how many for each.

    Returns:
        [S, M, K] places in 0 ... M - 1; those of a sample with a single hidden token are its own,
        which tells nothing apart.
    """
    samples, most = real.shape
    own = torch.arange(most, device=key.device).expand(samples, most)
    keys = fold(fold(key, OTHERS)[:, None].expand_as(own).flatten(), own.flatten())
    last = (real.sum(1) - 1).clamp(min=0)[:, None, None]  # [S, 1, 1]
    drawn = torch.minimum((uniform(keys, count).view(samples, most, count) * last).long(), (last - 1).clamp(min=0))
    return torch.minimum(drawn + (drawn >= own[:, :, None]), last)
