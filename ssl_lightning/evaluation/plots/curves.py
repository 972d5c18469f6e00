"""The curves of a run: loss, probes, collapse and health. Each file is written whole or not at all,
and pyplot's global state is not used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from ...data.figure import dress, save_figure
from ...types import Alarm
from .style import COLOURS, Points, Row, series

Curves = Literal["loss", "probes", "validation", "collapse"]


def plot_curves(rows: Sequence[Row], path: str | Path, kind: Curves) -> bool:
    """Draws metrics of a run over its steps.

    Args:
        rows: metrics by name, with `step`; a row need not hold every metric. `collapse/std` is in
            units of 1 / sqrt(d).
        path: the PNG to write.
        kind: `loss` (`train/loss`, `train/lr`), `probes` (every `probe/...` accuracy), `validation`
            (`val/top1`, `val/balanced` of a supervised run) or `collapse` (`collapse/std`,
            `collapse/rank`).

    Returns:
        Whether the rows hold any such metric; if not, nothing is written.

    Raises:
        ValueError: the kind is unknown.
    """
    kinds = {
        "loss": (_draw_loss, "train/loss"),
        "probes": (_draw_probes, "probe/"),
        "validation": (_draw_validation, "val/"),
        "collapse": (_draw_collapse, "collapse/"),
    }
    if kind not in kinds:
        raise ValueError(f"plot_curves does not know the kind {kind!r}; choose from {', '.join(kinds)}.")
    draw, prefix = kinds[kind]
    if not any(name.startswith(prefix) for row in rows for name in row):
        return False
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    draw(figure, rows)
    save_figure(figure, path)
    return True


def _draw_loss(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    dress(axes, "Training loss", "step", "loss")
    steps, loss = series(rows, "train/loss")
    reach = len(loss) // 30
    if reach:
        axes.plot(steps, loss, color=COLOURS[0], alpha=0.3, linewidth=1)
    label = f"loss, mean of {2 * reach + 1} points" if reach else "loss"
    lines = axes.plot(steps, _smooth(loss, reach), color=COLOURS[0], linewidth=2, label=label)
    broken = int((~np.isfinite(loss)).sum())
    if broken:
        axes.text(
            0.5,
            0.95,
            f"{broken} values are not finite",
            transform=axes.transAxes,
            ha="center",
            va="top",
            color=COLOURS[5],
        )
    steps, rate = series(rows, "train/lr")
    if np.isfinite(rate).any():
        other = axes.twinx()
        lines += other.plot(steps, rate, color=COLOURS[4], linewidth=1.2, linestyle=(0, (4, 2)), label="learning rate")
        dress(other, "", y="learning rate")
        other.grid(False)
        other.set_ylim(bottom=0)
    axes.legend(handles=lines, loc="upper right", frameon=False, fontsize=9)


def _draw_probes(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    dress(axes, "Probes of the frozen features during the run", "step", "accuracy (%)")
    ends: list[tuple[float, float, str, str]] = []
    names = {
        name for row in rows for name in row if name.startswith("probe/") and name.rpartition("/")[2].startswith("top")
    }
    for number, name in enumerate(sorted(names)):
        steps, accuracy = series(rows, name)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(steps, 100 * accuracy, color=colour, linewidth=2, marker="o", markersize=3.5)
        finite = np.flatnonzero(np.isfinite(accuracy))
        if len(finite):
            *kind, metric = name.split("/")[1:]
            title = " ".join("kNN" if part == "knn" else part for part in kind) + (
                "" if metric == "top1" else f" {metric}"
            )
            last = finite[-1]
            ends.append((100 * accuracy[last], steps[last], f"{title} {100 * accuracy[last]:.1f}", colour))
    low, high = axes.get_ylim()
    gap, floor = 0.055 * (high - low), -math.inf
    for value, step, text, colour in sorted(ends):
        floor = max(value, floor + gap)  # labels never overlap
        point = (step, floor)
        axes.annotate(
            text,
            point,
            (7, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9.5,
            annotation_clip=False,
        )


def _draw_validation(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    dress(axes, "Accuracy on the samples held out for validation", "step", "accuracy (%)")
    for name, title, colour, style in (
        ("val/top1", "top-1", COLOURS[0], "-"),
        ("val/balanced", "mean over classes", COLOURS[1], "--"),
    ):
        steps, accuracy = series(rows, name)
        axes.plot(steps, 100 * accuracy, style, color=colour, linewidth=2, marker="o", markersize=3, label=title)
    axes.legend(loc="lower right", frameon=False, fontsize=9)


def _draw_collapse(figure: Figure, rows: Sequence[Row]) -> None:
    std, rank = figure.subplots(2, 1, sharex=True)
    dress(std, "Are the embeddings collapsing?", "", "standard deviation · √d")
    dress(rank, "", "step", "effective rank")
    for axes, name, colour in ((std, "collapse/std", COLOURS[0]), (rank, "collapse/rank", COLOURS[1])):
        axes.plot(*series(rows, name), color=colour, linewidth=2)
    for value, text, colour in (
        (1.0, "spread evenly over the sphere", COLOURS[4]),
        (0.0, "collapsed to one point", COLOURS[5]),
    ):
        std.axhline(value, color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        std.annotate(
            text,
            (1, value),
            (-4, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=colour,
        )
    std.set_ylim(-0.08, max(1.25, std.get_ylim()[1]))
    rank.set_ylim(bottom=0)


def _smooth(values: Points, reach: int) -> Points:
    """Mean over the finite values among each value and its `reach` neighbours on either side; a gap
    stays a gap."""
    finite, window = np.isfinite(values), np.ones(2 * reach + 1)
    total = np.convolve(np.where(finite, values, 0.0), window, "full")[reach : reach + len(values)]
    count = np.convolve(finite, window, "full")[reach : reach + len(values)]
    return np.where(finite, total / np.maximum(count, 1), np.nan)


def plot_health(rows: Sequence[Row], alarms: Sequence[Alarm], path: str | Path) -> bool:
    """Draws one curve per alarm, with the values outside its bounds shaded.

    Args:
        rows: the rows of `metrics.csv`, each with its `step`.
        alarms: the alarms to draw.
        path: the PNG to write.

    Returns:
        Whether the rows hold any of the values; if not, nothing is written.
    """
    drawn = [alarm for alarm in alarms if any(alarm.metric in row for row in rows)]
    if not drawn:
        return False
    figure = Figure(figsize=(8, 1.2 + 1.6 * len(drawn)), dpi=120, layout="constrained")
    grid = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for number, (axes, alarm) in enumerate(zip(grid, drawn, strict=True)):
        dress(
            axes,
            "" if number else "Is the run healthy? Shaded: unhealthy values",
            "step" if alarm is drawn[-1] else "",
            alarm.name.replace("_", " "),
        )
        axes.plot(*series(rows, alarm.metric), color=COLOURS[0], linewidth=2)
        low, high = axes.get_ylim()
        low, high = min(low, 0.0), max(high, 1.1 * (alarm.high or alarm.low or high))
        if alarm.low is not None:
            axes.axhspan(low, alarm.low, color=COLOURS[5], alpha=0.12, linewidth=0)
        if alarm.high is not None:
            axes.axhspan(alarm.high, high, color=COLOURS[5], alpha=0.12, linewidth=0)
        axes.set_ylim(low, high)
    save_figure(figure, path)
    return True
