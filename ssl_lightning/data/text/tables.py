"""Documents from the rows of lists: jsonl, csv, tsv and parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ..files import lists
from ..files.lists import shown
from ..labels import class_name
from .documents import Counts, Piece, pieces, valid


class Columns(NamedTuple):
    """These columns hold a document's text, its label and its group; None: there are none."""

    text: str = "text"
    label: str | None = None
    group: str | None = None


def read_rows(
    path: Path, suffix: str, opened: Callable[..., TextIO], columns: Columns, counts: Counts
) -> Iterator[Piece]:
    """Reads the documents of a list.

    Args:
        path: of the file.
        suffix: one of `lists.SUFFIXES`.
        opened: opens its text; arguments are those of `open`.
        columns: which columns are read.
        counts: what is changed or left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: a column is missing, a text, label or group has another type, or the file is not
            of its format; the message names the line or row.
    """
    options = zip(("text_column", "label_column", "group_column"), columns, strict=True)
    required = {option: column for option, column in options if column is not None}
    for place, row in lists.rows(path, required, suffix=suffix, opened=opened):
        where = counts.where = f"{path}, {place}"
        if not row:
            counts.leave_out()
            continue
        text = row[columns.text]
        if not isinstance(text, str):
            raise ValueError(
                f"{where}: the text {columns.text!r} is {shown(text)}; give a string, if only an empty one."
            )
        label = group = None
        if columns.label is not None:
            label = valid(class_name(row[columns.label], f"{where}: the label {columns.label!r}") or "", counts)
        if columns.group is not None:
            group = _group(row[columns.group], f"{where}: the group {columns.group!r}")
        yield from pieces(text, label, counts, group)


def _group(value: Any, where: str) -> str:
    if value in (None, "") or not isinstance(value, (str, int)):
        raise ValueError(f"{where} is {shown(value)}; give text or an integer.")
    return str(value)
