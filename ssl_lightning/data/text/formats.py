"""Which files are texts, by suffix and by content, and how each is opened: compressed, and in any
encoding."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections.abc import Iterator
from functools import partial
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO

from ..files.lists import LONGEST
from .documents import Counts, Piece
from .encodings import HEAD, encoding_of, is_text
from .plain import Division as Division
from .plain import read_txt, text_of_html
from .tables import Columns, read_rows

PLAIN, MARKED_UP = (".txt", ".text", ".raw", ".tokens"), (".md", ".markdown", ".rst", "")
HTML, TABLES = (".html", ".htm"), (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
COMPRESSED = (".gz", ".bz2", ".xz")
MAGIC: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""The first bytes of compressed files: these tell, since servers and browsers compress and expand
without renaming."""
SUFFIXES = (*PLAIN, *MARKED_UP, *HTML, *TABLES, *COMPRESSED)
"""Of the files that may be texts; the empty one stands for names without a suffix."""
NAMES = ", ".join(suffix for suffix in SUFFIXES if suffix)
ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|changes|contributing|authors|citation)(?![a-z])", re.IGNORECASE
)
"""Names of files that tell of the data and belong to none."""


class Form(NamedTuple):
    """How a file is read.

    Args:
        suffix: of the text, in lower case.
        compression: `.gz` and the like, or empty.
    """

    suffix: str
    compression: str = ""


def form_of(path: Path) -> Form | None:
    """Returns how a file is read, by its name: `a.csv.gz`; None: it is not a text."""
    suffix, compression = path.suffix.lower(), ""
    if suffix in COMPRESSED:
        suffix, compression = Path(path.stem).suffix.lower(), suffix
    readable = suffix in (*PLAIN, *MARKED_UP, *HTML, *TABLES) and not (compression and suffix == ".parquet")
    return Form(suffix, compression) if readable else None


def is_about(path: Path) -> bool:
    """Whether a file such as `README.md` or `LICENSE` tells of the data."""
    return path.suffix.lower() in (*MARKED_UP, *HTML) and ABOUT.match(path.name) is not None


def holds_text(path: Path) -> bool:
    """Whether a file whose name says nothing of it holds text.

    Raises:
        OSError: it cannot be read.
    """
    form = form_of(path)
    if form is None or form.suffix:
        return form is not None
    with opened_bytes(path) as file:
        return is_text(file.read(HEAD))


def read_file(
    path: Path, columns: Columns, document: Division, counts: Counts, encoding: str = "auto", group: str | None = None
) -> Iterator[Piece]:
    """Reads the documents of a file.

    Args:
        path: of the file.
        columns: of a table.
        document: what counts as one in plain text.
        counts: what is changed or left out.
        encoding: of files that are not Unicode; see `encodings.encoding_of`.
        group: of all documents in the file.

    Raises:
        OSError, EOFError: the file cannot be read.
        ValueError: a column is missing, a text or label has another type, or the file is not of its
            format; the message names the line or row.
    """
    form = form_of(path)
    if form is None:
        raise ValueError(f"{path} ends in {path.suffix!r}, which is not a text format; give {NAMES}.")
    counts.where = str(path)
    if form.suffix in TABLES:
        for piece in read_rows(path, form.suffix, partial(opened, path, encoding), columns, counts):
            yield piece if group is None else piece._replace(group=group)
        return
    for option, column in (("label_column", columns.label), ("group_column", columns.group)):
        if column is not None:
            raise ValueError(f"{path} is plain text without columns: there is no {option} {column!r}. Leave it out.")
    with opened(path, encoding) as file:
        if form.suffix in HTML:
            page = file.read(LONGEST + 1)
            if len(page) > LONGEST:
                raise ValueError(f"{path} is longer than {LONGEST:,} characters. Cut it into several pages.")
            yield from read_txt(StringIO(text_of_html(page)), document, counts, group)
        else:
            yield from read_txt(file, document, counts, group)


def opened_bytes(path: Path) -> IO[bytes]:
    """Opens a file's bytes, without its compression."""
    file: IO[bytes] = path.open("rb")
    head = file.read(6)
    file.seek(0)
    expand = next((expand for magic, expand in MAGIC.items() if head.startswith(magic)), None)
    return file if expand is None else expand(file)


def opened(path: Path, encoding: str, newline: str | None = None) -> TextIO:
    """Opens a file's text; bytes that are not of its encoding become surrogates."""
    file = opened_bytes(path)
    return TextIOWrapper(file, encoding_of(file, encoding), errors="surrogateescape", newline=newline)
