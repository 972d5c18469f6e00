"""The base class of datamodules for text: a tokenizer, stores of tokens, and samples packed into
rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, get_args

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from ...augment.random import permutation
from ...nn.packing import Ragged, unpacked
from ...nn.vocabulary import Vocabulary, introduce
from ...plugins.arguments import one_of, require
from ...plugins.messages import did_you_mean
from ...types import Strength, View
from ..datamodule import SSLDataModule
from ..groups import withhold_some
from ..labels import ABSENT, class_name
from ..ledger import LeftOut, Tally
from ..sources import Source, Subset
from ..splits import Split
from .augment import TextAugmentation
from .documents import Corpus
from .settings import ROW_LENGTH, TEXT, row_length_in, text_json
from .sheet import plot_texts
from .source import TextSource
from .spelling import spelling
from .store import Store, open_store
from .tokenizer import TOKENIZER, Kind, digest_of, load_tokenizer, trained_tokenizer, vocabulary_of
from .unknown import check_unknown, unknown_share

WITHHELD_ONE_IN, WITHHELD_MOST = 50, 1_000
"""Where there is no validation split, about one in 50 of the samples to pretrain on is held out, at
most 1,000."""
SHOWN = 8
"""Samples of a view that are drawn."""
RAW_TOKENS = 2048
"""Raw features are the TF-IDF of this many tokens."""
VOCAB_SIZE = 8192
Part = Literal["train", "val", "test", "pretrain"]
USES: dict[Part, str] = {"train": "probes", "val": "validation", "test": "test", "pretrain": "pretraining"}
"""What a run uses the documents of each part for."""


class TextDataModule(SSLDataModule):
    """A data set of texts: an author defines `corpus`.

    A sample is a document, cut off at the length of a row. Where a document is longer, pretraining
    takes all of it, in pieces. Samples share rows of equal length, without padding between them;
    the strong augmentation deletes tokens. Tokenizer and tokens are made once and kept in
    `$SSL_LIGHTNING_CACHE` (on Linux by default `~/.cache/ssl_lightning`).

    Args:
        row_length: tokens in a row, and in the longest sample, including its first and last token.
        tokenizer: a `tokenizer.json`, or a folder with it, such as a run's; None: trained on the
            documents to pretrain on.
        tokenizer_kind: of a tokenizer that is trained: `byte_bpe`, which keeps every text as it is,
            `bpe`, `unigram`, or `wordpiece`, which knows no capitals or accents.
        vocab_size: the most tokens of a trained tokenizer.
        deletion: the fraction of the tokens that the strong augmentation deletes.
        max_unknown: the largest share of unknown tokens among those to pretrain on; more stop the
            run. Above 1 %, and for other splits, a warning names the share.
    """

    incidental = SSLDataModule.incidental | {"max_unknown"}

    default_epochs = 20
    withholds_whole = True
    """Whether documents are held out whole; those whose checkpoints do not state it held out
    rows."""

    def __init__(
        self,
        *,
        row_length: int = ROW_LENGTH,
        tokenizer: str | None = None,
        tokenizer_kind: Literal["byte_bpe", "wordpiece", "bpe", "unigram"] = "byte_bpe",
        vocab_size: int = VOCAB_SIZE,
        deletion: float = 0.1,
        max_unknown: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.cache == "device":
            raise ValueError(
                "cache=device needs samples of one size; texts are packed before they go to the device. Leave it out."
            )
        if self.augment_on == "device":
            raise ValueError("augment_on=device does not suit text, which is packed where it is fetched. Leave it out.")
        if row_length < 8:
            raise ValueError(f"row_length={row_length} is too short for a text; give 8 tokens or more.")
        one_of("tokenizer_kind", tokenizer_kind, get_args(Kind))
        self.row_length, self.tokenizer_path = row_length, tokenizer
        self.tokenizer_kind, self.vocab_size = tokenizer_kind, vocab_size
        require(self, at_least=0, at_most=1, deletion=deletion, max_unknown=max_unknown)
        self.deletion, self.max_unknown = deletion, max_unknown
        self._stores: dict[Part, Store | None] = {}
        if tokenizer is not None:
            vocabulary_of(load_tokenizer(tokenizer))  # raises if it is unusable, before an encoder is built

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

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns a transformer for the tokenizer's vocabulary size and the data's row length."""
        path = init_args.get("tokenizer")
        try:
            size = (
                len(vocabulary_of(load_tokenizer(path)))
                if isinstance(path, str)
                else init_args.get("vocab_size", VOCAB_SIZE)
            )
        except (OSError, ValueError) as error:
            raise ValueError(f"--data.tokenizer: {error}") from error
        args = {"vocab_size": size, "max_length": init_args.get("row_length", ROW_LENGTH)}
        return {kind: {"class_path": "text", "init_args": dict(args)} for kind in ("Encoder", "TextEncoder")}

    def prepare_data(self) -> None:
        """Trains the tokenizer and writes the stores, which every process then opens.

        Raises:
            ValueError: the run's encoder cannot read such rows.
        """
        super().prepare_data()
        if self.trainer is not None:
            self._check_rows(getattr(self.trainer.lightning_module, "encoder", None))
        self.store("train")

    def store(self, split: Part) -> Store | None:
        """The tokens of a split's documents. All splits are opened with the first one, before any
        training: later a file may have changed, or be gone."""
        if not self._stores:
            corpora = {part: self.corpus(part) for part in USES}
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

    def ledger(self) -> list[Tally]:
        """Returns what became of the documents of each split."""
        self._divide()
        tallies = [self._tally(part, store) for part in USES if (store := self.store(part)) is not None]
        beside = self.beside()
        return tallies if beside is None else [*tallies, beside]

    def _tally(self, part: Part, store: Store) -> Tally:
        left_out, used = list(store.left_out), {USES[part]: len(store)}
        if self.supervised and part == "pretrain":
            used, left_out = {}, [*left_out, LeftOut("have no labels, from which this method learns", len(store))]
        elif self.supervised and part == "train":
            used = {"training": len(store)}
        elif part == "pretrain" or (self.store("pretrain") is None and part == "train"):
            used = dict(self._documents)
        classes = len(store.class_names)
        return Tally(part, "documents", used, left_out, f"labels of {classes:,} classes" if classes else "")

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

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return TextAugmentation(
            self.row_length, self.vocabulary, self.deletion if strength.startswith("strong") else 0.0
        )

    def raw_features(self, raw: Ragged) -> Tensor:
        """Computes TF-IDF [S, D] of the tokens that occur in the most training documents,
        normalised to length 1 (Salton and Buckley 1988)."""
        columns, idf = self._weights
        column = columns.to(raw.x.device)[raw.x]
        cell = (raw.sample * len(idf) + column)[column >= 0]
        counts = torch.bincount(cell, minlength=len(raw.lengths) * len(idf)).view(len(raw.lengths), len(idf))
        return F.normalize(counts * idf.to(counts.device), dim=1)

    def as_words(self, ids: Tensor) -> list[list[str]]:
        """Returns token ids [S, N] as words to read, without padding."""
        written, pad = spelling(self.tokenizer, self.vocabulary), self.vocabulary.pad
        samples = [[written[id] for id in row if id != pad] for row in ids.tolist()]
        # The second token, behind [CLS], continues nothing, though there may be no space before it.
        return [[*words[:1], *(word.removeprefix("##") for word in words[1:2]), *words[2:]] for words in samples]

    def artifacts(self) -> dict[str, str]:
        """Returns the tokenizer and the row length, for the run folder and for checkpoints."""
        return {TOKENIZER: self.tokenizer.to_str(pretty=True), TEXT: text_json(self.row_length)}

    @classmethod
    def arguments_of(cls, artifacts: Mapping[str, str], path: str) -> dict[str, Any]:
        folder = str(Path(path).parent) if path.endswith(".safetensors") else path
        arguments: dict[str, Any] = {"tokenizer": folder} if TOKENIZER in artifacts else {}
        return arguments | ({"row_length": row_length_in(artifacts[TEXT])} if TEXT in artifacts else {})

    def difference(self, artifacts: Mapping[str, str]) -> str:
        if self.artifacts()[TOKENIZER] == artifacts.get(TOKENIZER, self.artifacts()[TOKENIZER]):
            return ""
        return (
            f"The data's {TOKENIZER} differs from that of the encoder's run, so the same ids would mean different"
            " tokens. Use the run's: --data.tokenizer and its folder."
        )

    def meet(self, method: Any) -> None:
        self._check_rows(method.encoder)
        introduce(method, self.vocabulary)

    def show(self, captions: Mapping[str, View], path: Path, compare: bool = False) -> dict[str, Path]:
        texts = {caption: self.as_words(unpacked(view)[:SHOWN]) for caption, view in captions.items()}
        plot_texts(texts, path, compare)
        return {path.stem: path}

    def in_words(self, view: View) -> list[str]:
        rows = unpacked(view)[:SHOWN].tolist()
        return [shorten(self.tokenizer.decode(row), 100, placeholder=" ...") for row in rows]

    def how_to_load(self, folder: Path, dim: int) -> str:
        return (
            "from ssl_lightning import Reader, load_encoder\n"
            f'encoder, read = load_encoder("{folder}"), Reader("{folder}")\n'
            f'features = encoder(read(["a text", "another"]))  # [2, {dim}]'
        )

    @property
    def rows_alike(self) -> bool:
        """Always false: samples share rows."""
        return False

    @property
    def in_workers(self) -> bool:
        """Always true: which samples share a row follows from their lengths, which an accelerator
        would have to send back."""
        return True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the position.

        Raises:
            ValueError: the run had other samples, or another tokenizer.
        """
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        current, trained = digest_of(self.tokenizer), state_dict.get("tokenizer")
        if self.withholds_whole and not state_dict.get("withholds_whole", False):  # in evaluation too
            self.withholds_whole = False
            for name in ("kept", "held_out", "pretraining"):
                self._sources.pop(name, None)
        if fitting and trained not in (None, current):
            raise ValueError(
                f"The checkpoint was trained with the tokenizer {trained}, this run has {current}: the same ids would"
                " mean different tokens. Resume with the run's tokenizer: --data.tokenizer and its folder, which"
                " contains tokenizer.json."
            )
        super().load_state_dict(state_dict)

    def order(self) -> dict[str, Any]:
        return {
            **super().order(),
            "tokenizer": digest_of(self.tokenizer),
            "withholds_whole": self.withholds_whole,
        }

    def start_again(self) -> None:
        super().start_again()
        self.withholds_whole = True

    def tally(self, split: str, source: Source, use: str) -> Tally:
        tally = super().tally(split, source, use)
        share = unknown_share(source.store, self.tokenizer) if isinstance(source, TextSource) else 0.0
        return replace(tally, remarks=[*tally.remarks, f"{share:.2%} of the tokens unknown"]) if share else tally

    def _check_rows(self, encoder: Any) -> None:
        most = getattr(encoder, "max_length", None)
        if most is not None and self.row_length > most:
            raise ValueError(
                f"{type(encoder).__name__} reads up to {most:,} tokens, and row_length={self.row_length:,}; set"
                f" --data.row_length {most} or less, or a longer --model.encoder.max_length for a new encoder."
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

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor]:
        """[V] the column of each token, -1 if it does not have one, and [D] each column's
        weight."""
        frequency, documents = self._store("train").document_frequency()
        frequency[self.vocabulary.special] = 0
        chosen = frequency.argsort(descending=True, stable=True)[: min(RAW_TOKENS, int((frequency > 0).sum()))]
        column = torch.full_like(frequency, -1)
        column[chosen] = torch.arange(len(chosen))
        return column, ((1 + documents) / (1 + frequency[chosen])).log() + 1
