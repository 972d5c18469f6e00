"""The closing table as text."""

from __future__ import annotations

import statistics
import textwrap

from .gains import Gain, at_chance, compared, verdict_of
from .table import ENOUGH_DRAWS, MISSING, ROWS, Cell, Table, column_titles

WIDTH = 80


def format_table(final: Table, split: str = "test", seen: bool = False) -> str:
    """The closing table as text of at most 80 columns: balanced accuracies in percent, `±` their
    standard deviation over the draws of labels, `*` after the best value of a column; what
    pretraining gains over each baseline, `±` what chance may explain; a sentence on that; and of
    two classes the areas under the ROC curve.

    Args:
        final: rows of `closing_row` under the keys of `ROWS`; a row or a cell may be missing.
        split: the split that the features were evaluated on.
        seen: whether the pretraining has seen that split's samples.
    """
    titles, rows = column_titles(final), [row for row in ROWS if row in final]
    some = [cell for row in rows if row != "majority" for cell in final[row].values()]
    lines = textwrap.wrap(_head(some, split, seen, len(rows) > 1), WIDTH)
    widths = [2 + max(12, len(title)) for title in titles.values()]

    def line(title: str, cells: list[str]) -> None:
        lines.append(f"{title:18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))

    line("", list(titles.values()))
    if "labels" in some[0]:
        labels = {column: cell["labels"] for row in rows for column, cell in final[row].items() if "labels" in cell}
        line("labels", [f"{labels[column]:,} " for column in titles])
    best = {column: _best(final, column) if len(rows) > 1 else None for column in titles}
    for row in rows:
        cells = final[row]
        line(ROWS[row], [_percent(cells[each], best[each]) if each in cells else MISSING for each in titles])
    for row, gains in compared(final).items():
        line(f"gain over {row}".replace("labels_only", "labels"), [_gain(gains.get(each)) for each in titles])
    lines += textwrap.wrap(verdict_of(final), WIDTH, break_on_hyphens=False)
    if any("auroc" in cell for cell in some):
        lines.append("Area under the ROC curve in %, where a guess has 50")
        for row in rows:
            if row != "majority":
                line(ROWS[row], [_area(final[row].get(column)) for column in titles])
    return "\n".join(line.rstrip() for line in lines)


def _head(cells: list[Cell], split: str, seen: bool, several: bool) -> str:
    """What the numbers of a table are."""
    samples = max(cell.get("samples", 0) for cell in cells)
    classes = max(cell.get("classes", 0) for cell in cells)
    draws = max(cell["n"] for cell in cells)
    head = f"Accuracy in %, mean over {classes} classes," if classes else "Accuracy in %"
    head += f" on {samples:,} {split} samples" if samples else f" on the {split} split"
    if seen:
        head += " that the pretraining has seen, without labels"
    if draws >= ENOUGH_DRAWS:
        head += f", ± std over {draws} draws of labels"
    elif draws > 1:
        head += f", mean of {draws} draws of labels"
    return head + (", * best" if several else "")


def _best(final: Table, column: str) -> float | None:
    """The best value of a column as it is printed; None where it may be a guess."""
    cells = [final[row][column] for row in final if row != "majority" and column in final[row]]
    best = max(cells, key=lambda cell: cell["mean"])
    return None if at_chance(best) else _rounded(best)


def _rounded(cell: Cell) -> float:
    return round(100 * cell["mean"], 1)


def _percent(cell: Cell, best: float | None) -> str:
    std = f" ± {100 * cell['std']:.1f}" if cell["n"] >= ENOUGH_DRAWS else ""
    return f"{_rounded(cell):.1f}{std}{'*' if _rounded(cell) == best else ' '}"


def _area(cell: Cell | None) -> str:
    areas = [] if cell is None else cell.get("auroc", [])
    std = f" ± {100 * statistics.stdev(areas):.1f}" if len(areas) >= ENOUGH_DRAWS else ""
    return f"{100 * statistics.mean(areas):.1f}{std} " if areas else MISSING


def _gain(gain: Gain | None) -> str:
    return MISSING if gain is None else f"{100 * gain.points:+.1f} ± {100 * gain.margin:.1f} "
