"""The closing table as a bar chart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...data.figure import INK, dress, save_figure
from ..table import ROWS, Cell, column_titles

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


def plot_closing(final: dict[str, dict[str, Cell]], path: str | Path, split: str = "test") -> None:
    """Draws the closing table as bars, with the standard deviation over the draws of labels.

    Args:
        final: rows of `closing_row` under the keys of `ROWS`; a row or a cell may be missing.
        path: the PNG to write.
        split: the split that the features were evaluated on.
    """
    columns = column_titles(final)
    rows = [row for row in ROW_COLOURS if row in final]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    dress(axes, f"What the features are worth: accuracy on the {split} split", y="accuracy (%)")
    width = 0.84 / len(rows)
    for number, row in enumerate(rows):
        cells = {group: final[row][column] for group, column in enumerate(columns) if column in final[row]}
        position = np.array(list(cells)) + (number - (len(rows) - 1) / 2) * width
        height = 100 * np.array([cell["mean"] for cell in cells.values()])
        spread = 100 * np.array([cell["std"] for cell in cells.values()])
        axes.bar(position, height, 0.92 * width, color=ROW_COLOURS[row], label=ROWS[row])
        drawn = spread > 0
        axes.errorbar(position[drawn], height[drawn], spread[drawn], fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        for left, value, above in zip(position, height, spread, strict=True):
            point = (left, value + above)
            axes.annotate(
                f"{value:.1f}",
                point,
                (0, 2),
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
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.28), ncols=len(rows), frameon=False, fontsize=9.5)
    save_figure(figure, path)
