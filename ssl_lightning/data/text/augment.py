"""Augmentation of texts, by deleting tokens."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.nn.vocabulary import Vocabulary
from ssl_lightning.types import View

from ...augment.random import fold, uniform
from ...plugins.arguments import require


class TextAugmentation(nn.Module):
    """Deletes each token with a probability, and packs what is left into rows (random deletion: Wei
    and Zou 2019, EDA, arXiv 1901.11196, Section 2).

    Special tokens are kept, and at least one other token of each sample. Which tokens are deleted
    depends on the sample's key and the token's position.

    Args:
        row_length: N, positions in a row.
        vocabulary: says which tokens are special.
        deletion: the probability; 0 for the test transform.

    Raises:
        ValueError: the probability is outside [0, 1].
    """

    special: Tensor

    def __init__(self, row_length: int, vocabulary: Vocabulary, deletion: float = 0.0) -> None:
        super().__init__()
        require(self, at_least=0, at_most=1, deletion=deletion)
        self.row_length, self.deletion = row_length, deletion
        self.register_buffer("special", vocabulary.special, persistent=False)

    def forward(self, raw: Ragged, key: Tensor) -> View:
        """Turns samples and their keys [S] into token ids [B, N] in as few rows as needed."""
        return pack(self.delete(raw, key) if self.deletion else raw, self.row_length)

    def delete(self, raw: Ragged, key: Tensor) -> Ragged:
        """Returns the samples without the deleted tokens."""
        if len(raw.lengths) == 0:
            return raw
        sample, position = raw.sample, raw.position
        draws = uniform(fold(key, zlib.crc32(b"TokenDeletion")), int(raw.lengths.max()))  # [S, longest]
        draw = draws[sample, position].masked_fill(self.special[raw.x], 1.0)  # [T]
        highest = torch.full_like(draws[:, 0], -1.0).scatter_reduce(
            0, sample, draw.masked_fill(draw == 1.0, -1.0), "amax"
        )
        kept = (draw >= self.deletion) | (draw == highest[sample])
        lengths = torch.zeros_like(raw.lengths).index_add_(0, sample, kept.long())
        return Ragged(raw.x[kept], lengths)
