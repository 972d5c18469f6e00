"""Augmentation of texts: tokens are deleted."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.nn.vocabulary import Vocabulary
from ssl_lightning.types import View

from ...augment.operation import check_probability
from ...augment.random import fold, uniform


class TextAugmentation(nn.Module):
    """Deletes each token with a probability, and packs what is left into rows (random deletion: Wei
    and Zou 2019, EDA, arXiv 1901.11196, Section 2).

    Special tokens stay, and at least one other of each sample. What is deleted depends on the
    sample's key and the token's place.

    Args:
        row_length: N, places in a row.
        vocabulary: which tokens are special.
        deletion: the probability, 0 for the test transform.

    Raises:
        ValueError: the probability is outside [0, 1].
    """

    special: Tensor

    def __init__(self, row_length: int, vocabulary: Vocabulary, deletion: float = 0.0) -> None:
        super().__init__()
        self.row_length, self.deletion = row_length, check_probability("TextAugmentation", deletion)
        self.register_buffer("special", vocabulary.special, persistent=False)

    def forward(self, raw: Ragged, key: Tensor) -> View:
        """Samples and their keys [S] -> token ids [B, N] in as few rows as they need."""
        return pack(self.delete(raw, key) if self.deletion else raw, self.row_length)

    def delete(self, raw: Ragged, key: Tensor) -> Ragged:
        """The samples without the tokens that are deleted."""
        if len(raw.lengths) == 0:
            return raw
        sample, position = raw.sample, raw.position
        number = uniform(fold(key, zlib.crc32(b"TokenDeletion")), int(raw.lengths.max()))  # [S, longest]
        own = number[sample, position].masked_fill(self.special[raw.x], 1.0)  # [T]
        highest = torch.full_like(number[:, 0], -1.0).scatter_reduce(
            0, sample, own.masked_fill(own == 1.0, -1.0), "amax"
        )
        stays = (own >= self.deletion) | (own == highest[sample])
        lengths = torch.zeros_like(raw.lengths).index_add_(0, sample, stays.long())
        return Ragged(raw.x[stays], lengths)
