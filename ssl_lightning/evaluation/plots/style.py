"""Colours, markers and frames that all plots share."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...data.files.atomic import _swap_in

Row = Mapping[str, Any]
Points = NDArray[np.float64]
# Ten colours that stay apart for colour-blind readers and in grey (Petroff 2021, arXiv 2107.02270).
COLOURS = ("#3f90da", "#e76300", "#832db6", "#ffa90e", "#717581", "#bd1f01", "#92dadd", "#a96b59", "#b9ac70", "#94a4a2")
MARKERS = "os^Dv"
INK, FAINT = "#333842", "#dfe2e7"


def series(rows: Sequence[Row], name: str) -> tuple[Points, Points]:
    """Steps [n] and values [n] of one metric, NaN kept: a gap in the line."""
    pairs = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return steps, np.where(np.isfinite(values), values, np.nan)


def dress(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=10)
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=0)
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Draws into memory, then swaps the file in: a reader sees the old picture or the new one."""
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    _swap_in(Path(path), picture.getvalue())
