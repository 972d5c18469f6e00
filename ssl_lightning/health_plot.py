"""Curves of the values by which a method tells whether a run is healthy, between their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .plots import COLOURS, Row, dress, save_figure, series
from .types import Alarm


def plot_health(rows: Sequence[Row], alarms: Sequence[Alarm], path: str | Path) -> bool:
    """One curve an alarm; what lies outside of its bounds is shaded.

    Args:
        rows: of `metrics.csv`, each with its `step`.
        alarms: what to draw, logged as `train/<name>`.
        path: the PNG to write.

    Returns:
        Whether the rows hold any of the values; if not, nothing is written.
    """
    drawn = [alarm for alarm in alarms if any(f"train/{alarm.name}" in row for row in rows)]
    if not drawn:
        return False
    figure = Figure(figsize=(8, 1.2 + 1.6 * len(drawn)), dpi=120, layout="constrained")
    grid = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for place, (axes, alarm) in enumerate(zip(grid, drawn, strict=True)):
        dress(axes, "" if place else "Is the run healthy? Shaded: not", "step" if alarm is drawn[-1] else "", alarm.name.replace("_", " "))
        axes.plot(*series(rows, f"train/{alarm.name}"), color=COLOURS[0], linewidth=2)
        low, high = axes.get_ylim()
        low, high = min(low, 0.0), max(high, 1.1 * (alarm.high or alarm.low or high))
        if alarm.low is not None:
            axes.axhspan(low, alarm.low, color=COLOURS[5], alpha=0.12, linewidth=0)
        if alarm.high is not None:
            axes.axhspan(alarm.high, high, color=COLOURS[5], alpha=0.12, linewidth=0)
        axes.set_ylim(low, high)
    save_figure(figure, path)
    return True
