"""Documents that training does not see, where the data has no validation split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...augment.random import permutation
from ..groups import withhold_some
from ..ledger import Tally
from ..sources import Source, Subset
from .source import TextSource
from .store import Store
from .stores import Documents
from .unknown import unknown_share

WITHHELD_ONE_IN, WITHHELD_MOST = 50, 1_000
"""Where there is no validation split, about one in 50 of the samples to pretrain on is held out, at
most 1,000."""


class WithheldDocuments(Documents):
    """The documents to pretrain on, without those that are held out."""

    withholds_whole = True
    """Whether documents are held out whole; those whose checkpoints do not state it held out
    rows."""
    _documents: dict[str, int]
    """The number of documents to pretrain on, by their use."""

    def pretraining_source(self) -> Source | None:
        """Returns the documents to pretrain on, in pieces where one is longer than a row, without
        those that are held out."""
        self._divide()
        return self._sources["kept"]

    @property
    def held_out(self) -> Source | None:
        """The validation split, if there is one; else whole documents of those to pretrain on, or
        whole groups, which training does not see: about one sample in 50, at most 1,000. None if
        there are fewer than 50, or each document has more than a tenth of them."""
        self._divide()
        return self._sources["held_out"]

    def unlabelled_part(self) -> Source | None:
        store = self.store("pretrain")
        return None if store is None else TextSource(store, self.row_length, self.vocabulary)

    def tally(self, split: str, source: Source, use: str) -> Tally:
        """Returns what was found of a split, documents that are held out among it, with the share
        of unknown tokens."""
        self._divide()
        tally = super().tally(split, source, use)
        if tally.used and use == "pretraining":
            tally = replace(tally, used=dict(self._documents))
        share = unknown_share(source.store, self.tokenizer) if isinstance(source, TextSource) else 0.0
        return replace(tally, remarks=[*tally.remarks, f"{share:.2%} of the tokens unknown"]) if share else tally

    def _divide(self) -> None:
        """Separates the documents to pretrain on from those that are held out, once."""
        if "kept" in self._sources:
            return
        store = self.store("pretrain") or self._store("train")
        labels = self._labels("train", store) if store is self.store("train") else None
        long = store.longest > self.row_length - 2
        samples: Source = TextSource(store, self.row_length, self.vocabulary, pieces=long, labels=labels)
        few = min(WITHHELD_MOST, len(samples) // WITHHELD_ONE_IN)
        kept, withheld, documents = samples, self.source("val"), 0
        if withheld is None and few:
            rows = torch.from_numpy(store.rows(self.row_length - 2) if long else np.ones(len(store), np.int64))
            held_out, documents = self._withheld(store, rows, few)
            if documents or not self.withholds_whole:
                kept, withheld = Subset(samples, (~held_out).nonzero()[:, 0]), Subset(samples, held_out.nonzero()[:, 0])
        self._sources["kept"], self._sources["held_out"] = kept, withheld
        self._documents = {"pretraining": len(store) - documents, **({"validation": documents} if documents else {})}

    def _withheld(self, store: Store, rows: Tensor, few: int) -> tuple[Tensor, int]:
        """Chooses what is held out of the samples to pretrain on.

        Args:
            store: the documents.
            rows: [documents] the samples of each.
            few: about how many samples to hold out.

        Returns:
            [samples] whether each is held out, and the number of documents held out.
        """
        if not self.withholds_whole:
            held_out = torch.zeros(int(rows.sum()), dtype=torch.bool)
            held_out[permutation(0, 0, len(held_out))[:few]] = True
            return held_out, 0
        group = torch.arange(len(rows))
        if store.groups is not None:
            group = torch.from_numpy(np.unique(store.groups, return_inverse=True)[1])
        sizes = torch.zeros(int(group.max()) + 1, dtype=torch.int64).index_add_(0, group, rows)
        document = withhold_some(sizes, few, permutation(0, 0, len(sizes)))[group]
        return document.repeat_interleave(rows), int(document.sum())

    def start_again(self) -> None:
        super().start_again()
        self.withholds_whole = True
