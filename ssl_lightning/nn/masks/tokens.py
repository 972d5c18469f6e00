"""Masks: which tokens a method hides. They are drawn from the samples' keys, so neither batch,
process nor resume changes them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...augment.random import fold, uniform
from ...types import Tokens, View

MASK = 0x6D61736B
"""Keeps a mask's numbers apart from those of augmentations."""


def random_masking(key: Tensor, tokens: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Hides the same number of tokens of each sample, at random (He et al. 2021, arXiv 2111.06377,
    Section 3, "Masking").

    Args:
        key: [S] int64, the samples' keys, `batch["key"]`.
        tokens: N, tokens of a sample.
        ratio: part of the tokens to hide, in (0, 1); at least one stays and at least one is hidden.

    Returns:
        places of the visible tokens [S, V] and of the masked ones [S, N - V], each in random order;
        V = floor(N (1 - ratio)).

    Raises:
        ValueError: the ratio is not in (0, 1), or there are fewer than two tokens.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"mask_ratio={ratio} is the part of the tokens to hide; give a number between 0 and 1.")
    if tokens < 2:
        raise ValueError(
            f"Masking needs at least 2 tokens a sample, got {tokens}: use a smaller patch, or a larger input."
        )
    visible = min(
        max(1, int(tokens * (1 - ratio) + 1e-6)), tokens - 1
    )  # 0.9 of 100 tokens leaves 10, not int(9.9999999)
    order = uniform(fold(key, MASK), tokens).argsort(
        dim=1, stable=True
    )  # among equal numbers too, the batch decides nothing
    return order[:, :visible], order[:, visible:]


def take(x: Tensor, places: Tensor) -> Tensor:
    """Tokens [S, N, D] at places [S, M] -> [S, M, D]."""
    return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[2]))


def put(x: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
    """The same as x [S, N, D], with tokens [S, M, D] at places [S, M]: undoes `take`."""
    return x.scatter(1, places[:, :, None].expand(-1, -1, x.shape[2]), tokens.to(x.dtype))


def place_keys(view: View | Tokens, key: Tensor, purpose: int) -> Tensor:
    """A key for each place of a view [B, N], from the key [S] of its sample and its place in it:
    the samples around it, and where they share a row, change nothing."""
    segment, position = segments(view), positions(view)
    of_sample = torch.cat([key.new_zeros(1), fold(key, purpose)])[segment]
    return fold(of_sample.flatten(), position.flatten()).view_as(segment)


def segments(view: View | Tokens) -> Tensor:
    """[B, N] the sample that each place belongs to, from 1; 0 is padding."""
    if view.segment is not None:
        return view.segment
    rows, places = view.x.shape[:2]
    return torch.arange(1, rows + 1, device=view.x.device)[:, None].expand(rows, places)


def positions(view: View | Tokens) -> Tensor:
    """[B, N] the place within its sample."""
    return (
        torch.arange(view.x.shape[1], device=view.x.device).expand(view.x.shape[:2])
        if view.position is None
        else view.position
    )


def lengths(view: View | Tokens) -> Tensor:
    """[B] real places of each row that holds one sample, followed by padding."""
    rows, places = view.x.shape[:2]
    if view.segment is None:
        return torch.full((rows,), places, device=view.x.device)
    return (view.segment > 0).sum(1)


def mean_square(tokens: Tokens) -> Tensor:
    """[S] mean over each sample's own tokens, which are 0 in padding."""
    x = tokens.x.to(torch.promote_types(tokens.x.dtype, torch.float32))
    return x.square().mean(2).sum(1) / lengths(tokens).clamp(min=1)
