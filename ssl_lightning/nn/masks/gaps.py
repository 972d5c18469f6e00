"""Gaps are stretches that are taken out of sequences; a baseline interpolates across them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...augment.random import fold, uniform

GAP = 0x676170
"""Separates the draw of the gaps from those of augmentations."""


def random_gaps(key: Tensor, lengths: Tensor, tokens: int, span: float, gaps: int = 1) -> Tensor:
    """Draws which tokens are taken out, [S, N] bool.

    The gaps of a sequence have equal lengths. Each lies anywhere in its own part of the sequence,
    with a token left before and behind it; a part too short for that has no gap. Padding changes
    nothing.

    Args:
        key: [S] int64, the samples' keys.
        lengths: [S] tokens of each sequence, the first of its row.
        tokens: N, tokens of a row.
        span: part of the sequence that all gaps cover together.
        gaps: number of gaps.
    """
    n, part = lengths[:, None], torch.arange(gaps + 1, device=lengths.device)
    edges = n * part // gaps  # [S, gaps + 1]
    low, high = edges[:, :-1] + 1, edges[:, 1:] - (part[1:] == gaps).long()  # a gap lies in low ... high - 1
    room = (high - low).clamp(min=0)
    length = (n.float() * (span / gaps)).round().long().clamp(min=1).minimum(room)
    start = low + (uniform(fold(key, GAP), gaps) * (room - length + 1)).long()
    position = torch.arange(tokens, device=lengths.device)[:, None]
    return ((position >= start[:, None]) & (position < (start + length)[:, None])).any(dim=2)


def interpolated(x: Tensor, hidden: Tensor) -> Tensor:
    """Replaces hidden values of views [S, ..., T] by linear interpolation in time between the
    nearest visible ones before and behind.

    Args:
        x: waves or log-mels, time last.
        hidden: of the same shape, bool.
    """
    last = x.shape[-1] - 1
    time = torch.arange(last + 1, device=x.device).expand(x.shape)
    before = time.masked_fill(hidden, 0).cummax(dim=-1).values
    behind = last - (last - time).masked_fill(hidden, 0).flip(-1).cummax(dim=-1).values.flip(-1)
    exact = torch.promote_types(x.dtype, torch.float32)
    share = ((time - before).to(exact) / (behind - before).clamp(min=1)).to(x.dtype)
    return torch.lerp(x.gather(-1, before), x.gather(-1, behind), share)
