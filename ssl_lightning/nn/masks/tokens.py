"""Masks say which tokens a method hides. They are drawn from the samples' keys, so neither batch,
process nor resume changes them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...augment.random import fold, uniform
from ...plugins.arguments import require
from ...types import Tokens, View

MASK = 0x6D61736B
"""Separates the draw of a mask from those of augmentations."""


def random_masking(key: Tensor, tokens: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Hides the same number of tokens of each sample, at random (He et al. 2021, arXiv 2111.06377,
    Section 3, "Masking").

    Args:
        key: [S] int64, the samples' keys, `batch["key"]`.
        tokens: N, tokens of a sample.
        ratio: part of the tokens to hide, in (0, 1); at least one stays and at least one is hidden.

    Returns:
        Positions of the visible tokens [S, V] and of the hidden ones [S, N - V], each in random
        order; V = floor(N (1 - ratio)).

    Raises:
        ValueError: the ratio is not in (0, 1), or there are fewer than two tokens.
    """
    require("random_masking", above=0, below=1, ratio=ratio)
    if tokens < 2:
        raise ValueError(
            f"Masking needs at least 2 tokens a sample, got {tokens}: use a smaller patch, or a larger input."
        )
    visible = min(max(1, int(tokens * (1 - ratio) + 1e-6)), tokens - 1)  # 0.9 of 100 leaves 10, not int(9.9999999)
    # A stable sort: among equal numbers too, the batch decides nothing.
    order = uniform(fold(key, MASK), tokens).argsort(dim=1, stable=True)
    return order[:, :visible], order[:, visible:]


def take(x: Tensor, positions: Tensor) -> Tensor:
    """Takes the tokens of [S, N, D] at positions [S, M]: [S, M, D]."""
    return x.gather(1, positions[:, :, None].expand(-1, -1, x.shape[2]))


def put(x: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Copies x [S, N, D] with tokens [S, M, D] at positions [S, M]: the inverse of `take`."""
    return x.scatter(1, positions[:, :, None].expand(-1, -1, x.shape[2]), tokens.to(x.dtype))


def blank(x: Tensor, positions: Tensor) -> Tensor:
    """Copies x [S, N, D] with NaN, which pictures show as hidden, at positions [S, M]."""
    return x.scatter(1, positions[:, :, None].expand(-1, -1, x.shape[2]), torch.nan)


def position_keys(view: View | Tokens, key: Tensor, purpose: int) -> Tensor:
    """A key for each token of a view [B, N], from the key [S] of its sample and its position in it:
    neighbouring samples, and the row that they share, change nothing."""
    segment, position = segments(view), positions(view)
    keys = torch.cat([key.new_zeros(1), fold(key, purpose)])[segment]
    return fold(keys.flatten(), position.flatten()).view_as(segment)


def segments(view: View | Tokens) -> Tensor:
    """[B, N] the sample that each token belongs to, from 1; 0 is padding."""
    if view.segment is not None:
        return view.segment
    rows, length = view.x.shape[:2]
    return torch.arange(1, rows + 1, device=view.x.device)[:, None].expand(rows, length)


def positions(view: View | Tokens) -> Tensor:
    """[B, N] each token's position within its sample."""
    if view.position is not None:
        return view.position
    return torch.arange(view.x.shape[1], device=view.x.device).expand(view.x.shape[:2])


def lengths(view: View | Tokens) -> Tensor:
    """[B] number of tokens that are not padding, of rows that hold one sample each, followed by
    padding."""
    rows, length = view.x.shape[:2]
    if view.segment is None:
        return torch.full((rows,), length, device=view.x.device)
    return (view.segment > 0).sum(1)


def mean_square(tokens: Tokens) -> Tensor:
    """[S] mean of the squares of each sample's tokens, which are 0 in padding."""
    x = tokens.x.to(torch.promote_types(tokens.x.dtype, torch.float32))
    return x.square().mean(2).sum(1) / lengths(tokens).clamp(min=1)
