"""The vectors of single tokens: patches of an image, frames of a sound, tokens of a text."""

from __future__ import annotations

import torch
from torch import Tensor

from ...encoders.base import TokenEncoder
from ...types import View


def tokens_of(encoder: TokenEncoder, view: View) -> list[Tensor]:
    """Returns the contextual tokens [N, dim] of each sample of a view, in order, without the
    encoder's prefix and without padding."""
    tokens = encoder.tokenize(view)
    mixed = encoder.mix(tokens)[:, encoder.prefix :]  # [B, N, D]
    if tokens.segment is None:
        return list(mixed)
    segment = tokens.segment[:, encoder.prefix :].flatten()
    samples = len(mixed) if tokens.samples is None else tokens.samples
    counts = torch.bincount(segment, minlength=samples + 1)[: samples + 1]
    order = segment.argsort(stable=True)[int(counts[0]) :]
    return list(mixed.flatten(0, 1)[order].split(counts[1:].tolist()))
