"""What a command found, as rows: a table in a terminal, values between tabs in a pipe, or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 100
LEAST = 12
"""Characters to which a long column of a table may shrink."""

Row = Mapping[str, Any]


def print_rows(rows: Sequence[Row], as_json: bool = False) -> None:
    """Prints rows that have the same columns.

    Args:
        rows: what each column holds, by name. Text, whole numbers and None are shown as they are,
            other numbers with four digits, and whole in JSON.
        as_json: whether to print a list of objects.
    """
    if as_json:
        print(json.dumps(list(rows), indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        print("\n".join(table(rows, shutil.get_terminal_size((WIDTH, 24)).columns)))
    elif rows:
        lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
        print("\n".join("\t".join(" ".join(cell.split()) for cell in line) for line in lines))


def table(rows: Sequence[Row], width: int = WIDTH) -> list[str]:
    """The lines of a table of at most so many characters, if its columns can be cut to that: the
    widest are cut first; numbers stand to the right."""
    if not rows:
        return []
    names = list(rows[0])
    cells = [names, *([" ".join(_text(row[name]).split()) for name in names] for row in rows)]
    right = [all(isinstance(row[name], (int, float, type(None))) for row in rows) for name in names]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1
    return ["  ".join(_fit(*each) for each in zip(line, widths, right, strict=True)).rstrip() for line in cells]


def _fit(cell: str, width: int, right: bool) -> str:
    if len(cell) > width:
        return cell[: width - 1].rstrip().ljust(width - 1) + "…"
    return cell.rjust(width) if right else cell.ljust(width)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
