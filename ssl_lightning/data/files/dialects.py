"""How a csv or tsv separates and quotes its values: exporters differ, and no file says it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

DELIMITERS = (",", "\t", ";", "|")
LITERAL = ("\t", "|")
"""Delimiters that published lists use without quoting: Common Voice's tsv, LJSpeech's bars."""
QUOTED = re.compile(r'"(?:[^"]|"")*"')


def dialect_of(lines: Callable[[], Iterable[str]], required: Collection[str], suffix: str) -> dict[str, Any]:
    """Returns the arguments of `csv.reader` that fit a list.

    The delimiter is the one by which the first line has the required columns; else that of the
    suffix. A quotation mark at the beginning of a value opens a quoted one. But where the delimiter
    is a tab or a bar it is a letter, unless some value needs it (one that holds a doubled mark, a
    delimiter or a line break) or the header has it too.

    Args:
        lines: gives the list's lines, with their ends, from the first on; all of them are read
            where the delimiter is a tab or a bar.
        required: the columns that the first line must name.
        suffix: in lower case, with the dot.
    """
    header = next(iter(lines()), "").rstrip("\r\n")
    default = "\t" if suffix == ".tsv" else ","
    candidates = (default, *(each for each in DELIMITERS if each != default))
    delimiter = next((each for each in candidates if set(required) <= set(_split(header, each))), default)
    if delimiter not in LITERAL or _is_quoted(lines, delimiter):
        return {"delimiter": delimiter}
    return {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}


def _split(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _is_quoted(lines: Callable[[], Iterable[str]], delimiter: str) -> bool:
    counts, needed, left_open = set(), False, False
    for number, line in enumerate(lines()):
        text = line.rstrip("\r\n")
        if text:
            counts.add(text.count(delimiter))
        for value in text.split(delimiter) if '"' in text else ():
            if value.startswith('"'):
                left_open |= QUOTED.fullmatch(value) is None
                needed |= '""' in value[1:-1] or number == 0
    if left_open and (len(counts) > 1 or counts == {0}):  # values of several lines, or lines that lack some
        return _is_even(lines, delimiter)
    return needed and not left_open


def _is_even(lines: Callable[[], Iterable[str]], delimiter: str) -> bool:
    """Whether all lines have equally many values if marks quote them, and none of these looks like
    several lines that two marks have swallowed."""
    counts = set()
    try:
        for row in csv.reader(lines(), delimiter=delimiter, strict=True):
            if any(delimiter in value and "\n" in value for value in row):
                return False
            counts.add(len(row))
    except csv.Error:
        return False
    return len(counts - {0}) == 1
