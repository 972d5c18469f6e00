"""Documents from txt, jsonl, csv and parquet files, read in bounded memory.

csv and jsonl are read by Python's own modules. pyarrow's block readers need a third of their time
for csv and two thirds for jsonl, which saves a hundredth of what the tokenizer takes; but they hold
190 MiB, refuse integer labels and lines longer than a block, let a missing column or an open
quotation mark pass, and report rows of a block instead of lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from ...plugins.messages import did_you_mean
from ..labels import class_name
from .documents import PIECE, Counts, Piece, cut, pieces, valid

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
Division = Literal["paragraph", "line", "file"]
LONGEST = 64 << 20
"""Characters in a line of jsonl or csv, or in one of its fields: such a line is held in memory."""
ROWS = 256
"""Rows of parquet that are held at a time."""


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
    rows = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[suffix]
    for where, text, label in rows(path, columns, counts):
        if not isinstance(text, str):
            raise ValueError(
                f"{path}, {where}: the text {columns.text!r} is {_shown(text)}; give a string, if only an empty one."
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
    with _opened(path) as file:
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


def _opened(path: Path, newline: str | None = None) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise ValueError(
                f"{path}, line {number}: longer than {LONGEST:,} characters. Cut it into several documents, or make it"
                " a .txt."
            )
        yield line


def _jsonl_rows(path: Path, columns: Columns, counts: Counts) -> Iterator[tuple[str, Any, Any]]:
    with _opened(path) as file:
        for number, line in enumerate(_lines(path, file), 1):
            if line.isspace():
                counts.empty += 1
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not valid JSON: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(
                    f"{path}, line {number}: {_shown(row)} where an object such as {{{columns.text!r}: ...}} should be."
                )
            _check(f"{path}, line {number},", columns, list(row))
            yield f"line {number}", row[columns.text], row[columns.label] if columns.label is not None else None


def _csv_rows(path: Path, columns: Columns, counts: Counts) -> Iterator[tuple[str, Any, Any]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    with _opened(path, newline="") as file:
        rows = csv.reader(_lines(path, file))
        try:
            header = next(rows, None)
            if header is None:
                return
            _check(str(path), columns, header)
            text, label = header.index(columns.text), None if columns.label is None else header.index(columns.label)
            least = max(text, label or 0) + 1
            for row in rows:
                if not row:
                    counts.empty += 1
                elif len(row) < least:
                    raise ValueError(
                        f"{path}, line {rows.line_num}: {len(row)} of the {len(header)} columns {', '.join(header)}."
                    )
                else:
                    yield f"line {rows.line_num}", row[text], None if label is None else row[label]
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {rows.line_num}: not valid CSV: {error}. Is a quotation mark left open?"
            ) from error


def _parquet_rows(path: Path, columns: Columns, counts: Counts) -> Iterator[tuple[str, Any, Any]]:
    import pyarrow as pa  # here: it takes a quarter of a second to import
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check(str(path), columns, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(ROWS, columns=list(dict.fromkeys(filter(None, columns)))):
                texts = _strings(batch.column(columns.text), pa)
                labels = [None] * len(texts) if columns.label is None else _strings(batch.column(columns.label), pa)
                for text, label in zip(texts, labels, strict=True):
                    number += 1
                    yield f"row {number}", text, label
    except pa.ArrowException as error:
        raise ValueError(f"{path} is not a parquet file, or is damaged: {' '.join(str(error).split())}") from error


def _strings(column: Any, pa: Any) -> list[Any]:
    """A column's values become Python's; strings are decoded by `surrogateescape`."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return list(column.to_pylist())
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


def _check(where: str, columns: Columns, names: list[str]) -> None:
    for option, column in (("text_column", columns.text), ("label_column", columns.label)):
        if column is not None and column not in names:
            known = f"It has {', '.join(names[:20])}{', ...' * (len(names) > 20)}" if names else "It has none"
            raise ValueError(
                f"{where} has no column {column!r}.{did_you_mean(column, names)} {known}; name one with"
                f" --data.{option}."
            )


def _shown(value: Any) -> str:
    return "nothing (null)" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
