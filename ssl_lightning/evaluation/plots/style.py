"""Colours and markers that all plots share, and the series that they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
Points = NDArray[np.float64]
# Ten colours that stay apart for colour-blind readers and in grey (Petroff 2021, arXiv 2107.02270).
COLOURS = ("#3f90da", "#e76300", "#832db6", "#ffa90e", "#717581", "#bd1f01", "#92dadd", "#a96b59", "#b9ac70", "#94a4a2")
MARKERS = "os^Dv"
CHANCE = "#717581"
"""Of lines at what nothing learned would give."""


def series(rows: Sequence[Row], name: str) -> tuple[Points, Points]:
    """Steps [n] and values [n] of one metric; NaN is kept and makes a gap in the line."""
    pairs = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return steps, np.where(np.isfinite(values), values, np.nan)
