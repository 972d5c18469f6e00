"""A transformer trunk, which turns tokens into as many contextual tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..plugins.arguments import require
from .attention import Scope, scope_of
from .initial import start
from .positions import rotary_angles, rotate

NormPlace = Literal["pre", "post"]
Activation = Literal["gelu", "geglu"]


class Transformer(nn.Module):
    """Transformer blocks: pre-norm with a last norm (Dosovitskiy et al. 2020, arXiv 2010.11929,
    Equations 2 to 4), or post-norm (Vaswani et al. 2017, arXiv 1706.03762, Section 3.1; BERT).

    Args:
        dim: D, width of a token.
        depth: number of blocks.
        heads: of the attention; each has an equal part of the width.
        mlp_ratio: hidden width of the blocks' MLP, as a multiple of D.
        norm: "pre", before attention and MLP, or "post", after their output was added.
        activation: of the MLP: "gelu", or "geglu", a GELU that gates a second half (Shazeer 2020,
            arXiv 2002.05202), 2/3 as wide.
        dropout: of attention weights and of what attention and MLP add.
        rotary: whether attention rotates queries and keys by their position (Su et al. 2021, arXiv
            2104.09864).
        causal: whether a token attends to itself and those before it alone.
        std: of the linear layers' first weights, 0.02 in BERT; None: by Xavier's rule, as in MAE.
            Biases start at zero.

    Raises:
        ValueError: an argument is unknown or out of range, or the width is not a multiple of the
            heads.
    """

    entries: ClassVar[tuple[str, ...]] = ("forward",)
    """The functions that are compiled, where it is not part of an encoder."""

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        norm: NormPlace = "pre",
        activation: Activation = "gelu",
        dropout: float = 0.0,
        rotary: bool = False,
        causal: bool = False,
        std: float | None = None,
    ) -> None:
        super().__init__()
        require(self, at_least=1, dim=dim, heads=heads)
        require(self, at_least=1, at_most=1_000, depth=depth)
        if dim % heads:
            raise ValueError(f"Transformer(dim={dim}) must be a multiple of heads={heads}.")
        if norm not in get_args(NormPlace) or activation not in get_args(Activation):
            raise ValueError(
                f"Transformer(norm={norm!r}, activation={activation!r}): choose pre or post, and gelu or geglu."
            )
        require(self, at_least=0, below=1, dropout=dropout)
        if rotary and dim // heads % 2:
            raise ValueError(
                f"Transformer(rotary=True) rotates pairs of features, and a head of dim={dim} / heads={heads} has an"
                " odd number of them."
            )
        self.rotary, self.causal, self.head_dim = rotary, causal, dim // heads
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio, norm, activation, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6) if norm == "pre" else nn.Identity()
        start(self, std)

    def forward(
        self,
        x: Tensor,
        segment: Tensor | None = None,
        position: Tensor | None = None,
        samples: int | None = None,
        first: int = 0,
    ) -> Tensor:
        """[B, N, D] -> [B, N - first, D].

        Args:
            x: tokens.
            segment: [B, N] the sample that each token belongs to; it attends to the tokens of that
                sample alone. None: a row is one sample.
            position: [B, N] position within the sample, for rotary positions. None: counted from
                the start of the row.
            samples: S, number of samples, where rows are shared. None: B.
            first: index of the first token to return; earlier tokens serve as keys and values only
                in the last block.
        """
        scope = self._scope(x, segment, samples, first)
        return scope.leave(deque(self._states(x, segment, position, scope, first), maxlen=1).pop())

    def states(
        self,
        x: Tensor,
        segment: Tensor | None = None,
        position: Tensor | None = None,
        samples: int | None = None,
        first: int = 0,
    ) -> Iterator[Tensor]:
        """The tokens before the first block and after each block, the last ones normalised: depth +
        1 times [B, N, D]. Arguments as of `forward`; `first` applies to the last block alone."""
        scope = self._scope(x, segment, samples, first)
        for state in self._states(x, segment, position, scope, first):
            yield scope.leave(state)

    def _scope(self, x: Tensor, segment: Tensor | None, samples: int | None, first: int) -> Scope:
        plain = not first and not any(block.dropped for block in self.blocks)
        return scope_of(x, self.head_dim, segment, samples, self.causal, plain)

    def _states(
        self, x: Tensor, segment: Tensor | None, position: Tensor | None, scope: Scope, first: int
    ) -> Iterator[Tensor]:
        """`states`, in the rows of the scope."""
        angles = None
        if self.rotary:
            position = torch.arange(x.shape[1], device=x.device) if position is None else position
            position = position if segment is None else position.expand(x.shape[:2])
            angles = rotary_angles(scope.enter(position), self.head_dim)
        x = scope.enter(x)
        yield x
        for block in self.blocks[:-1]:
            x = block(x, scope, angles)
            yield x
        yield self.norm(self.blocks[-1](x, scope, angles, first))


class Block(nn.Module):
    """Self-attention and an MLP are each added to the tokens."""

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

    def forward(self, x: Tensor, scope: Scope, angles: Tensor | None, first: int = 0) -> Tensor:
        mixed = self.dropout(self.attend(self.norm1(x) if self.pre else x, scope, angles, first))
        x = x[:, first:] + mixed
        if self.pre:
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(x)
        return self.norm2(x + self.dropout(self.mlp(x)))

    def attend(self, x: Tensor, scope: Scope, angles: Tensor | None, first: int) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, N, D / heads] each
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        mixed = scope.attend(q[:, :, first:], k, v, self.dropped)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return projected

    @property
    def dropped(self) -> float:
        """Part of the attention weights that is dropped."""
        return self.dropout.p if self.dropout.training else 0.0


class GEGLU(nn.Module):
    """Half of the features are gated by the GELU of the other half (Shazeer 2020, arXiv 2002.05202,
    Equation 6)."""

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return F.gelu(gate) * value
