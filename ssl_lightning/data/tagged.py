"""Sentences whose words have tags, and where the tokens of these words are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .sources import Source


class Tagged(NamedTuple):
    """Sentences with a tag for each word, cut into pieces that an encoder reads.

    Attributes:
        source: the pieces.
        places: of each piece, [k, 3]: the position of a word's first token among the tokens of the
            piece, the number of its sentence, and that of the word in it. A word is in one piece.
        tags: of each sentence the numbers of its words' tags, int64.
        names: of the tags.
        remarks: lines on what is not as a reader expects.
    """

    source: Source
    places: Sequence[Tensor]
    tags: Sequence[Tensor]
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """Words of all sentences."""
        return sum(map(len, self.tags))

    @property
    def starts(self) -> Tensor:
        """[S] the number of words before each sentence."""
        counts = torch.tensor([len(each) for each in self.tags])
        return counts.cumsum(0) - counts
