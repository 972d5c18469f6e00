"""The base class of datamodules for text: a tokenizer, stores of tokens, and samples packed into
rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...nn.packing import Ragged, unpacked
from ...nn.vocabulary import introduce
from ...plugins.arguments import one_of, require
from ...types import Strength, View
from ..datamodule import SSLDataModule
from ..given import Given
from ..peek import sample
from ..preparation import Preparation
from ..tagged import Tagged
from .augment import TextAugmentation
from .preparation import preparation_of
from .settings import ROW_LENGTH, TEXT, row_length_in, text_json
from .sheet import plot_texts, write_texts
from .spelling import spelling
from .stores import Part as Part
from .tokenizer import TOKENIZER, Kind, digest_of, kept_tokenizer, load_tokenizer, vocabulary_of
from .withheld import WithheldDocuments

SHOWN = 8
"""Samples of a view that are drawn."""
RAW_TOKENS = 2048
"""Raw features are the TF-IDF of this many tokens."""
VOCAB_SIZE = 8192


class TextDataModule(WithheldDocuments):
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
    example_items = '["a text", "another"]'

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
        self._stores = {}
        if tokenizer is not None:
            vocabulary_of(load_tokenizer(tokenizer))  # raises if it is unusable, before an encoder is built

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

    def raw_of_view(self, view: View) -> Tensor:
        """Computes the TF-IDF [S, D] of a view's tokens."""
        ids = unpacked(view)  # [S, N]
        real = ids != self.vocabulary.pad
        return self.raw_features(Ragged(ids[real], real.sum(dim=1)))

    def as_words(self, ids: Tensor) -> list[list[str]]:
        """Returns token ids [S, N] as words to read, without padding."""
        written, pad = spelling(self.tokenizer, self.vocabulary), self.vocabulary.pad
        samples = [[written[id] for id in row if id != pad] for row in ids.tolist()]
        # The second token, behind [CLS], continues nothing, though there may be no space before it.
        return [[*words[:1], *(word.removeprefix("##") for word in words[1:2]), *words[2:]] for words in samples]

    def artifacts(self) -> dict[str, str]:
        """Returns the tokenizer and the row length, for the run folder and for checkpoints."""
        return {TOKENIZER: self.tokenizer.to_str(pretty=True), TEXT: text_json(self.row_length)}

    def preparation(self) -> Preparation:
        return preparation_of(self.row_length, self.vocabulary, self.tokenizer.to_str(pretty=True))

    @classmethod
    def of_items(cls) -> type[Given]:
        from .given import GivenTexts  # here: it is built of this class

        return GivenTexts

    @classmethod
    def arguments_of(cls, artifacts: Mapping[str, str], path: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if TOKENIZER in artifacts:
            arguments["tokenizer"] = kept_tokenizer(artifacts[TOKENIZER], path)
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

    def tagged(self, train: Path, judged: Path, most: tuple[int, int]) -> tuple[Tagged, Tagged]:
        from .conll import read_conll, tagged  # here: it is built of what is given item by item

        parts = [read_conll(path) for path in (train, judged)]
        names = sorted({tag for part in parts for sentence in part for tag in sentence.tags})
        kept = [
            [part[each] for each in sample(len(part), limit).tolist()] for part, limit in zip(parts, most, strict=True)
        ]
        vocabulary = self.vocabulary
        first, second = (tagged(part, names, self.tokenizer, vocabulary, self.row_length) for part in kept)
        return first, second

    def show(self, captions: Mapping[str, View], path: Path, compare: bool = False) -> dict[str, Path]:
        texts = {caption: self.as_words(unpacked(view)[:SHOWN]) for caption, view in captions.items()}
        plot_texts(texts, path, compare)
        if not compare:
            return {path.stem: path}
        return {path.stem: path, f"{path.stem}/texts": write_texts(texts, path.with_suffix(".csv"))}

    def in_words(self, view: View) -> list[str]:
        rows = unpacked(view).tolist()
        return [shorten(self.tokenizer.decode(row), 100, placeholder=" ...") for row in rows]

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

    def _check_rows(self, encoder: Any) -> None:
        most = getattr(encoder, "max_length", None)
        if most is not None and self.row_length > most:
            raise ValueError(
                f"{type(encoder).__name__} reads up to {most:,} tokens, and row_length={self.row_length:,}; set"
                f" --data.row_length {most} or less, or a longer --model.encoder.max_length for a new encoder."
            )

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
