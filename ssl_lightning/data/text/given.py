"""Texts that are handed over one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...nn.vocabulary import Vocabulary
from ..given import Given
from ..sources import Source
from ..splits import Split
from .datamodule import TextDataModule
from .judged import guarded
from .preparation import MADE_UP
from .source import TextSource
from .store import Store
from .tokenizer import ready, without_special


class GivenTexts(Given, TextDataModule):
    """The items that it is given are its training split: texts, or paths of files of which each is
    one text."""

    def made_up(self, count: int) -> list[Any]:
        return [MADE_UP[number % len(MADE_UP)] for number in range(count)]

    def source(self, split: Split) -> Source | None:
        if split != "train":
            return None
        texts = [_text(item, number) for number, item in enumerate(self.items)]
        allowed = without_special(self.tokenizer).numpy()
        encoded = guarded(ready(self.tokenizer).encode_batch_fast, texts, add_special_tokens=False)
        return GivenDocuments(self.items, [allowed[each.ids] for each in encoded], self.row_length, self.vocabulary)


class GivenDocuments(TextSource):
    """A source of texts that are handed over.

    Args:
        items: as of `GivenTexts`.
        ids: the tokens of each.
        row_length, vocabulary: as of `TextSource`.
    """

    def __init__(self, items: Sequence[str | Path], ids: list[Any], row_length: int, vocabulary: Vocabulary) -> None:
        super().__init__(Held(ids), row_length, vocabulary)
        self.items = items

    def name(self, number: int) -> str:
        item = self.items[number]
        return str(item) if isinstance(item, Path) else f"text {number}"


class Held(Store):
    """Documents in memory.

    Args:
        documents: the tokens of each.
    """

    def __init__(self, documents: Sequence[Sequence[int]]) -> None:
        self.tokens = np.fromiter(chain(*documents, [0]), np.int64)  # the last one belongs to none
        self.offsets = np.cumsum([0, *map(len, documents)])
        self.class_names, self.groups, self.left_out, self.remarks, self.fingerprint = (), None, [], "", ""

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, (np.split(self.tokens[:-1], self.offsets[1:-1]),)

    @property
    def labels(self) -> Tensor | None:
        return None


def _text(item: Any, number: int) -> str:
    """A text, or what a file holds.

    Raises:
        TypeError, OSError, ValueError: it is neither.
    """
    if isinstance(item, Path):
        try:
            return item.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{str(item)!r} is not a text in UTF-8: {error.reason}. Decode it, and give a str."
            ) from error
    if not isinstance(item, str):
        raise TypeError(f"text {number} is a {type(item).__name__}; give a str, or the Path of a text file.")
    return item
