"""The closing table as a bar chart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ...data.figure import INK, dress, save_figure
from ..table import ROWS, Cell, column_titles
from .style import CHANCE, COLOURS

HIGH = 60
"""Accuracies that are all above so many percent are drawn on an axis that does not begin at 0."""
ROW_COLOURS = {
    "raw": "#b4b9c1",
    "untrained": "#ffa90e",
    "untrained_layers": "#ffd28a",
    "published": "#e76300",
    "published_layers": "#f2b184",
    "labels_only": "#832db6",
    "pretrained": "#3f90da",
    "pretrained_layers": "#1b4f86",
}


def plot_closing(
    final: dict[str, dict[str, Cell]], path: str | Path, split: str = "test", labels: Tensor | None = None
) -> None:
    """Draws the closing table as bars, with the standard deviation over the draws of labels.

    The axis ends a little above the highest bar; where all are high, it begins at the multiple of
    10 below them, and says so.

    Args:
        final: rows of `closing_row` under the keys of `ROWS`; a row or a cell may be missing.
        path: the PNG to write.
        split: the split that the features were evaluated on.
        labels: [N] of the samples of that split; None or empty: unknown, and neither their number
            nor a line at chance is drawn.
    """
    columns = column_titles(final)
    rows = [row for row in ROW_COLOURS if row in final]
    bars = len(rows) * len(columns)
    figure = Figure(figsize=(max(8.0, 0.38 * bars + 1), 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    cells = [cell for row in rows for cell in final[row].values()]
    highest = max((100 * (cell["mean"] + cell["std"]) for cell in cells), default=100.0)
    lowest = min((100 * (cell["mean"] - cell["std"]) for cell in cells), default=0.0)
    dress(axes, f"What the features are worth on the {split} split", y="accuracy (%)")
    if labels is not None and len(labels):
        classes = len(labels.unique())
        lowest = min(lowest, 100 / classes)
        axes.set_title(
            f"{axes.get_title(loc='left')}, {len(labels):,} samples of {classes:,} classes",
            loc="left",
            fontsize=12,
            color=INK,
            pad=10,
        )
        chance = axes.axhline(100 / classes, color=CHANCE, linewidth=1.2, linestyle=(0, (4, 2)), zorder=3)
        chance.set_label(f"chance, {100 / classes:.3g} %")
    width = 0.84 / max(1, len(rows))
    for number, row in enumerate(rows):
        group_cells = {group: final[row][column] for group, column in enumerate(columns) if column in final[row]}
        position = np.array(list(group_cells)) + (number - (len(rows) - 1) / 2) * width
        height = 100 * np.array([cell["mean"] for cell in group_cells.values()])
        spread = 100 * np.array([cell["std"] for cell in group_cells.values()])
        axes.bar(position, height, 0.92 * width, color=ROW_COLOURS.get(row, COLOURS[7]), label=ROWS[row])
        drawn = spread > 0
        axes.errorbar(position[drawn], height[drawn], spread[drawn], fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        for left, value, above in zip(position, height, spread, strict=True):
            axes.annotate(
                f"{value:.1f}",
                (left, value + above),
                (0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8.5 if len(rows) < 4 else 7.5,
                color=INK,
            )
    axes.set_xticks(
        range(len(columns)), [title.replace(" all", " all labels").replace(" ", "\n", 1) for title in columns.values()]
    )
    axes.grid(False, axis="x")
    bottom = 10 * math.floor(lowest / 10 - 0.5) if lowest > HIGH else 0
    axes.set_ylim(bottom, bottom + 1.1 * max(highest - bottom, 1))
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= 100])
    if bottom:
        axes.set_ylabel(f"accuracy (%), from {bottom}", fontsize=10, color=INK)
    entries = len(axes.get_legend_handles_labels()[1])
    figure.legend(loc="outside lower center", ncols=min(entries, 4), frameon=False, fontsize=9.5)
    save_figure(figure, path)
