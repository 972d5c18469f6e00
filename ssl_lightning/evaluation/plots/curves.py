"""The curves of a run: loss, probes, collapse, spectrum and health. Each file is written whole or
not at all, and pyplot's global state is not used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ...data.figure import INK, dress, save_figure
from ...types import Alarm
from .style import CHANCE, COLOURS, Points, Row, series

Curves = Literal["loss", "probes", "validation", "collapse", "spectrum"]
SPECTRUM = {"rankme": "RankMe", "alpha": "alpha-ReQ", "lidar": "LiDAR"}
"""The scores that need no labels, by the end of their metrics' names."""


class Lines(NamedTuple):
    """What the curves of a run are drawn beside.

    Args:
        chance: accuracy of a guess, for probes of the run's own data. None: unknown.
        nothing_learned: the loss of a network that has learned nothing. None: unknown.
        alarms: whose lowest healthy values are drawn.
        most_rank: the largest possible effective rank. None: unknown.
    """

    chance: float | None = None
    nothing_learned: float | None = None
    alarms: Sequence[Alarm] = ()
    most_rank: int | None = None


def plot_curves(rows: Sequence[Row], path: str | Path, kind: Curves, lines: Lines | None = None) -> bool:
    """Draws metrics of a run over its steps, up to its last one. Probes that were evaluated once
    are drawn as bars.

    Args:
        rows: metrics by name, with `step`; a row need not hold every metric. `collapse/std` is in
            units of 1 / sqrt(d).
        path: the PNG to write.
        kind: `loss` (`train/loss`, `train/lr`), `probes` (every `probe/...` accuracy), `validation`
            (`val/top1`, `val/balanced` of a supervised run), `collapse` (`collapse/std`,
            `collapse/rank`) or `spectrum` (every `spectrum/...`).
        lines: what the curves are drawn beside. None: nothing.

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
        "spectrum": (_draw_spectrum, "spectrum/"),
    }
    if kind not in kinds:
        raise ValueError(f"plot_curves does not know the kind {kind!r}; choose from {', '.join(kinds)}.")
    draw, prefix = kinds[kind]
    if not any(name.startswith(prefix) for row in rows for name in row):
        return False
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    draw(figure, rows, lines or Lines())
    save_figure(figure, path)
    return True


def _to_the_end(axes: Axes, rows: Sequence[Row]) -> None:
    """Lets the axis of steps end with the run."""
    steps = [float(row["step"]) for row in rows]
    low, high = min(steps), max(steps)
    margin = 0.02 * (high - low) or 0.5
    axes.set_xlim(max(0.0, low - margin) if high > low else low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _line(axes: Axes, value: float, text: str, colour: str = CHANCE) -> None:
    """A dashed line across the axes, with its meaning at the left end, above it."""
    axes.axhline(value, color=colour, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1.5)
    axes.annotate(
        text,
        (0, value),
        (4, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=8.5,
        color=colour,
    )


def _draw_loss(figure: Figure, rows: Sequence[Row], lines: Lines) -> None:
    axes = figure.subplots()
    dress(axes, "Training loss", "step", "loss")
    steps, loss = series(rows, "train/loss")
    reach = len(loss) // 30
    if reach:
        axes.plot(steps, loss, color=COLOURS[0], alpha=0.3, linewidth=1)
    label = f"loss, mean of {2 * reach + 1} points" if reach else "loss"
    marker = "o" if len(loss) < 4 else None
    handles = axes.plot(steps, _smooth(loss, reach), color=COLOURS[0], linewidth=2, label=label, marker=marker)
    if lines.nothing_learned is not None:
        _line(axes, lines.nothing_learned, f"nothing learned: {lines.nothing_learned:.3g}")
    judged = [row for row in rows if "train/loss" in row and "train/skill" in row]
    at, skill = series(judged, "train/skill")
    if np.isfinite(skill).any():
        baseline = series(judged, "train/loss")[1] / np.where(skill < 1, 1 - skill, np.nan)
        handles += axes.plot(
            at, _smooth(baseline, reach), color=CHANCE, linewidth=1.5, linestyle=(0, (4, 2)), label="without learning"
        )
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
        handles += other.plot(steps, rate, color=COLOURS[8], linewidth=1.2, linestyle=":", label="learning rate")
        dress(other, "", y="learning rate")
        other.grid(False)
        other.set_ylim(0, 1.05 * np.nanmax(rate) or None)
    _to_the_end(axes, rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _draw_probes(figure: Figure, rows: Sequence[Row], lines: Lines) -> None:
    axes = figure.subplots()
    dress(axes, "Probes of the frozen features during the run", "step", "accuracy (%)")
    ends: list[tuple[float, float, str, str]] = []
    names = {
        name for row in rows for name in row if name.startswith("probe/") and name.rpartition("/")[2].startswith("top")
    }
    curves = {name: series(rows, name) for name in sorted(names)}
    if all(np.isfinite(accuracy).sum() <= 1 for _, accuracy in curves.values()):
        _draw_one_look(axes, curves, lines)
        return
    for number, (name, (steps, accuracy)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(steps, 100 * accuracy, color=colour, linewidth=2, marker="o", markersize=3.5)
        finite = np.flatnonzero(np.isfinite(accuracy))
        if len(finite):
            last = finite[-1]
            ends.append((100 * accuracy[last], steps[last], f"{_title(name)} {100 * accuracy[last]:.1f}", colour))
    if lines.chance is not None:
        _line(axes, 100 * lines.chance, f"chance {100 * lines.chance:.3g}")
    _to_the_end(axes, rows)
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


def _draw_validation(figure: Figure, rows: Sequence[Row], lines: Lines) -> None:
    axes = figure.subplots()
    dress(axes, "Accuracy on the samples held out for validation", "step", "accuracy (%)")
    for name, title, colour, style in (
        ("val/top1", "top-1", COLOURS[0], "-"),
        ("val/balanced", "mean over classes", COLOURS[1], "--"),
    ):
        steps, accuracy = series(rows, name)
        axes.plot(steps, 100 * accuracy, style, color=colour, linewidth=2, marker="o", markersize=3, label=title)
    if lines.chance is not None:
        _line(axes, 100 * lines.chance, f"chance {100 * lines.chance:.3g}")
    _to_the_end(axes, rows)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _title(name: str) -> str:
    """What a metric of a probe is called: "kNN" for `probe/knn/top1`."""
    *kind, metric = name.split("/")[1:]
    title = " ".join("kNN" if part == "knn" else part for part in kind)
    return title if metric == "top1" else f"{title} {metric}"


def _draw_one_look(axes: Axes, curves: Mapping[str, tuple[Points, Points]], lines: Lines) -> None:
    """Bars in place of curves of a single point each."""
    pairs = {_title(name): (steps, accuracy) for name, (steps, accuracy) in curves.items() if len(steps)}
    step = max((steps[-1] for steps, _ in pairs.values()), default=0)
    axes.set_title(
        f"Probes of the frozen features at step {step:,.0f}, the only look", loc="left", fontsize=12, color=INK
    )
    axes.set(xlabel="accuracy (%)", ylabel="")
    values = [100 * float(np.nan_to_num(accuracy[-1])) for _, accuracy in pairs.values()]
    bars = axes.barh(list(pairs), values, color=COLOURS[: len(pairs)], height=0.5)
    axes.bar_label(bars, fmt="%.1f", padding=4, fontsize=9.5, color=INK)
    axes.margins(x=0.12, y=0.4)
    axes.invert_yaxis()
    if lines.chance is not None:
        axes.axvline(100 * lines.chance, color=CHANCE, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.text(100 * lines.chance, 0.01, " chance", transform=axes.get_xaxis_transform(), fontsize=8.5, color=CHANCE)


def _draw_collapse(figure: Figure, rows: Sequence[Row], lines: Lines) -> None:
    std, rank = figure.subplots(2, 1, sharex=True)
    dress(std, "Are the embeddings collapsing?", "", "standard deviation · √d")
    dress(rank, "", "step", "effective rank")
    for axes, name, colour in ((std, "collapse/std", COLOURS[0]), (rank, "collapse/rank", COLOURS[1])):
        steps, values = series(rows, name)
        axes.plot(steps, values, color=colour, linewidth=2, marker="o" if len(steps) < 4 else None)
    low = {alarm.name: alarm.low for alarm in lines.alarms if alarm.group == "collapse" and alarm.low is not None}
    _line(std, 1.0, "1: spread evenly over the sphere")
    _line(std, low.get("std", 0.0), f"alarm below {low['std']:g}" if "std" in low else "0: collapsed", COLOURS[5])
    if "rank" in low:
        _line(rank, low["rank"], f"alarm below {low['rank']:g}", COLOURS[5])
    if lines.most_rank is not None:
        _line(rank, lines.most_rank, f"the largest possible: {lines.most_rank:,}")
    std.set_ylim(-0.08, max(1.25, std.get_ylim()[1]))
    rank.set_ylim(0, max(rank.get_ylim()[1], 1.25 * (lines.most_rank or 0)))
    _to_the_end(rank, rows)


def _draw_spectrum(figure: Figure, rows: Sequence[Row], lines: Lines) -> None:
    drawn = [name for name in SPECTRUM if any(f"spectrum/{name}" in row for row in rows)]
    grid = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(grid, drawn, strict=True):
        dress(axes, "Features of fixed training samples, without labels" * (axes is grid[0]), "", SPECTRUM[name])
        steps, values = series(rows, f"spectrum/{name}")
        axes.plot(steps, values, color=COLOURS[0], linewidth=2, marker="o" if len(steps) < 4 else None)
        if name == "alpha":
            _line(axes, 1.0, "best near 1; above, few directions carry all")
            axes.set_ylim(0, max(1.4, axes.get_ylim()[1]))
    grid[-1].set_xlabel("step")
    _to_the_end(grid[-1], rows)


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
    _to_the_end(grid[-1], rows)
    save_figure(figure, path)
    return True
