"""A batch of recordings of other lengths, for the tests of several methods."""

from __future__ import annotations

import torch

from ssl_lightning import Batch, View
from ssl_lightning.augment.random import sample_keys

LENGTHS = [16, 9, 12, 6, 3]
"""Frames; the last recording has no token that lies 3 ahead of another."""


def batch_of(lengths: list[int] | None = None, loud: float = 50.0) -> Batch:
    """Recordings of other lengths in rows of 16 frames; what lies behind them is loud."""
    lengths = LENGTHS if lengths is None else lengths
    index = torch.arange(len(lengths))
    x = torch.randn(len(lengths), 1, 4, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real = torch.arange(16) < torch.tensor(lengths)[:, None]
    view = View(torch.where(real[:, None, None], x, loud), real * (index + 1)[:, None])
    return {"views": [view], "index": index, "key": sample_keys(0, 0, index)}
