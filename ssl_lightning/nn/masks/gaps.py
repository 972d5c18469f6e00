"""Gaps: stretches that are taken out of sequences, and what a straight line across them gives."""

from __future__ import annotations

import torch
from torch import Tensor

from ...augment.random import fold, uniform

GAP = 0x676170
"""Keeps the gaps' numbers apart from those of augmentations."""


def random_gaps(key: Tensor, lengths: Tensor, tokens: int, span: float, gaps: int = 1) -> Tensor:
    """Which tokens are taken out, [S, N] bool: a part of each sequence, in gaps of equal length,
    each anywhere in its own part of the sequence, with a token left before and behind it. A part
    too short for that has no gap. Padding changes nothing.

    Args:
        key: [S] int64, the samples' keys.
        lengths: [S], tokens of each sequence, the first of its row.
        tokens: N, of a row.
        span: part of the sequence that all gaps are together.
        gaps: how many.
    """
    n, part = lengths[:, None], torch.arange(gaps + 1, device=lengths.device)
    edges = n * part // gaps  # [S, gaps + 1]
    low, high = (
        edges[:, :-1] + 1,
        edges[:, 1:] - (part[1:] == gaps).long(),
    )  # a gap lies from `low` up to, without, `high`
    room = (high - low).clamp(min=0)
    length = (n * (span / gaps)).round().long().clamp(min=1).minimum(room)
    start = low + (uniform(fold(key, GAP), gaps) * (room - length + 1)).long()
    place = torch.arange(tokens, device=lengths.device)[:, None]
    return ((place >= start[:, None]) & (place < (start + length)[:, None])).any(dim=2)


def interpolated(x: Tensor, hidden: Tensor) -> Tensor:
    """Views [S, ..., T] whose hidden places lie on straight lines in time between the nearest ones
    before and behind.

    Args:
        x: waves or log-mels, time last.
        hidden: of the same shape, bool.
    """
    last = x.shape[-1] - 1
    place = torch.arange(last + 1, device=x.device).expand(x.shape)
    before = place.masked_fill(hidden, 0).cummax(dim=-1).values
    behind = last - (last - place).masked_fill(hidden, 0).flip(-1).cummax(dim=-1).values.flip(-1)
    share = ((place - before) / (behind - before).clamp(min=1)).to(x.dtype)
    return torch.lerp(x.gather(-1, before), x.gather(-1, behind), share)
