"""Accuracy against the number of labels, where a run has such a curve."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from ..comparison.recorded import PastRun
from ..table import CURVE_ROWS
from .chart import Line, chart, for_hover
from .pictures import Room
from .writing import colour, data, mark, section, table, text

FILES = "labels-*.json"


def labels(names: Sequence[str], runs: Sequence[PastRun], room: Room) -> str:
    """The section of label curves: for each that `ssl-lightning labels` left in a run folder a
    chart, its table and what it says."""
    parts = []
    for number, (name, run) in enumerate(zip(names, runs, strict=True)):
        for place, file in enumerate(sorted(run.folder.glob(FILES))):
            try:
                kept = json.loads(file.read_text(encoding="utf-8"))
                rows, sentence = _rows(kept["rows"]), str(kept["sentence"])
            except (ValueError, KeyError, TypeError, OSError) as error:
                room.left_out.append(f"{name}: {file.name} cannot be read ({error}).")
                continue
            title = f"{name}, on {file.stem.removeprefix('labels-')}"
            parts.append(f"<h3>{mark(number)}{text(title)}</h3><p>{text(sentence)}</p>")
            parts.append(_curve(rows, f"labels{number}-{place}"))
    return section("labels", "Accuracy against the number of labels", *parts)


def _rows(value: Any) -> dict[str, dict[float, tuple[float, float]]]:
    """Mean and deviation in percent by row and number of labels."""
    rows: dict[str, dict[float, tuple[float, float]]] = {}
    for each in value:
        count, mean, std = float(each["labels"]), float(each["mean"]), float(each.get("std") or 0.0)
        if not (count > 0 and math.isfinite(count + mean + std)):
            raise ValueError(f"{each} is not a point")
        rows.setdefault(str(each["row"]), {})[count] = (100 * mean, 100 * std)
    if not rows:
        raise ValueError("it is empty")
    return rows


def _curve(rows: dict[str, dict[float, tuple[float, float]]], key: str) -> str:
    lines = []
    for number, (row, points) in enumerate(rows.items()):
        x = sorted(points)
        y, deviation = [points[count][0] for count in x], [points[count][1] for count in x]
        lines.append(Line(CURVE_ROWS.get(row, row), colour(number), x, y, deviation))
    counts = sorted({count for points in rows.values() for count in points})
    cells = [
        [
            f'<i style="background:{line.colour}"></i>{text(line.name)}',
            *(f"{points[n][0]:.1f} ± {points[n][1]:.1f}" if n in points else "" for n in counts),
        ]
        for line, points in zip(lines, rows.values(), strict=True)
    ]
    title = "labels"
    return (
        f'<div class="cards"><figure class="card large"><figcaption>accuracy in %</figcaption>'
        f"{chart(key, lines, title, by_ten=True)}{data(f'{key}-data', for_hover(lines, title, True))}</figure></div>"
        + table([title, *(f"{count:g}" for count in counts)], cells, "numbers legend")
    )
