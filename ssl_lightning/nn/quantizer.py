"""Product quantization: a vector is replaced by one entry of each of several codebooks, and the
choice is learned."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..augment.random import uniform
from ..distributed import gather, reduce_sum, world_size
from ..plugins.arguments import require


class Quantized(NamedTuple):
    """Entries that were chosen for vectors [..., P].

    Args:
        vector: [..., D] the chosen entries side by side.
        code: [..., G] index of the entry in each codebook.
        probability: [..., G, V] of each entry, without noise.
    """

    vector: Tensor
    code: Tensor
    probability: Tensor


class ProductQuantizer(nn.Module):
    """Entries are chosen from each codebook by a Gumbel softmax with a straight-through gradient
    (Baevski et al. 2020, wav2vec 2.0, arXiv 2006.11477, Section 2, "Quantization module"; Jang et
    al. 2016, arXiv 1611.01144).

    Args:
        features: P, length of a vector.
        groups: G, number of codebooks.
        entries: V, entries of each codebook.
        dim: D, length of a quantized vector; each codebook gives D / G of it.
        temperature: of the softmax that the gradient goes through, at the start of a run and from
            70 % of it on; the higher, the flatter. In between it falls by the same factor at every
            step; the paper's reaches its end at 277,000 of 400,000.

    Raises:
        ValueError: an argument is out of range, or dim is not a multiple of groups.
    """

    def __init__(
        self,
        features: int,
        groups: int = 2,
        entries: int = 320,
        dim: int = 256,
        temperature: tuple[float, float] = (2.0, 0.5),
    ) -> None:
        super().__init__()
        if min(temperature) <= 0:
            raise ValueError(f"ProductQuantizer(temperature={temperature}): both temperatures must be positive.")
        self.temperature = temperature
        require(self, at_least=1, features=features, groups=groups, dim=dim)
        require(self, at_least=2, entries=entries)
        if dim % groups:
            raise ValueError(f"ProductQuantizer(dim={dim}) must be a multiple of groups={groups}.")
        self.score = nn.Linear(features, groups * entries)
        self.codebooks = nn.Parameter(torch.rand(groups, entries, dim // groups))
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def temperature_at(self, progress: float) -> float:
        """The temperature when a part of the run, in [0, 1], is done."""
        start, end = self.temperature
        return float(start * (end / start) ** min(1.0, progress / 0.7))

    def forward(self, x: Tensor, progress: float = 0.0, key: Tensor | None = None) -> Quantized:
        """Vectors [..., P] -> entries.

        Args:
            x: the vectors.
            progress: part of the run that is done.
            key: [...] int64, from which the noise is drawn. None: no noise, the most probable
                entries.
        """
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(self.codebooks.dtype, torch.float32)
            flat = x.reshape(-1, x.shape[-1]).to(dtype)  # [M, P]
            score = F.linear(flat, self.score.weight.to(dtype), self.score.bias.to(dtype))
            score = score.unflatten(1, self.codebooks.shape[:2])  # [M, G, V]
            noisy = score
            if key is not None:
                noise = gumbel(key.flatten(), self.score.out_features).view_as(score)
                noisy = (score + noise) / self.temperature_at(progress)
            code = noisy.argmax(2)
            chosen = torch.zeros_like(score).scatter_(2, code[:, :, None], 1.0)
            if key is not None:
                soft = noisy.softmax(2)
                chosen = chosen + (soft - soft.detach())
            vector = torch.einsum("mgv,gvd->mgd", chosen, self.codebooks.to(dtype)).flatten(1)
            vector = vector.to(self.codebooks.dtype)
            rows = x.shape[:-1]
            return Quantized(vector.unflatten(0, rows), code.unflatten(0, rows), score.softmax(2).unflatten(0, rows))


class Usage(NamedTuple):
    """How much of the codebooks is in use, over all processes. A perplexity is the effective number
    of entries.

    Args:
        unused: part of the entries that is not in use by the mean probabilities, with gradient
            (arXiv 2006.11477, Equation 4 in fairseq's form: 1 - sum of perplexities / G V).
        probable: perplexity of the mean probabilities, summed over codebooks.
        chosen: perplexity of the chosen entries, summed over codebooks.
        share: part of the entries that was chosen at all.
    """

    unused: Tensor
    probable: Tensor
    chosen: Tensor
    share: Tensor


def usage(quantized: Quantized, real: Tensor) -> Usage:
    """Usage by the vectors that are real, [...] bool. Every process must call it."""
    probability = quantized.probability.flatten(0, -3)  # [M, G, V]
    weight = real.flatten()[:, None, None].to(probability.dtype)
    chosen = torch.zeros_like(probability).scatter_(2, quantized.code.flatten(0, -2)[:, :, None], 1.0)
    probable = gather((probability * weight).sum(0)[None], [1] * world_size()).sum(0)  # [G, V]
    counts = reduce_sum((chosen * weight).sum(0))  # [G, V]
    # None may be real.
    probable, counts = (each / each.sum(1, keepdim=True).clamp(min=1e-12) for each in (probable, counts))
    perplexities = perplexity(probable).sum()
    return Usage(
        1 - perplexities / probable.numel(),
        perplexities.detach(),
        perplexity(counts).sum(),
        (counts > 0).float().mean(),
    )


def gumbel(key: Tensor, n: int) -> Tensor:
    """Gumbel noise [S, n] from keys [S]."""
    return -(-uniform(key, n).clamp(2.0**-25, 1 - 2.0**-24).log()).log()


def perplexity(probability: Tensor) -> Tensor:
    """exp(entropy) of distributions [..., V]: the effective number of entries."""
    return torch.special.entr(probability).sum(-1).exp()
