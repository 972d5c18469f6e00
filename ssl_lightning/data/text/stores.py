"""Data whose samples are documents: its tokenizer, and the tokens of each split."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...nn.vocabulary import Vocabulary
from ...plugins.messages import did_you_mean
from ..datamodule import SSLDataModule
from ..labels import ABSENT, class_name
from ..sources import Source
from ..splits import Split
from .documents import Corpus
from .source import TextSource
from .store import Store, open_store
from .tokenizer import Kind, load_tokenizer, trained_tokenizer, vocabulary_of
from .unknown import check_unknown

Part = Literal["train", "val", "test", "pretrain"]
PARTS: tuple[Part, ...] = ("train", "val", "test", "pretrain")


class Documents(SSLDataModule):
    """The documents of each split as token ids: an author defines `corpus`."""

    row_length: int
    tokenizer_path: str | None
    tokenizer_kind: Kind
    vocab_size: int
    max_unknown: float
    _stores: dict[Part, Store | None]

    # What an author writes.

    def corpus(self, split: Part) -> Corpus | None:
        """Returns the documents of a split, or None if there are none; `train` is required.
        `pretrain` are the documents to pretrain on if they differ from those of `train`."""
        raise NotImplementedError(f"{type(self).__name__} must define corpus(split).")

    # What follows from it.

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was given, or one trained on the documents to pretrain on."""
        if self.tokenizer_path is not None:
            return load_tokenizer(self.tokenizer_path)
        corpus = self.corpus("pretrain") or self._corpus("train")
        return trained_tokenizer(corpus, self.tokenizer_kind, self.vocab_size)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What a method needs to know about the tokens."""
        return vocabulary_of(self.tokenizer)

    def store(self, split: Part) -> Store | None:
        """The tokens of a split's documents. All splits are opened with the first one, before any
        training: later a file may have changed, or be gone."""
        if not self._stores:
            corpora = {part: self.corpus(part) for part in PARTS}
            stores = {
                part: None if corpus is None else open_store(corpus, self.tokenizer) for part, corpus in corpora.items()
            }
            pretrained = "pretrain" if stores["pretrain"] else "train"
            for part, store in stores.items():
                if store is not None:
                    most = self.max_unknown if part == pretrained else 1.0
                    check_unknown(store, self.tokenizer, self._corpus(part).name, most)
            self._stores = stores
        return self._stores[split]

    def source(self, split: Split) -> Source | None:
        store = self.store(split)
        return (
            None
            if store is None
            else TextSource(store, self.row_length, self.vocabulary, labels=self._labels(split, store))
        )

    def _corpus(self, split: Part) -> Corpus:
        corpus = self.corpus(split)
        if corpus is None:
            raise ValueError(f"{type(self).__name__} has no {split} documents.")
        return corpus

    def _store(self, split: Part) -> Store:
        store = self.store(split)
        if store is None:
            raise ValueError(f"{type(self).__name__} has no {split} documents.")
        return store

    def _labels(self, split: Split, store: Store) -> Tensor | None:
        """Returns the index of each document's class among the training split's class names, -1 for
        a document without one; None where there are no classes."""
        names = [name for name in self._store("train").class_names if class_name(name, "a class") is not None]
        self.class_names = tuple(names) or None
        if self.class_names is None or store.labels is None:
            return None
        known = {name: number for number, name in enumerate(names)}
        known |= {name: ABSENT for name in store.class_names if class_name(name, "a class") is None}
        unknown = next((name for name in store.class_names if name not in known), None)
        if unknown is not None:
            raise ValueError(
                f"{self._corpus(split).name} has the class {unknown!r}, which no training document has."
                f"{did_you_mean(unknown, known)}"
            )
        return torch.tensor([known[name] for name in store.class_names])[store.labels]
