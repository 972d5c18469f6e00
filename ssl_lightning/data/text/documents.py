"""Documents as a stream of pieces, so that neither a corpus nor a document need fit in memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

PIECE = 1 << 16
"""Characters of a document that are held at a time."""
SPACES = " \n\t"
INVALID = re.compile("[\ud800-\udfff]")


class Piece(NamedTuple):
    """A document, or a part of a long one.

    Args:
        text: not white space alone.
        label: the document's class, or None.
        begins: whether a document begins here; else this goes on with the one of the piece before.
    """

    text: str
    label: str | None
    begins: bool


@dataclass
class Counts:
    """What was changed or left out.

    Args:
        replaced: bytes that were no UTF-8, for each of which there is a U+FFFD.
        empty: documents without text.
    """

    replaced: int = 0
    empty: int = 0

    def sentence(self) -> str:
        """What was counted, in words; nothing where all is 0."""
        said = []
        if self.replaced:
            said.append(
                f"{self.replaced:,} byte{'s that are' if self.replaced > 1 else ' that is'} no UTF-8 became U+FFFD"
            )
        if self.empty:
            said.append(f"{self.empty:,} empty document{'s were' if self.empty > 1 else ' was'} skipped")
        return ", ".join(said)


class Corpus(ABC):
    """Documents that can be read again and again, in one order.

    Attributes:
        name: for messages.
        labelled: whether every document has a label.
    """

    name: str
    labelled: bool

    @property
    @abstractmethod
    def size(self) -> int:
        """How much there is to read, about, in bytes."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """Plain values that change when the documents do, found without reading them."""

    @abstractmethod
    def read(self, counts: Counts) -> Iterator[Piece]:
        """The documents; what is changed or left out is added to `counts`."""


@dataclass(frozen=True)
class Texts(Corpus):
    """Documents in memory.

    Args:
        name: for messages.
        texts: the documents.
        labels: of each, or None.
    """

    name: str
    texts: Sequence[str] = field(repr=False)
    labels: Sequence[str] | None = None

    @property
    def labelled(self) -> bool:  # type: ignore[override]  # follows from the labels
        return self.labels is not None

    @property
    def size(self) -> int:
        return sum(map(len, self.texts))

    def identity(self) -> list[Any]:
        digest = sha256()
        for text in (*self.texts, *(self.labels or ())):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return [len(self.texts), digest.hexdigest()]

    def read(self, counts: Counts) -> Iterator[Piece]:
        for number, text in enumerate(self.texts):
            yield from pieces(text, self.labels[number] if self.labels is not None else None, counts)


def pieces(text: str, label: str | None, counts: Counts) -> Iterator[Piece]:
    """A document of which all is at hand, in pieces."""
    begins = True
    for part in cut(text):
        if part and not part.isspace():
            yield Piece(valid(part, counts), label, begins)
            begins = False
    counts.empty += begins


def cut(text: str) -> Iterator[str]:
    """Text in parts of at most `PIECE` characters, which begin with white space where there is
    some: there no word is cut."""
    start = 0
    while len(text) - start > PIECE:
        low, high = start + PIECE // 2, start + PIECE
        end = max(text.rfind(space, low, high) for space in SPACES)
        end = high if end < 0 else end
        yield text[start:end]
        start = end
    yield text[start:]


def valid(text: str, counts: Counts) -> str:
    """Text with U+FFFD for what no UTF-8 can stand for: the bytes that `surrogateescape` let
    through among it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text, replaced = INVALID.subn("\ufffd", text)
        counts.replaced += replaced
    return text
