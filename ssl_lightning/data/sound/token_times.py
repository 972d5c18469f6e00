"""The seconds that tokens of recordings stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..sources import Source
from .lengths import lengths_of
from .source import recordings_of


def token_times(source: Source, index: Tensor, counts: Sequence[int], sample_rate: int, apart: int) -> list[Tensor]:
    """The seconds at the middle of each token of recordings, or of windows, on the time of the
    whole recording; NaN for tokens behind its end, which are padding.

    Args:
        source: the recordings, or windows.
        index: [M] which of them.
        counts: [M] the number of tokens of each.
        sample_rate: of the views, in Hz.
        apart: samples from one token to the next.
    """
    starts = getattr(recordings_of(source), "starts", None)
    first = torch.zeros(len(index)) if starts is None else starts[index]
    lengths = lengths_of(source)[index]
    times = []
    for start, length, count in zip(first.tolist(), lengths.tolist(), counts, strict=True):
        middle = (torch.arange(count, dtype=torch.float64) + 0.5) * apart
        middle = torch.where(middle < length, middle, math.nan)
        times.append((start + middle) / sample_rate)
    return times
