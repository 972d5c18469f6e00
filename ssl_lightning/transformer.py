"""A transformer trunk: tokens in, as many contextual tokens out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Transformer(nn.Module):
    """Pre-norm transformer blocks and a last norm (Dosovitskiy et al. 2020, arXiv 2010.11929, Equations 2 to 4).

    Args:
        dim: D, width of a token.
        depth: number of blocks.
        heads: of the attention; they share the width out equally.
        mlp_ratio: hidden width of the blocks' MLP, as a multiple of D.

    Raises:
        ValueError: the width cannot be shared out among the heads, or there is no block.
    """

    def __init__(self, dim: int, depth: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        if depth < 1 or heads < 1 or dim % heads:
            raise ValueError(f"A transformer needs a block and heads that divide its width, got dim={dim}, depth={depth}, heads={heads}.")
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):  # as in He et al. 2021, arXiv 2111.06377, Appendix A.1
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed


class Block(nn.Module):
    """Self-attention and an MLP, each on normed tokens and added to them."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.projection = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, N, D / heads] each
        x = x + self.projection(attention(q, k, v).transpose(1, 2).flatten(2))
        added: Tensor = x + self.mlp(self.norm2(x))
        return added


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over [B, heads, N, d] (Vaswani et al. 2017, arXiv 1706.03762, Equation 1), the fastest way."""
    if not plain_is_faster(q):
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    return weights.softmax(dim=3).to(v.dtype) @ v


def plain_is_faster(x: Tensor) -> bool:
    """Whether attention over N tokens, [..., N, d], is faster without torch's fused kernel, whose backward pass is slow on CPUs: six
    times for 17 tokens in bfloat16, and three times for 197; in float32 it is the faster one from some hundred tokens on."""
    half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type)
    return x.device.type == "cpu" and x.shape[-2] <= (256 if half else 64)


class GridPositions(nn.Module):
    """`sincos_positions` of a grid in the dtype and on the device of the run, computed once.

    Args:
        dim: D, numbers of a position.
    """

    table: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.grid: tuple[int, ...] = ()
        self.register_buffer("table", torch.empty(0, dim), persistent=False)

    def forward(self, grid: tuple[int, ...]) -> Tensor:
        """[N, D], N the product of the grid."""
        if grid != self.grid:
            self.table = sincos_positions(grid, self.dim).to(self.table)
            self.grid = grid
        return self.table


def sincos_positions(grid: Sequence[int], dim: int) -> Tensor:
    """Fixed sine and cosine positions on a grid of any number of axes (Vaswani et al. 2017, arXiv 1706.03762, Section 3.5).

    Each axis has an equal part of the numbers, the last axis the first part, and there the sines come before the cosines: on a grid
    of rows and columns, the positions of He et al. 2021 (arXiv 2111.06377).

    Args:
        grid: places along each axis.
        dim: D, numbers of a position; a multiple of twice the number of axes.

    Returns:
        [N, D] float32, N the product of the grid, its last axis the fastest.

    Raises:
        ValueError: the axes cannot have equal parts.
    """
    share = dim // (2 * len(grid))
    if share * 2 * len(grid) != dim:
        raise ValueError(f"Positions on {len(grid)} axes need a width that is a multiple of {2 * len(grid)}, got {dim}.")
    frequency = torch.arange(share, dtype=torch.float64).mul(-math.log(10_000) / share).exp()
    axes = torch.meshgrid(*(torch.arange(places, dtype=torch.float64) for places in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequency for axis in reversed(axes)]  # [N, share] each
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()
