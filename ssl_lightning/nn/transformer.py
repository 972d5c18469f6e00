"""A transformer trunk: tokens in, as many contextual tokens out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NormPlace = Literal["pre", "post"]
Activation = Literal["gelu", "geglu"]


class Transformer(nn.Module):
    """Transformer blocks: pre-norm with a last norm (Dosovitskiy et al. 2020, arXiv 2010.11929,
    Equations 2 to 4), or post-norm (Vaswani et al. 2017, arXiv 1706.03762, Section 3.1; BERT).

    Args:
        dim: D, width of a token.
        depth: number of blocks.
        heads: of the attention; they share the width out equally.
        mlp_ratio: hidden width of the blocks' MLP, as a multiple of D.
        norm: "pre", before attention and MLP, or "post", after what they gave was added.
        activation: of the MLP: "gelu", or "geglu", a GELU that gates a second half (Shazeer 2020,
            arXiv 2002.05202), 2/3 as wide.
        dropout: of attention weights and of what attention and MLP add.
        rotary: whether attention turns queries and keys by their position (Su et al. 2021, arXiv
            2104.09864).
        causal: whether a token sees those before it alone.

    Raises:
        ValueError: the width cannot be shared out among the heads, there is no block, or an
            argument is unknown or out of range.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, mlp_ratio: float = 4.0, *, norm: NormPlace = "pre", activation: Activation = "gelu",
        dropout: float = 0.0, rotary: bool = False, causal: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if depth < 1 or heads < 1 or dim % heads:
            raise ValueError(
                f"A transformer needs a block and heads that divide its width, got dim={dim}, depth={depth},"
                f" heads={heads}."
            )
        if norm not in get_args(NormPlace) or activation not in get_args(Activation):
            raise ValueError(
                f"Transformer(norm={norm!r}, activation={activation!r}): choose pre or post, and gelu or geglu."
            )
        if not 0 <= dropout < 1:
            raise ValueError(
                f"Transformer(dropout={dropout}) is the part of the numbers to drop; give 0 or more, below 1."
            )
        if rotary and dim // heads % 2:
            raise ValueError(
                f"Rotary positions turn pairs of numbers; a head of dim={dim} / heads={heads} has an odd number of"
                " them."
            )
        self.rotary, self.causal, self.head_dim = rotary, causal, dim // heads
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio, norm, activation, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6) if norm == "pre" else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear):  # as in He et al. 2021, arXiv 2111.06377, Appendix A.1
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, x: Tensor, segment: Tensor | None = None, position: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """[B, N, D] -> [B, N - first, D].

        Args:
            x: tokens.
            segment: [B, N] which sample a token belongs to: it sees the tokens of that sample
                alone. None: a row is one sample.
            position: [B, N] place within the sample, for rotary positions. None: counted from the
                start of the row.
            first: the tokens before this place are not asked for: the last block only reads them.
        """
        return deque(self.states(x, segment, position, first), maxlen=1).pop()

    def states(
        self, x: Tensor, segment: Tensor | None = None, position: Tensor | None = None, first: int = 0
    ) -> Iterator[Tensor]:
        """The tokens as they come in and as each block gives them, the last ones normed: depth + 1
        times [B, N, D]. Arguments as of `forward`; `first` counts for the last block alone."""
        yield x
        mask = attention_mask(segment, x, self.causal)
        turn = (
            _rotation(torch.arange(x.shape[1], device=x.device) if position is None else position, self.head_dim)
            if self.rotary
            else None
        )
        for block in self.blocks[:-1]:
            x = block(x, mask, turn)
            yield x
        yield self.norm(self.blocks[-1](x, mask, turn, first))


class Block(nn.Module):
    """Self-attention and an MLP, each added to the tokens."""

    def __init__(
        self, dim: int, heads: int, mlp_ratio: float, norm: NormPlace, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.pre = heads, norm == "pre"
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.projection = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        hidden = int(dim * mlp_ratio * (2 / 3 if activation == "geglu" else 1))
        gated = 2 if activation == "geglu" else 1
        self.mlp = nn.Sequential(
            nn.Linear(dim, gated * hidden), GEGLU() if gated == 2 else nn.GELU(), nn.Linear(hidden, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, turn: Tensor | None, first: int = 0) -> Tensor:
        mixed = self.dropout(self.attend(self.norm1(x) if self.pre else x, mask, turn, first))
        x = x[:, first:] + mixed
        if self.pre:
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(x)
        return self.norm2(x + self.dropout(self.mlp(x)))

    def attend(self, x: Tensor, mask: Tensor | None, turn: Tensor | None, first: int) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, N, D / heads] each
        if turn is not None:
            q, k = _turned(q, turn), _turned(k, turn)
        q, mask = q[:, :, first:], None if mask is None else mask[:, :, first:]
        mixed: Tensor = self.projection(
            attention(q, k, v, mask, self.dropout.p if self.dropout.training else 0.0).transpose(1, 2).flatten(2)
        )
        return mixed


class GEGLU(nn.Module):
    """Half of the numbers, gated by the GELU of the other half (Shazeer 2020, arXiv 2002.05202,
    Equation 6)."""

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return F.gelu(gate) * value


def attention_mask(segment: Tensor | None, x: Tensor, causal: bool = False) -> Tensor | None:
    """What attention over x [B, N, D] adds to its scores: 0 where a token sees another, minus
    infinity where not.

    A token sees those of its own sample, and itself; of those, with `causal`, the ones before it.
    Padding sees padding, which nobody reads.

    Returns:
        [B or 1, 1, N, N] in the dtype that attention computes in; None where every token sees every
        other.
    """
    seen = None if segment is None else segment[:, None, :, None] == segment[:, None, None, :]
    if causal:
        before = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()[None, None]
        seen = before if seen is None else seen & before
    if seen is None:
        return None
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return torch.zeros(seen.shape, dtype=dtype, device=x.device).masked_fill_(~seen, -torch.inf)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v over [B, heads, N, d] (Vaswani et al. 2017, arXiv
    1706.03762, Equation 1), the fastest way.

    Args:
        q, k, v: queries, keys and values.
        mask: what is added to the scores, as `attention_mask` makes it.
        dropout: part of the weights that is dropped.
    """
    if not plain_is_faster(q, dropout > 0):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    weights = (scores if mask is None else scores + mask).softmax(dim=3)
    if dropout:
        weights = F.dropout(weights, dropout)
    return weights.to(v.dtype) @ v


def plain_is_faster(x: Tensor, dropout: bool = False) -> bool:
    """Whether attention over N tokens, [..., N, d], is faster without torch's fused kernel, whose
    backward pass is slow on CPUs: six times for 17 tokens in bfloat16, and three times for 197; in
    float32 it is the faster one from some hundred tokens on. With dropout torch has no fused kernel
    there."""
    if x.device.type != "cpu":
        return False
    half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type)
    return dropout or x.shape[-2] <= (256 if half else 64)


def _rotation(position: Tensor, dim: int) -> Tensor:
    """Angles [..., N, dim / 2] by which the pairs of a head are turned at each place (arXiv
    2104.09864, Equation 15)."""
    frequency = (
        torch.arange(dim // 2, device=position.device, dtype=torch.float32).mul(-2 * math.log(10_000) / dim).exp()
    )
    angles = position[..., None] * frequency
    return angles if angles.ndim == 2 else angles[:, None]  # [B, 1, N, dim / 2]: alike for all heads


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """x [B, heads, N, d], number i and number i + d / 2 turned as a pair."""
    sine, cosine = angles.sin(), angles.cos()
    first, second = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x.dtype)


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
    """Fixed sine and cosine positions on a grid of any number of axes (Vaswani et al. 2017, arXiv
    1706.03762, Section 3.5).

    Each axis has an equal part of the numbers, the last axis the first part, and there the sines
    come before the cosines: on a grid of rows and columns, the positions of He et al. 2021 (arXiv
    2111.06377).

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
        raise ValueError(
            f"Positions on {len(grid)} axes need a width that is a multiple of {2 * len(grid)}, got {dim}."
        )
    frequency = torch.arange(share, dtype=torch.float64).mul(-math.log(10_000) / share).exp()
    axes = torch.meshgrid(*(torch.arange(places, dtype=torch.float64) for places in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequency for axis in reversed(axes)]  # [N, share] each
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()
