"""Which tokens a language model has to predict, and what it sees in their place."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...augment.random import fold, uniform
from ...types import View
from ..vocabulary import Vocabulary
from .tokens import place_keys, segments

CHOICE, ROUNDING, REPLACEMENT = (int.from_bytes(name, "big") for name in (b"choice", b"rounds", b"replac"))
"""What random numbers are for."""
ROOM = 1.5
"""Places for whole words, as a multiple of the expected tokens: words differ in length."""


class Hidden(NamedTuple):
    """M places, counted through the rows of a view [B, N], and which of them are to be predicted,
    [M] each: as many places for every batch of B rows, so that shapes do not change; where fewer
    tokens are to be predicted, the last are not."""

    place: Tensor
    chosen: Tensor

    def take(self, x: Tensor) -> Tensor:
        """x [B, N, ...] at these places -> [M, ...]."""
        return x.flatten(0, 1)[self.place]

    def put(self, view: View, ids: Tensor) -> View:
        """The view with ids [M] where tokens are to be predicted."""
        x = view.x.flatten()
        return view._replace(x=x.scatter(0, self.place, torch.where(self.chosen, ids, x[self.place])).view_as(view.x))


class TokenMasks(nn.Module):
    """BERT's masks (Devlin et al. 2018, arXiv 1810.04805, Section 3.1 and Appendix A.1).

    All is drawn from the samples' keys, each sample for itself: neither the batch nor the row that
    it is in changes what is hidden.

    Args:
        tokens: V, rows of the encoder's table.
        whole_words: whether all tokens of a word are hidden together.
    """

    special: Tensor
    continues: Tensor
    mask: Tensor

    def __init__(self, tokens: int, whole_words: bool = False) -> None:
        super().__init__()
        self.tokens, self.whole_words = tokens, whole_words
        self.read(Vocabulary.plain(tokens))

    def read(self, vocabulary: Vocabulary) -> None:
        """Takes over which tokens are special, which go on with a word, and which one hides the
        others.

        Raises:
            ValueError: there are more tokens than the encoder's table has rows.
        """
        if len(vocabulary) > self.tokens:
            raise ValueError(
                f"The tokenizer has {len(vocabulary):,} tokens, the encoder's table {self.tokens:,} rows; take its own"
                " tokenizer."
            )
        device, beyond = (
            getattr(self, "mask", torch.empty(0)).device,
            self.tokens - len(vocabulary),
        )  # rows that no token has
        self.register_buffer("special", F.pad(vocabulary.special, (0, beyond), value=True).to(device))
        self.register_buffer("continues", F.pad(vocabulary.continues, (0, beyond)).to(device))
        self.register_buffer("mask", torch.tensor(vocabulary.mask, device=device))

    def choose(self, view: View, key: Tensor, ratio: float) -> Hidden:
        """Draws `ratio` of each sample's tokens, or words, rounded up or down at random so that the
        mean is kept; special tokens and padding never."""
        segment = segments(view)
        maskable = (segment > 0) & ~self.special[view.x]
        begins, start = maskable, torch.arange(view.x.shape[1], device=view.x.device).expand_as(segment)
        if self.whole_words:
            before = F.pad(maskable, (1, 0))[:, :-1]
            begins = maskable & ~(self.continues[view.x] & before)  # a piece of a document may begin within a word
            start = torch.where(begins | ~maskable, start, 0).cummax(dim=1).values  # of each token's word
        number = uniform(place_keys(view, key, CHOICE).flatten(), 1)[:, 0]
        flat, first = segment.flatten(), begins.flatten()
        order = (2.0 * flat.double() + torch.where(first, number, 1.0)).argsort(
            stable=True
        )  # by sample, then by number
        places = torch.zeros(len(key) + 1, dtype=torch.int64, device=flat.device).index_add_(
            0, flat, torch.ones_like(flat)
        )
        rank = torch.empty_like(flat)
        rank[order] = torch.arange(len(flat), device=flat.device) - (places.cumsum(0) - places)[flat[order]]
        words = torch.zeros_like(places).index_add_(0, flat, first.long())
        wanted = (ratio * words + F.pad(uniform(fold(key, ROUNDING), 1)[:, 0], (1, 0))).floor()
        chosen = (first & (rank < wanted[flat])).view_as(segment).gather(1, start) & maskable
        most = math.ceil(ratio * segment.numel() * (ROOM if self.whole_words else 1.0))
        word = number.view_as(segment).gather(1, start)
        drawn, place = (
            torch.where(chosen, word, 2.0).flatten().sort(stable=True)
        )  # where there is no room for all, by number
        bound = (
            drawn[most : most + 1] if most < len(drawn) else 2.0
        )  # of the first word without room for its every token
        return Hidden(place[:most], drawn[:most] < bound)

    def corrupt(self, view: View, key: Tensor, hidden: Hidden) -> View:
        """The view with the chosen tokens hidden (80 %), replaced by any other of the vocabulary
        (10 %) or left (10 %)."""
        fate, which = uniform(hidden.take(place_keys(view, key, REPLACEMENT)), 2).unbind(1)
        ordinary = (~self.special).cumsum(0)  # how many tokens of text have an id up to this one
        other = torch.searchsorted(ordinary, (which * ordinary[-1]).long() + 1)
        return hidden.put(view, torch.where(fate < 0.8, self.mask, torch.where(fate < 0.9, other, hidden.take(view.x))))

    def hide(self, view: View, hidden: Hidden) -> View:
        """The view with all chosen tokens hidden."""
        return hidden.put(view, self.mask.expand(len(hidden.place)))
