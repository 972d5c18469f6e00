"""Product quantization: a vector becomes one entry of each of several codebooks, and the choice can
be learned."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..augment.random import uniform
from ..distributed import gather, reduce_sum, world_size


class Quantized(NamedTuple):
    """Args:
    vector: [M, D] the chosen entries side by side.
    code: [M, G] which entry of each codebook.
    probability: [M, G, V] of each entry, without noise.
    """

    vector: Tensor
    code: Tensor
    probability: Tensor


class ProductQuantizer(nn.Module):
    """Chooses an entry from each codebook by a Gumbel softmax with a straight-through gradient
    (Baevski et al. 2020, wav2vec 2.0, arXiv 2006.11477, Section 2, "Quantization module"; Jang et
    al. 2016, arXiv 1611.01144).

    Args:
        features: P, numbers of what is quantized.
        groups: G, codebooks.
        entries: V, of each codebook.
        dim: D, numbers of the result, which the codebooks share out.
        temperature: of the softmax that the gradient goes through, at the beginning of a run and
            from 70 % of it on; a high one is flat. In between it falls by the same factor at every
            step; the paper's reaches its end at 277,000 of 400,000.

    Raises:
        ValueError: a number is not positive, or the codebooks cannot share out the numbers.
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
        if groups < 1 or entries < 2 or dim < 1 or dim % groups:
            raise ValueError(
                f"ProductQuantizer(groups={groups}, entries={entries}, dim={dim}): at least 1, 2, and a multiple of"
                " groups."
            )
        self.score = nn.Linear(features, groups * entries)
        self.codebooks = nn.Parameter(torch.rand(groups, entries, dim // groups))
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def temperature_at(self, progress: float) -> float:
        """The temperature when this part of the run, in [0, 1], is done."""
        start, end = self.temperature
        return float(start * (end / start) ** min(1.0, progress / 0.7))

    def forward(self, x: Tensor, progress: float = 0.0, key: Tensor | None = None) -> Quantized:
        """Vectors [M, P] -> entries.

        Args:
            x: what is quantized.
            progress: the part of the run that is done.
            key: [M] int64, from which the noise is drawn. None: no noise, the most probable
                entries.
        """
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(self.codebooks.dtype, torch.float32)
            score = F.linear(x.to(dtype), self.score.weight.to(dtype), self.score.bias.to(dtype)).unflatten(
                1, self.codebooks.shape[:2]
            )  # [M, G, V]
            noisy = (
                score
                if key is None
                else (score + gumbel(key, score[0].numel()).view_as(score)) / self.temperature_at(progress)
            )
            index = noisy.argmax(2)
            chosen = torch.zeros_like(score).scatter_(2, index[:, :, None], 1.0)
            if key is not None:
                soft = noisy.softmax(2)
                chosen = chosen + (soft - soft.detach())
            vector = torch.einsum("mgv,gvd->mgd", chosen, self.codebooks.to(dtype)).flatten(1)
            return Quantized(vector, index, score.softmax(2))


class Usage(NamedTuple):
    """How much of the codebooks is in use, over all processes. A perplexity counts the entries that
    would be, if all of them were alike.

    Args:
        unused: part of the entries that the mean probabilities would leave out, with gradient
            (arXiv 2006.11477, Equation 4 in fairseq's form: 1 - sum of perplexities / G V).
        probable: perplexity of the mean probabilities, summed over codebooks.
        chosen: likewise of the entries that were chosen.
        share: part of the entries that were chosen at all.
    """

    unused: Tensor
    probable: Tensor
    chosen: Tensor
    share: Tensor


def usage(quantized: Quantized, real: Tensor) -> Usage:
    """Of the vectors that are real, [M] bool. Every process must call it."""
    weight = real[:, None, None].to(quantized.probability.dtype)
    chosen = torch.zeros_like(quantized.probability).scatter_(2, quantized.code[:, :, None], 1.0)
    own = (quantized.probability * weight).sum(0)[None]
    probable, counts = gather(own, [1] * world_size()).sum(0), reduce_sum((chosen * weight).sum(0))  # [G, V]
    perplexities = perplexity(probable / probable.sum(1, keepdim=True)).sum()
    return Usage(
        1 - perplexities / probable.numel(),
        perplexities.detach(),
        perplexity(counts / counts.sum(1, keepdim=True)).sum(),
        (counts > 0).float().mean(),
    )


def gumbel(key: Tensor, n: int) -> Tensor:
    """Gumbel noise [S, n] from keys [S]."""
    return -(-uniform(key, n).clamp(2.0**-25, 1 - 2.0**-24).log()).log()


def perplexity(probability: Tensor) -> Tensor:
    """exp(entropy) of distributions [..., V]: how many entries are in use, if all were used
    alike."""
    return torch.special.entr(probability).sum(-1).exp()
