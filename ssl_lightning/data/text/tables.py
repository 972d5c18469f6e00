"""Documents from the rows of jsonl, csv, tsv and parquet files, read in bounded memory.

csv and jsonl are read by Python's own modules. pyarrow's block readers need a third of their time
for csv and two thirds for jsonl, which saves a hundredth of what the tokenizer takes; but they hold
190 MiB, refuse integer labels and lines longer than a block, let a missing column or an open
quotation mark pass, and report rows of a block instead of lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ...plugins.messages import did_you_mean
from .documents import Counts, Piece, pieces, valid

LONGEST = 64 << 20
"""Characters in a line of jsonl or csv, or in one of its fields: such a line is held in memory."""
ROWS = 256
"""Rows of parquet that are held at a time."""
Values = tuple[str, Any, Any, Any]
"""A row: where it is, its text, its label and its group."""


class Columns(NamedTuple):
    """These columns hold a document's text, its label and its group; None: there are none."""

    text: str = "text"
    label: str | None = None
    group: str | None = None


def read_rows(
    path: Path, suffix: str, opened: Callable[..., TextIO], columns: Columns, counts: Counts
) -> Iterator[Piece]:
    """Reads the documents of a table.

    Args:
        path: of the file.
        suffix: `.jsonl`, `.ndjson`, `.csv`, `.tsv` or `.parquet`.
        opened: opens its text; arguments are those of `open`.
        columns: which columns are read.
        counts: what is changed or left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: a column is missing, a text, label or group has another type, or the file is not
            of its format; the message names the line or row.
    """
    rows = {".csv": _csv_rows, ".tsv": _tsv_rows, ".parquet": _parquet_rows}.get(suffix, _jsonl_rows)
    for where, text, label, group in rows(path, opened, columns, counts):
        counts.where = f"{path}, {where}"
        if not isinstance(text, str):
            raise ValueError(
                f"{path}, {where}: the text {columns.text!r} is {_shown(text)}; give a string, if only an empty one."
            )
        if columns.label is not None and (label in (None, "") or not isinstance(label, (str, int))):
            raise ValueError(
                f"{path}, {where}: the label {columns.label!r} is {_shown(label)}; give text or an integer."
            )
        if columns.group is not None and (group in (None, "") or not isinstance(group, (str, int))):
            raise ValueError(
                f"{path}, {where}: the group {columns.group!r} is {_shown(group)}; give text or an integer."
            )
        label = None if columns.label is None else valid(str(label), counts)
        yield from pieces(text, label, counts, None if columns.group is None else str(group))


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


def _jsonl_rows(path: Path, opened: Callable[..., TextIO], columns: Columns, counts: Counts) -> Iterator[Values]:
    with opened() as file:
        for number, line in enumerate(_lines(path, file), 1):
            if line.isspace():
                counts.where = f"{path}, line {number}"
                counts.leave_out()
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
            label, group = (None if name is None else row[name] for name in columns[1:])
            yield f"line {number}", row[columns.text], label, group


def _csv_rows(path: Path, opened: Callable[..., TextIO], columns: Columns, counts: Counts) -> Iterator[Values]:
    with opened(newline="") as file:
        yield from _separated(path, csv.reader(_lines(path, file)), columns, counts)


def _tsv_rows(path: Path, opened: Callable[..., TextIO], columns: Columns, counts: Counts) -> Iterator[Values]:
    """Quotation marks are letters where all lines have the same number of tabs; else they enclose
    fields of several lines or with tabs, as in csv."""
    with opened(newline="") as file:
        tabs = {line.count("\t") for line in _lines(path, file) if not line.isspace()}
    with opened(newline="") as file:
        if len(tabs) > 1:
            rows = csv.reader(_lines(path, file), delimiter="\t")
        else:
            rows = csv.reader(_lines(path, file), delimiter="\t", quoting=csv.QUOTE_NONE)
        yield from _separated(path, rows, columns, counts)


def _separated(path: Path, rows: Any, columns: Columns, counts: Counts) -> Iterator[Values]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    try:
        header = next(rows, None)
        if header is None:
            return
        _check(str(path), columns, header)
        text, label, group = (None if name is None else header.index(name) for name in columns)
        least = max(text or 0, label or 0, group or 0) + 1
        for row in rows:
            if not row:
                counts.where = f"{path}, line {rows.line_num}"
                counts.leave_out()
            elif len(row) < least:
                raise ValueError(
                    f"{path}, line {rows.line_num}: {len(row)} of the {len(header)} columns {', '.join(header)}."
                )
            else:
                values = [None if column is None else row[column] for column in (text, label, group)]
                yield f"line {rows.line_num}", values[0], values[1], values[2]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {rows.line_num}: not valid CSV: {error}. Is a quotation mark left open?"
        ) from error


def _parquet_rows(path: Path, opened: Callable[..., TextIO], columns: Columns, counts: Counts) -> Iterator[Values]:
    import pyarrow as pa  # here: it takes a quarter of a second to import
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check(str(path), columns, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(ROWS, columns=list(dict.fromkeys(filter(None, columns)))):
                read = [[None] * len(batch) if name is None else _strings(batch.column(name), pa) for name in columns]
                for text, label, group in zip(*read, strict=True):
                    number += 1
                    yield f"row {number}", text, label, group
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
    for option, column in zip(("text_column", "label_column", "group_column"), columns, strict=True):
        if column is not None and column not in names:
            known = f"It has {', '.join(names[:20])}{', ...' * (len(names) > 20)}" if names else "It has none"
            raise ValueError(
                f"{where} has no column {column!r}.{did_you_mean(column, names)} {known}; name one with"
                f" --data.{option}."
            )


def _shown(value: Any) -> str:
    return "nothing (null)" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
