"""Positions of tokens: rotary ones for attention, sines and cosines on a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def rotary_angles(position: Tensor, dim: int) -> Tensor:
    """Angles by which the pairs of features of an attention head are rotated (Su et al. 2021, arXiv
    2104.09864, Equation 15).

    Args:
        position: [N], the same for all rows, or [B, N].
        dim: d, features of a head.

    Returns:
        [N, d / 2] or [B, 1, N, d / 2], the same for all heads.
    """
    frequency = (
        torch.arange(dim // 2, device=position.device, dtype=torch.float32).mul(-2 * math.log(10_000) / dim).exp()
    )
    angles = position[..., None] * frequency
    return angles if angles.ndim == 2 else angles[:, None]


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """x [B, heads, N, d] with features i and i + d / 2 rotated as a pair."""
    sine, cosine = angles.sin(), angles.cos()
    first, second = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x.dtype)


class GridPositions(nn.Module):
    """`sincos_positions` of a grid in the dtype and on the device of the run. A grid that changes
    from batch to batch, as that of recordings of varying length, moves nothing to the device: each
    axis takes the first rows of one table, which grows to twice its length where it must.

    They are not a buffer: the grid follows the batch, which differs between processes, and
    DistributedDataParallel broadcasts buffers, whose shapes must agree.

    Args:
        dim: D, length of a position.
    """

    like: Tensor
    """Empty; a buffer that follows the module to its device and dtype."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.table = torch.empty(0, dim)  # [longest axis or more, D / axes]
        self.register_buffer("like", torch.empty(0), persistent=False)

    def forward(self, grid: tuple[int, ...]) -> Tensor:
        """[N, D], N the product of the grid."""
        width, longest = 2 * _share(grid, self.dim), max(grid)
        kind = (self.like.device, self.like.dtype)
        if longest > len(self.table) or width != self.table.shape[1] or kind != (self.table.device, self.table.dtype):
            length = 1 << (longest - 1).bit_length()
            self.table = sincos_positions((length,), width).to(self.like)
        if len(grid) == 1:
            return self.table[:longest]
        shapes = [[-1 if axis == each else 1 for each in range(len(grid))] for axis in reversed(range(len(grid)))]
        axes = [self.table[:length].view(*shape, width) for length, shape in zip(reversed(grid), shapes, strict=True)]
        return torch.cat([axis.expand(*grid, width) for axis in axes], dim=-1).flatten(0, -2)


def sincos_positions(grid: Sequence[int], dim: int) -> Tensor:
    """Fixed sine and cosine positions on a grid of any number of axes (Vaswani et al. 2017, arXiv
    1706.03762, Section 3.5).

    Each axis has an equal part of the features, the last axis the first part, and within a part the
    sines come before the cosines: on a grid of rows and columns, the positions of He et al. 2021
    (arXiv 2111.06377).

    Args:
        grid: positions along each axis.
        dim: D, length of a position; a multiple of twice the number of axes.

    Returns:
        [N, D] float32, N the product of the grid, its last axis the fastest.

    Raises:
        ValueError: dim cannot be shared out equally among the axes.
    """
    share = _share(grid, dim)
    frequency = torch.arange(share, dtype=torch.float64).mul(-math.log(10_000) / share).exp()
    axes = torch.meshgrid(*(torch.arange(length, dtype=torch.float64) for length in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequency for axis in reversed(axes)]  # [N, share] each
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()


def _share(grid: Sequence[int], dim: int) -> int:
    """Sines, and cosines, of each axis of a grid in positions of length D."""
    share = dim // (2 * len(grid))
    if share * 2 * len(grid) != dim:
        raise ValueError(
            f"Positions on {len(grid)} axes need a width that is a multiple of {2 * len(grid)}, got {dim}."
        )
    return share
