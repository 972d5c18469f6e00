"""Attention, in the fastest way for the device: torch's fused kernels, with a mask or without, or
one for samples of varying length."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Scope(Protocol):
    """Which tokens attend to which, in the form that a kernel takes. It is computed once for all
    blocks of a trunk, which hand their tokens through `enter` before the first block and through
    `leave` after one."""

    def enter(self, x: Tensor) -> Tensor:
        """Rows [B, N, ...] -> the rows that `attend` takes."""

    def leave(self, x: Tensor) -> Tensor:
        """The inverse of `enter`."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """softmax(q k^T / sqrt(d)) v of [B, heads, N, d] over the tokens that each attends to
        (Vaswani et al. 2017, arXiv 1706.03762, Equation 1); q may lack the first tokens.

        Args:
            q, k, v: queries, keys and values.
            dropout: part of the weights that is dropped.
        """


def scope_of(
    x: Tensor,
    head_dim: int,
    segment: Tensor | None = None,
    samples: int | None = None,
    causal: bool = False,
    plain: bool = True,
) -> Scope:
    """The scope of tokens that attend to those of their sample, and themselves; of those, with
    `causal`, to the ones before them. Padding attends to padding of its row, and its result is not
    used.

    Args:
        x: [B, N, D], the tokens.
        head_dim: d, features of a head.
        segment: [B, N] the sample that each token belongs to, from 1; 0 is padding. None: a row is
            one sample.
        samples: S, number of samples, where rows are shared. None: B.
        causal: whether a token attends to itself and those before it alone.
        plain: whether all tokens are queries, and no weight is dropped, which the kernel for
            varying lengths does not offer.
    """
    if segment is not None and plain and takes_lengths(x, head_dim):
        return Lengths(segment, len(x) if samples is None else samples, causal)
    if segment is None and causal and plain and not plain_is_faster(x):
        return Mask(None, causal=True)  # bit for bit the same on a CPU, and up to 1.7 times as fast there
    return Mask(attention_mask(segment, x, causal))


class Mask:
    """The scores of all pairs of tokens in a row are computed, and a mask is added to them; the
    reference for every other scope.

    Args:
        mask: from `attention_mask`; None: nothing is added.
        causal: whether the kernel itself leaves out later tokens. Then all tokens are queries.
    """

    def __init__(self, mask: Tensor | None, causal: bool = False) -> None:
        self.mask, self.causal = mask, causal

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, x: Tensor) -> Tensor:
        return x

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        mask = None if self.mask is None else self.mask[:, :, k.shape[2] - q.shape[2] :]
        return attention(q, k, v, mask, dropout, self.causal)


class Lengths:
    """The rows of a batch become one, in which the tokens of a sample are adjacent and in their
    order, and each sample is computed by itself (Dao 2023, FlashAttention-2, arXiv 2307.08691; the
    kernel is `torch.nn.attention.varlen`). The work falls from B N^2 pairs to the sum of the
    samples' squared lengths, and nothing of the size of N^2 is stored. The host never waits.

    Args:
        segment: [B, N] the sample that each token belongs to, from 1; 0 is padding.
        samples: S, number of samples, the largest value of `segment` or more.
        causal: whether a token attends to itself and those before it alone.
    """

    def __init__(self, segment: Tensor, samples: int, causal: bool) -> None:
        self.rows, self.longest = segment.shape
        self.causal = causal
        # Padding counts as one more sample of each row, so that it too has a value and a gradient.
        padding = samples + torch.arange(self.rows, device=segment.device)[:, None]
        sample = torch.where(segment > 0, segment - 1, padding).flatten()  # [B N]
        self.order = sample.argsort(stable=True)
        self.inverse = torch.empty_like(self.order).scatter_(
            0, self.order, torch.arange(len(sample), device=sample.device)
        )
        counts = sample.new_zeros(samples + self.rows).index_add_(0, sample, torch.ones_like(sample))
        self.bounds = F.pad(counts.cumsum(0), (1, 0)).to(torch.int32)  # [S + B + 1]

    def enter(self, x: Tensor) -> Tensor:
        """[B, N, ...] -> [1, B N, ...]."""
        return x.flatten(0, 1).index_select(0, self.order)[None]

    def leave(self, x: Tensor) -> Tensor:
        """[1, B N, ...] -> [B, N, ...]."""
        return x[0].index_select(0, self.inverse).unflatten(0, (self.rows, self.longest))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        from torch.nn.attention import varlen  # a fifth of a second, for those who use it

        q, k, v = (each[0].transpose(0, 1) for each in (q, k, v))  # [B N, heads, d] each
        window = (-1, 0) if self.causal else (-1, -1)
        mixed: Any = varlen.varlen_attn(
            q, k, v, self.bounds, self.bounds, self.longest, self.longest, window_size=window
        )
        return mixed.transpose(0, 1)[None]


def takes_lengths(x: Tensor, head_dim: int) -> bool:
    """Whether the kernel for samples of varying length takes heads of d features: in half
    precision, on NVIDIA's GPUs from Ampere on."""
    return (
        x.device.type == "cuda"
        and x.numel() > 0
        and computed_in(x) in (torch.bfloat16, torch.float16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.version.hip is None
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(x.device) >= (8, 0)
    )


def computed_in(x: Tensor) -> torch.dtype:
    """The dtype in which layers compute x: that of autocast, or else its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def attention_mask(segment: Tensor | None, x: Tensor, causal: bool = False) -> Tensor | None:
    """What attention over x [B, N, D] adds to its scores: 0 where a token attends to another, minus
    infinity where not, as `scope_of` says.

    Returns:
        [B or 1, 1, N, N] in the dtype that attention computes in; None where every token attends to
        every other.
    """
    seen = None if segment is None else segment[:, None, :, None] == segment[:, None, None, :]
    if causal:
        before = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()[None, None]
        seen = before if seen is None else seen & before
    if seen is None:
        return None
    return torch.zeros(seen.shape, dtype=computed_in(x), device=x.device).masked_fill_(~seen, -torch.inf)


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """Computes softmax(q k^T / sqrt(d) + mask) v over [B, heads, N, d] in the fastest way (Vaswani
    et al. 2017, arXiv 1706.03762, Equation 1).

    Args:
        q, k, v: queries, keys and values.
        mask: added to the scores, from `attention_mask`.
        dropout: part of the weights that is dropped.
        causal: whether torch's kernel leaves out later tokens, in place of a mask.
    """
    if causal or not plain_is_faster(q, dropout > 0):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    weights = (scores if mask is None else scores + mask).softmax(dim=3)
    if dropout:
        weights = F.dropout(weights, dropout)
    return weights.to(v.dtype) @ v


def plain_is_faster(x: Tensor, dropout: bool = False) -> bool:
    """Whether attention over N tokens, [..., N, d], is faster without torch's fused kernel. Its
    backward pass is slow on CPUs: six times for 17 tokens in bfloat16, and three times for 197; in
    float32 the kernel is faster from some hundred tokens on. With dropout torch has no fused kernel
    on CPUs. A graph that is exported takes the kernel, whatever the N of its example."""
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type)
    return dropout or x.shape[-2] <= (256 if half else 64)
