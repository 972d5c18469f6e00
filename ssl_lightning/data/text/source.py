"""A source of samples of tokens from a store: documents, or pieces of long ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...nn.packing import Ragged
from ...nn.vocabulary import Vocabulary
from ..sources import Source
from ..windows import Windows, starts_of, windows_of
from .store import Store


class TextSource(Source):
    """A source of documents, each `[CLS] ... [SEP]` in at most `row_length` tokens.

    Args:
        store: the documents.
        row_length: N, tokens in the longest sample; a longer document is truncated, covered by
            `windows`, or becomes several samples.
        vocabulary: its `cls` and `sep` begin and end a sample.
        pieces: whether a longer document becomes several samples, all full but the last.
        labels: [documents] their classes, or None; pieces have no labels.

    Raises:
        ValueError: a row has no room for a token.
    """

    in_memory = True  # mapped: workers would only cost

    def __init__(
        self,
        store: Store,
        row_length: int,
        vocabulary: Vocabulary,
        *,
        pieces: bool = False,
        labels: Tensor | None = None,
    ) -> None:
        if row_length < 3:
            raise ValueError(
                f"row_length={row_length} has no room for a token between the first and the last; give 3 or more."
            )
        self.store, self.room, self.cls, self.sep = store, row_length - 2, vocabulary.cls, vocabulary.sep
        self.ends: np.ndarray | None = None
        if pieces:
            self.ends = np.cumsum(-(-np.diff(store.offsets) // self.room))
        self.labels = None if pieces else labels
        self.fingerprint = f"{store.fingerprint}-{row_length}" if pieces else store.fingerprint

    def __len__(self) -> int:
        return len(self.store) if self.ends is None else int(self.ends[-1])

    def fetch(self, index: Tensor) -> Ragged:
        """Returns the tokens of the samples `index` [S]."""
        number = index.numpy()
        document, before = number, np.zeros_like(number)
        if self.ends is not None:
            document = np.searchsorted(self.ends, number, side="right")
            first = np.where(document > 0, self.ends[document - 1], 0)
            before = (number - first) * self.room
        starts = self.store.offsets[document] + before
        return self.between(starts, np.minimum(self.store.offsets[document + 1] - starts, self.room))

    def between(self, starts: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Returns samples of so many tokens of the store from `starts` on, between the first and
        the last token of a sample."""
        lengths = lengths + 2
        lasts = np.cumsum(lengths) - 1
        shift = starts - 1 - (lasts + 1 - lengths)  # from an index into the fetched tokens to one into the store
        position = np.arange(lengths.sum()) + np.repeat(shift, lengths)
        x = self.store.tokens[position.clip(0, len(self.store.tokens) - 1)].astype(np.int64)
        x[lasts + 1 - lengths], x[lasts] = self.cls, self.sep
        return Ragged(torch.from_numpy(x), torch.from_numpy(lengths))

    def windows(self) -> Windows | None:
        if self.ends is not None or self.store.longest <= self.room:
            return None
        source = TextWindows(self)
        return Windows(source, source.counts)


class TextWindows(Source):
    """The windows that cover the documents of a source: as many as are needed, all full where a
    document is longer than one."""

    in_memory = True

    def __init__(self, whole: TextSource) -> None:
        self.whole = whole
        self.lengths = torch.from_numpy(np.diff(whole.store.offsets))
        self.counts = windows_of(self.lengths, whole.room)
        self.ends = self.counts.cumsum(0)
        self.labels = None if whole.labels is None else whole.labels.repeat_interleave(self.counts)
        self.fingerprint = whole.fingerprint

    def __len__(self) -> int:
        return int(self.ends[-1])

    def fetch(self, index: Tensor) -> Ragged:
        """Returns the tokens of the windows `index` [W]."""
        document = torch.searchsorted(self.ends, index, right=True)
        counts, lengths, room = self.counts[document], self.lengths[document], self.whole.room
        starts = starts_of(lengths, room, index - (self.ends[document] - counts), counts)
        return self.whole.between(
            self.whole.store.offsets[document.numpy()] + starts.numpy(), lengths.clamp(max=room).numpy()
        )
