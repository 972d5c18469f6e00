"""The closing table as text: rows and columns with their titles, and the gain of pretraining."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

ROWS = {
    "raw": "raw features",
    "untrained": "untrained encoder",
    "untrained_layers": "untrained, layers",
    "labels_only": "labels only",
    "pretrained": "pretrained encoder",
    "pretrained_layers": "pretrained, layers",
}
"""The rows of the closing table: their keys and titles."""
MISSING = "\u2013 "
"""A cell that was not computed: a dash."""
Cell = dict[str, float]
Table = dict[str, dict[str, Cell]]
Show = Callable[[str], object]
"""Called with the title of each cell before it is computed."""


def silent(title: str) -> None:
    """Shows nothing."""


def column_titles(final: dict[str, dict[str, Cell]]) -> dict[str, str]:
    """The closing table's columns in their order, each with its title: `{"knn_10": "kNN 10/class",
    ...}`."""
    return {key: column_title(key) for key in sorted({key for row in final.values() for key in row})}


def column_title(key: str) -> str:
    """The title of a column: "kNN 10/class" for `knn_10`."""
    probe, _, number = key.partition("_")
    return f"{'kNN' if probe == 'knn' else probe} {f'{number}/class' if number else 'all'}"


def format_table(final: dict[str, dict[str, Cell]], split: str = "test") -> str:
    """The closing table as text of at most 80 columns: accuracies in percent, `±` their standard
    deviation over the draws of labels, `*` after the best value of a column.

    Args:
        final: rows of `closing_row` under the keys of `ROWS`; a row or a cell may be missing.
        split: the split that the features were evaluated on.
    """
    columns = column_titles(final)
    rows = [row for row in ROWS if row in final]
    draws = max(int(cell["n"]) for row in rows for cell in final[row].values())
    best = {
        column: max(_rounded(final[row][column]) for row in rows if column in final[row]) if len(rows) > 1 else None
        for column in columns
    }
    widths = [2 + max(12, len(title)) for title in columns.values()]
    lines = [
        f"Accuracy in % on the {split} split, ± deviation over {draws} draws of labels"
        + (", * best" if len(rows) > 1 else ""),
        " " * 18 + "".join(f"{title:>{width}}" for title, width in zip(columns.values(), widths, strict=True)),
    ]
    for row in rows:
        cells = [_percent(final[row][column], best[column]) if column in final[row] else MISSING for column in columns]
        lines.append(f"{ROWS[row]:18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    few = next((column for column in columns if column.startswith("linear_")), None)
    others = [row for row in rows if row in ("raw", "untrained", "labels_only") and few in final[row]]
    if few and few in final.get("pretrained", {}) and others:
        lines.append(
            _gains(
                f"Pretraining, {columns[few]}: ",
                {row: final["pretrained"][few]["mean"] - final[row][few]["mean"] for row in others},
            )
        )
    return "\n".join(line.rstrip() for line in lines)


def _gains(head: str, gains: dict[str, float]) -> str:
    """The gain of pretraining over other rows, in points; a line that would exceed 80 columns is
    broken between two rows."""
    points = [
        f"{100 * gain:+.1f}{' points' if number == 0 else ''} over {row.replace('_', ' ')}"
        for number, (row, gain) in enumerate(gains.items())
    ]
    unbroken = ", ".join(point.replace(" ", "\u00a0") for point in points)
    return textwrap.fill(head + unbroken, 80, subsequent_indent=" " * len(head)).replace("\u00a0", " ")


def _rounded(cell: Cell) -> float:
    return round(100 * cell["mean"], 1)


def _percent(cell: Cell, best: float | None) -> str:
    std = f" ± {100 * cell['std']:.1f}" if cell["n"] > 1 else ""
    return f"{_rounded(cell):.1f}{std}{'*' if _rounded(cell) == best else ' '}"
