"""Documents as a stream of pieces, so that neither a corpus nor a document need fit in memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from ..ledger import LeftOut

PIECE = 1 << 16
"""Characters of a document that are in memory at a time."""
SPACES = " \n\t"
INVALID = re.compile("[\ud800-\udfff]")


class Piece(NamedTuple):
    """A document, or a part of a long one.

    Args:
        text: more than white space.
        label: the document's class, or None.
        begins: whether a document begins here; else the piece continues that of the previous piece.
        group: documents of one group are held out together; None: each is a group of its own.
    """

    text: str
    label: str | None
    begins: bool
    group: str | None = None


@dataclass
class Counts:
    """The number of changes and omissions.

    Args:
        replaced: bytes that are not of the file's encoding, each replaced by U+FFFD.
        empty: documents without text.
        without_tokens: documents whose text gives no token.
        where: the file, line or row that is being read.
        first_replaced, first_empty: where the first of each was.
    """

    replaced: int = 0
    empty: int = 0
    without_tokens: int = 0
    where: str = ""
    first_replaced: str = ""
    first_empty: str = ""

    def substitute(self, number: int) -> None:
        """Counts bytes that were replaced."""
        self.first_replaced = self.first_replaced or (self.where if number else "")
        self.replaced += number

    def leave_out(self, empty: bool = True) -> None:
        """Counts a document without text, if it is one."""
        self.first_empty = self.first_empty or (self.where if empty else "")
        self.empty += empty

    def sentence(self) -> str:
        """Says what was counted, in words; empty if nothing was."""
        said = []
        if self.replaced:
            first = f" (the first in {self.first_replaced})" if self.first_replaced else ""
            many = "s that are" if self.replaced > 1 else " that is"
            said.append(f"{self.replaced:,} byte{many} not of the encoding became U+FFFD{first}")
        if empty := self.empty + self.without_tokens:
            said.append(f"{empty:,} empty document{'s were' if empty > 1 else ' was'} skipped")
        return ", ".join(said)

    def left_out(self) -> list[LeftOut]:
        """Returns the documents that are none, by reason, for the data's ledger."""
        reasons = (("are empty", self.empty, self.first_empty), ("give no token", self.without_tokens, ""))
        return [LeftOut(*reason) for reason in reasons if reason[1]]


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
        """The approximate amount to read, in bytes."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """Returns plain values that change when the documents do, without reading these."""

    @abstractmethod
    def read(self, counts: Counts) -> Iterator[Piece]:
        """Yields the documents; changes and omissions are added to `counts`."""


@dataclass(frozen=True)
class Texts(Corpus):
    """Documents in memory.

    Args:
        name: for messages.
        texts: the documents.
        labels: the label of each document, or None.
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
            counts.where = f"document {number + 1}"
            yield from pieces(text, self.labels[number] if self.labels is not None else None, counts)


def pieces(text: str, label: str | None, counts: Counts, group: str | None = None) -> Iterator[Piece]:
    """Yields the pieces of a document whose whole text is in memory."""
    begins = True
    for part in cut(text):
        if part and not part.isspace():
            yield Piece(valid(part, counts), label, begins, group)
            begins = False
    counts.leave_out(begins)


def cut(text: str) -> Iterator[str]:
    """Yields text in parts of at most `PIECE` characters, cut before white space where there is
    any, so that no word is cut."""
    start = 0
    while len(text) - start > PIECE:
        low, high = start + PIECE // 2, start + PIECE
        end = max(text.rfind(space, low, high) for space in SPACES)
        end = high if end < 0 else end
        yield text[start:end]
        start = end
    yield text[start:]


def valid(text: str, counts: Counts) -> str:
    """Returns text with U+FFFD in place of whatever UTF-8 cannot encode, such as the bytes that
    `surrogateescape` let through."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text, replaced = INVALID.subn("\ufffd", text)
        counts.substitute(replaced)
    return text
