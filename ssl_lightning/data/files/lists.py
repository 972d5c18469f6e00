"""Lists of samples, one a line: csv, tsv, jsonl and parquet, read in bounded memory.

csv and jsonl are read by Python's own modules. pyarrow's block readers need a third of their time
for csv and two thirds for jsonl, which saves a hundredth of what a tokenizer takes; but they hold
190 MiB, refuse integer labels and lines longer than a block, let a missing column or an open
quotation mark pass, and report rows of a block instead of lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from ...plugins.messages import did_you_mean, printable
from .dialects import dialect_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Suffixes of lists, in lower case."""
LONGEST = 64 << 20
"""Characters in a line, or in one of its fields: such a line is held in memory."""
ROWS = 256
"""Rows of parquet that are held at a time."""
Row = tuple[str, dict[str, Any]]
Open = Callable[..., TextIO]


def rows(
    path: Path,
    required: Mapping[str, str],
    named: Mapping[str, str] | None = None,
    usual: Sequence[str] = (),
    suffix: str | None = None,
    opened: Open | None = None,
) -> Iterator[Row]:
    """Yields of each line its position, for messages (`line 3`), and its values by column; of a
    blank line no values. Values of csv are text, also where they stand for numbers; a column that a
    line lacks is left out. What is not valid UTF-8 is decoded by `surrogateescape`.

    Args:
        path: the list; its suffix says which format it has. The delimiter of a csv or tsv is that
            which its first line shows: comma, tab, semicolon or bar.
        required: the columns that every line must have, by the option that names them
            (`path_column`).
        named: further columns that a user has named, likewise; one line of jsonl may lack them, but
            not all.
        usual: columns that are read where they are there.
        suffix: one of `SUFFIXES`, which says how the list is read; None: that of the path.
        opened: opens the list's text; arguments are those of `open`. None: as UTF-8.

    Raises:
        OSError: the list cannot be read.
        ValueError: a column is missing, or stands twice in the header; a line is not of the format
            or has more values than columns. The message names the line.
    """
    named = named or {}
    columns = list(dict.fromkeys([*required.values(), *named.values(), *usual]))
    suffix = suffix or path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path, required, named, columns)
    else:
        read = _jsonl if suffix in (".jsonl", ".ndjson") else partial(_csv, suffix)
        yield from read(path, opened or partial(utf_8, path), required, named, columns)


def class_column(path: Path, path_column: str, named: str | None, labels: str) -> str | None:
    """Returns the column of a list's classes: the one that is named, else `label` where a line has
    it; None where none has, or where `labels` is `none`."""
    if labels == "none" or named is not None:
        return None if labels == "none" else named
    there = any("label" in row for _, row in rows(path, {"path_column": path_column}, usual=["label"]))
    return "label" if there else None


def utf_8(path: Path, newline: str | None = None) -> TextIO:
    """Opens a text file in UTF-8, with or without a byte order mark; invalid bytes are decoded by
    `surrogateescape`."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def shown(value: Any) -> str:
    """A value and its type, for messages."""
    return "nothing (null)" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise ValueError(
                f"{printable(path)}, line {number}: longer than {LONGEST:,} characters. Cut it into several lines, or,"
                " if it is text, make it a .txt."
            )
        yield line


def _jsonl(
    path: Path, opened: Open, required: Mapping[str, str], named: Mapping[str, str], columns: list[str]
) -> Iterator[Row]:
    missing, names = dict(named), dict[str, None]()
    with opened() as file:
        for number, line in enumerate(_lines(path, file), 1):
            where = f"{printable(path)}, line {number}"
            if line.isspace():
                yield f"line {number}", {}
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: not valid JSON: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(f"{where}: {shown(row)} where an object such as {{{columns[0]!r}: ...}} should be.")
            _check(f"{where},", required, list(row))
            if missing:
                missing = {option: column for option, column in missing.items() if column not in row}
                names.update(dict.fromkeys(row))
            yield f"line {number}", {column: row[column] for column in columns if column in row}
    _check(printable(path), missing, list(names))


def _csv(
    suffix: str, path: Path, opened: Open, required: Mapping[str, str], named: Mapping[str, str], columns: list[str]
) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))

    def lines() -> Iterator[str]:
        with opened(newline="") as file:
            yield from _lines(path, file)

    dialect = dialect_of(lines, required.values(), suffix)
    with opened(newline="") as file:
        reader = csv.reader(_lines(path, file), strict=True, **dialect)
        try:
            header = next(reader, None)
            if header is None:
                return
            _check(printable(path), {**required, **named}, header)
            at = {column: header.index(column) for column in columns if column in header}
            twice = [column for column in at if header.count(column) > 1]
            if twice:
                raise ValueError(f"{printable(path)} has {header.count(twice[0])} columns {twice[0]!r}; keep one.")
            least = max(at[column] for column in required.values()) + 1
            for row in reader:
                where = f"{printable(path)}, line {reader.line_num}"
                if 0 < len(row) < least:
                    raise ValueError(f"{where}: {len(row)} of the {len(header)} columns {', '.join(header)}.")
                if any(row[len(header) :]):
                    raise ValueError(
                        f"{where}: {len(row)} values for {len(header)} columns, {', '.join(header)}. A value with a"
                        f" {reader.dialect.delimiter!r} in it needs quotation marks."
                    )
                values = {column: row[index] for column, index in at.items() if index < len(row)}
                yield f"line {reader.line_num}", values
        except csv.Error as error:
            raise ValueError(
                f"{printable(path)}, line {reader.line_num}: not valid CSV: {error}. Is a quotation mark left open?"
            ) from error


def _parquet(path: Path, required: Mapping[str, str], named: Mapping[str, str], columns: list[str]) -> Iterator[Row]:
    import pyarrow as pa  # here: it takes a quarter of a second to import
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check(printable(path), {**required, **named}, names)
            columns = [column for column in columns if column in names]
            number = 0
            for batch in file.iter_batches(ROWS, columns=columns):
                for values in zip(*(_values(batch.column(column), pa) for column in columns), strict=True):
                    number += 1
                    yield f"row {number}", dict(zip(columns, values, strict=True))
    except pa.ArrowException as error:
        raise ValueError(
            f"{printable(path)} is not a parquet file, or is damaged: {' '.join(str(error).split())}"
        ) from error


def _values(column: Any, pa: Any) -> list[Any]:
    """A column's values become Python's; strings are decoded by `surrogateescape`."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return list(column.to_pylist())
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


def _check(where: str, named: Mapping[str, str], names: list[str]) -> None:
    for option, column in named.items():
        if column not in names:
            known = f"It has {', '.join(names[:20])}{', ...' * (len(names) > 20)}" if names else "It has none"
            raise ValueError(
                f"{where} has no column {column!r}.{did_you_mean(column, names)} {known}; name one with"
                f" --data.{option}."
            )
