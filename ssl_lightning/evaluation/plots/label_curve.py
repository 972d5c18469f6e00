"""Accuracy against the number of labels as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ...data.figure import QUIET, dress, save_figure
from .style import CHANCE, COLOURS, MARKERS

CLOSEST = 0.05
"""Ticks whose distance is a smaller part of the axis have one label."""
STYLES = {
    "raw": ("#94a4a2", ":"),
    "untrained": ("#ffa90e", "--"),
    "published": ("#e76300", "--"),
    "pretrained": ("#3f90da", "-"),
    "finetuned": ("#1b4f86", "-"),
    "end_to_end": ("#2a9d5c", "-"),
    "labels_only": ("#832db6", "-"),
}


def plot_label_curve(
    rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], chance: float, subject: str, path: str | Path
) -> None:
    """Draws each row's accuracy over the number of labels, with a band of a standard deviation over
    the draws.

    Args:
        rows: `row`, `labels`, `mean`, `std` and `draws` of each number of labels, accuracies as
            fractions. The marker of a row that has fewer draws than others there is hollow.
        titles: of the rows.
        chance: the accuracy of a guess.
        subject: what was measured, for the title.
        path: the PNG to write.
    """
    figure = Figure(figsize=(8.6, 5.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    dress(axes, f"What labels are worth: {subject}", x="labels", y="accuracy (%, mean over classes)")
    axes.set_xscale("log")
    most = {row["labels"]: max(len(each["draws"]) for each in rows if each["labels"] == row["labels"]) for row in rows}
    if any(len(row["draws"]) < most[row["labels"]] for row in rows):
        axes.set_xlabel(f"{axes.get_xlabel()} (hollow points: fewer draws than other rows)")
    for number, (key, title) in enumerate(titles.items()):
        mine = sorted((row for row in rows if row["row"] == key), key=lambda row: int(row["labels"]))
        if not mine:
            continue
        colour, line = STYLES.get(key, (COLOURS[number % len(COLOURS)], "-"))
        x = np.array([row["labels"] for row in mine])
        mean, std = (100 * np.array([row[name] for row in mine]) for name in ("mean", "std"))
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(x, mean, color=colour, linestyle=line, marker=marker, markersize=4.5, linewidth=1.8, label=title)
        fewer = [len(row["draws"]) < most[row["labels"]] for row in mine]
        axes.plot(x[fewer], mean[fewer], "w", linestyle="", marker=marker, markersize=2.2, zorder=3)
    axes.axhline(
        100 * chance, color=CHANCE, linewidth=1.1, linestyle=(0, (4, 2)), label=f"chance, {100 * chance:.3g} %"
    )
    numbers = sorted({int(row["labels"]) for row in rows})
    axes.set_xticks(numbers, labels=apart(numbers))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(fontsize=9, frameon=False, labelcolor=QUIET, loc="best")
    save_figure(figure, path)


def apart(numbers: Sequence[int]) -> list[str]:
    """The labels of ticks on a logarithmic axis; empty where one would touch the one before.

    Args:
        numbers: of the ticks, rising.
    """
    span = max(math.log(numbers[-1] / numbers[0]), 1e-9) if numbers else 1.0
    labels: list[str] = []
    last = -math.inf
    for number in numbers:
        place = math.log(number / numbers[0]) / span
        shown = place - last >= CLOSEST
        labels.append(f"{number:,}" if shown else "")
        last = place if shown else last
    return labels
