"""Which tokens a language model predicts, and what it is given in place of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...augment.random import fold, uniform
from ...types import Alarm, View
from ..vocabulary import Vocabulary
from .tokens import position_keys, segments

CHOICE, ROUNDING, REPLACEMENT = (int.from_bytes(name, "big") for name in (b"choice", b"rounds", b"replac"))
"""Separate the draws from a sample's key."""
NOTHING_HIDDEN = Alarm(
    "hidden",
    "no token is hidden, so that there is nothing to learn",
    "Raise --model.mask_ratio or --data.batch_size, or look at the texts with ssl-lightning data",
    low=1.0,
    patience=2,
    stop=True,
)
"""Of a method that logs as `hidden` how many tokens of a batch it hides."""
ROOM = 1.5
"""Room for whole words, as a multiple of the expected tokens: words differ in length."""


class Hidden(NamedTuple):
    """M tokens of a view, as many for every batch of B rows, so that shapes do not change.

    Args:
        positions: [M] their indices in the flattened view [B N].
        chosen: [M] bool, which of them are to be predicted; the others fill up to M.
    """

    positions: Tensor
    chosen: Tensor

    def take(self, x: Tensor) -> Tensor:
        """x [B, N, ...] at these positions -> [M, ...]."""
        return x.flatten(0, 1)[self.positions]

    def put(self, view: View, ids: Tensor) -> View:
        """Copies the view with ids [M] where tokens are to be predicted."""
        x = view.x.flatten()
        ids = torch.where(self.chosen, ids, x[self.positions])
        return view._replace(x=x.scatter(0, self.positions, ids).view_as(view.x))


class TokenMasks(nn.Module):
    """BERT's masks (Devlin et al. 2018, arXiv 1810.04805, Section 3.1 and Appendix A.1).

    They are drawn from the samples' keys, each sample's from its own: neither the batch nor the row
    that it is in changes what is hidden.

    Args:
        tokens: V, rows of the encoder's table of tokens.
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
        """Stores which tokens are special, which continue a word, and which one hides the others.

        Raises:
            ValueError: there are more tokens than the encoder's table has rows.
        """
        if len(vocabulary) > self.tokens:
            raise ValueError(
                f"The tokenizer has {len(vocabulary):,} tokens, the encoder's table {self.tokens:,} rows; use the"
                " tokenizer that the encoder was trained with."
            )
        device = getattr(self, "mask", torch.empty(0)).device
        beyond = self.tokens - len(vocabulary)  # rows without a token
        self.register_buffer("special", F.pad(vocabulary.special, (0, beyond), value=True).to(device))
        self.register_buffer("continues", F.pad(vocabulary.continues, (0, beyond)).to(device))
        self.register_buffer("mask", torch.tensor(vocabulary.mask, device=device))

    def choose(self, view: View, key: Tensor, ratio: float) -> Hidden:
        """Draws a `ratio` of each sample's tokens, or words, rounded up or down at random so that
        the mean is kept; never special tokens or padding."""
        segment = segments(view)
        maskable = (segment > 0) & ~self.special[view.x]
        begins, start = maskable, torch.arange(view.x.shape[1], device=view.x.device).expand_as(segment)
        if self.whole_words:
            before = F.pad(maskable, (1, 0))[:, :-1]
            begins = maskable & ~(self.continues[view.x] & before)  # a piece of a document may begin within a word
            start = torch.where(begins | ~maskable, start, 0).cummax(dim=1).values  # of each token's word
        number = uniform(position_keys(view, key, CHOICE).flatten(), 1)[:, 0]
        flat, first = segment.flatten(), begins.flatten()
        # By sample, then by number: a multiple of 2^-24 from [0, 1), and 1 for what begins no word.
        order = (flat * 2**25 + (torch.where(first, number, 1.0) * 2**24).long()).argsort(stable=True)
        none = torch.zeros(len(key) + 1, dtype=torch.int64, device=flat.device)
        lengths = none.index_add(0, flat, torch.ones_like(flat))  # of the padding, and of each sample
        rank = torch.empty_like(flat)
        rank[order] = torch.arange(len(flat), device=flat.device) - (lengths.cumsum(0) - lengths)[flat[order]]
        words = none.index_add(0, flat, first.long())
        wanted = (ratio * words.float() + F.pad(uniform(fold(key, ROUNDING), 1)[:, 0], (1, 0))).floor()
        chosen = (first & (rank < wanted[flat])).view_as(segment).gather(1, start) & maskable
        most = math.ceil(ratio * segment.numel() * (ROOM if self.whole_words else 1.0))
        word = number.view_as(segment).gather(1, start)
        # Where there is no room for all, the words with the lowest numbers are taken; `bound` is
        # the number of the first word that does not fit whole.
        drawn, positions = torch.where(chosen, word, 2.0).flatten().sort(stable=True)
        bound = drawn[most : most + 1] if most < len(drawn) else 2.0
        return Hidden(positions[:most], drawn[:most] < bound)

    def corrupt(self, view: View, key: Tensor, hidden: Hidden) -> View:
        """Copies the view with the chosen tokens hidden (80 %), replaced by any other of the
        vocabulary (10 %) or left (10 %)."""
        fate, which = uniform(hidden.take(position_keys(view, key, REPLACEMENT)), 2).unbind(1)
        ordinary = (~self.special).cumsum(0)  # number of ordinary tokens with an id up to this one
        other = torch.searchsorted(ordinary, (which * ordinary[-1]).long() + 1)
        return hidden.put(view, torch.where(fate < 0.8, self.mask, torch.where(fate < 0.9, other, hidden.take(view.x))))

    def given(self, view: View, key: Tensor, ratio: float) -> tuple[View, Hidden]:
        """Returns the view as the network is given it, and which of its tokens are to be
        predicted."""
        hidden = self.choose(view, key, ratio)
        return self.corrupt(view, key, hidden), hidden

    def hide(self, view: View, hidden: Hidden) -> View:
        """Copies the view with all chosen tokens hidden."""
        return hidden.put(view, self.mask.expand(len(hidden.positions)))
