"""Documents from plain text and from lists, read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ..files import lists
from ..files.lists import opened, shown
from ..labels import class_name
from .documents import PIECE, Counts, Piece, cut, pieces, valid

SUFFIXES = (".txt", *lists.SUFFIXES)
Division = Literal["paragraph", "line", "file"]


class Columns(NamedTuple):
    """These columns hold a document's text and its label; None: there are no labels."""

    text: str = "text"
    label: str | None = None


def read_file(path: Path, columns: Columns, document: Division, counts: Counts) -> Iterator[Piece]:
    """Reads the documents of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: a column is missing, a text or label has another type, or the file is not of its
            format; the message names the line or row.
    """
    suffix = path.suffix.lower()
    if suffix == ".txt":
        if columns.label is not None:
            raise ValueError(
                f"{path} is plain text without columns: there is no label_column {columns.label!r}. Leave it out."
            )
        yield from read_txt(path, document, counts)
        return
    required = {"text_column": columns.text} | ({} if columns.label is None else {"label_column": columns.label})
    for where, row in lists.rows(path, required):
        if not row:
            counts.empty += 1
            continue
        text, label = row[columns.text], None if columns.label is None else row[columns.label]
        if not isinstance(text, str):
            raise ValueError(
                f"{path}, {where}: the text {columns.text!r} is {shown(text)}; give a string, if only an empty one."
            )
        name = None
        if columns.label is not None:
            name = valid(class_name(label, f"{path}, {where}: the label {columns.label!r}") or "", counts)
        yield from pieces(text, name, counts)


def read_txt(path: Path, document: Division, counts: Counts) -> Iterator[Piece]:
    """Reads plain text: a document is a paragraph, separated from the next by blank lines, or a
    line, or the whole file."""
    held: list[str] = []
    size, begins, fresh = 0, True, True  # fresh: at the beginning of a line
    with opened(path) as file:
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
                    yield Piece(valid(part, counts), None, begins)
                    begins = False
            if ends:
                counts.empty += document == "line" and begins and bool(line)
                begins = True
            if not line:
                return
