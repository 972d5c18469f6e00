"""Documents from plain text: paragraphs, lines or whole files; and the text of HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Literal, TextIO

from .documents import PIECE, Counts, Piece, cut, valid

Division = Literal["paragraph", "line", "file"]
INLINE = frozenset(
    ("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img",
     "ins", "kbd", "mark", "q", "ruby", "rt", "rp", "s", "samp", "small", "span", "strike", "strong", "sub", "sup",
     "time", "tt", "u", "var", "wbr")
)  # fmt: skip
"""Elements of HTML that do not end a paragraph."""
UNSHOWN = frozenset(("script", "style", "template", "noscript", "svg", "head"))
"""Elements whose text is not read."""


def read_txt(file: TextIO, document: Division, counts: Counts, group: str | None = None) -> Iterator[Piece]:
    """Reads plain text: a document is a paragraph, separated from the next by blank lines, or a
    line, or the whole file."""
    held: list[str] = []
    size, begins, fresh = 0, True, True  # fresh: at the beginning of a line
    while True:
        line = file.readline(PIECE)
        whole = line.endswith("\n")
        if document == "paragraph" and fresh and whole and line.isspace():
            ends = True
        else:
            held.append(line)
            size += len(line)
            ends = not line or (document == "line" and whole)
        fresh = whole
        if not ends and size < PIECE:
            continue
        parts = list(cut("".join(held)))
        held = [] if ends else [parts.pop()]
        size = sum(map(len, held))
        for part in parts:
            if part and not part.isspace():
                yield Piece(valid(part, counts), None, begins, group)
                begins = False
        if ends:
            counts.leave_out(document == "line" and begins and bool(line))
            begins = True
        if not line:
            return


class HTMLText(HTMLParser):
    """Collects what a page shows; each element that is not inline is a paragraph, except that a
    `pre` keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.unshown: list[str] = []
        self.verbatim = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in UNSHOWN:
            self.unshown.append(tag)
        elif tag == "body":
            self.unshown.clear()  # a head that is not closed ends here
        self.verbatim += tag == "pre"
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.unshown:
            del self.unshown[self.unshown.index(tag) :]
        self.verbatim = max(0, self.verbatim - (tag == "pre"))
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if self.unshown:
            return
        if not self.verbatim:
            data = (" " if data[:1].isspace() else "") + " ".join(data.split()) + (" " if data[-1:].isspace() else "")
        self.parts.append(data)

    def _separate(self, tag: str) -> None:
        if tag == "br":
            self.parts.append("\n")
        elif tag not in INLINE:
            self.parts.append("\n\n")


def text_of_html(page: str) -> str:
    """Returns the text of a page, its paragraphs separated by blank lines."""
    parser = HTMLText()
    parser.feed(page)
    parser.close()
    return "".join(parser.parts)
