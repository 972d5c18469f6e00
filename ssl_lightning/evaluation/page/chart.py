"""A chart as SVG, drawn here, with its values for the script that shows them under the mouse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.ticker import MaxNLocator

from .writing import text

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 12, 30
"""Margins around the field."""


class Line(NamedTuple):
    """A curve: its name, colour, values, and, where it has one, the deviation of each."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    deviation: Sequence[float] = ()


class Level(NamedTuple):
    """A value that curves are read against."""

    value: float
    name: str


def chart(key: str, lines: Sequence[Line], x_title: str, levels: Sequence[Level] = (), by_ten: bool = False) -> str:
    """Draws curves over a common axis.

    Args:
        key: the id of the chart in the page.
        lines: at least one, with a finite value. A value that is not finite is a gap.
        x_title: what the horizontal axis counts.
        levels: dashed lines.
        by_ten: whether the horizontal axis is logarithmic, with a tick at each value.
    """
    across = [x for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    scale = math.log10 if by_ten else float
    left, right = scale(min(across)), scale(max(across))
    if left == right:
        left, right = left - 0.5, right + 0.5
    low, high, ticks = _range(lines, levels)

    def x_of(value: float) -> float:
        return round(LEFT + (scale(value) - left) / (right - left) * (WIDTH - LEFT - RIGHT), 1)

    def y_of(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(y)}" y2="{y_of(y)}"/>'
             f'<text class="tick" x="{LEFT - 6}" y="{y_of(y) + 4}" text-anchor="end">{_short(y)}</text>'
             for y in ticks]  # fmt: skip
    below = sorted(set(across)) if by_ten else [
        float(x) for x in MaxNLocator(4, integer=True).tick_values(left, right) if left <= x <= right
    ]  # fmt: skip
    parts += [
        f'<text class="tick" x="{x_of(x)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(x)}</text>'
        for x in below
    ]
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{text(x_title)}</text>')
    for value, name in levels:
        y = y_of(value)
        parts.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="level" x="{LEFT + 4}" y="{y - 4}">{text(name)}</text>')
    for line in lines:
        points = list(zip(line.x, line.y, strict=True))
        if line.deviation:
            above = [(x, y + d) for (x, y), d in zip(points, line.deviation, strict=True)]
            under = [(x, y - d) for (x, y), d in zip(points, line.deviation, strict=True)]
            band = " ".join(f"{x_of(x)},{y_of(y)}" for x, y in [*above, *under[::-1]])
            parts.append(f'<polygon points="{band}" fill="{line.colour}" opacity="0.15"/>')
        parts.append(_curve(line, [(x_of(x), y_of(y) if math.isfinite(y) else y) for x, y in points]))
    return (
        f'<svg class="chart" id="{text(key)}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"{''.join(parts)}<line class='here' y1='{TOP}' y2='{HEIGHT - BOTTOM}'/></svg>"
    )


def for_hover(lines: Sequence[Line], x_title: str, by_ten: bool = False) -> dict[str, Any]:
    """What the script needs to show the values of a chart."""
    return {
        "x": x_title,
        "log": by_ten,
        "field": [LEFT, WIDTH - RIGHT, WIDTH],
        "lines": [
            {
                "name": line.name,
                "colour": line.colour,
                "points": [[x, float(f"{y:.5g}")] for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)],
            }
            for line in lines
        ],
    }


def _range(lines: Sequence[Line], levels: Sequence[Level]) -> tuple[float, float, list[float]]:
    """The ends of the vertical axis, and its ticks."""
    values = [y for line in lines for y in line.y if math.isfinite(y)] + [level.value for level in levels]
    for line in lines:
        values += [y + s * d for y, d in zip(line.y, line.deviation, strict=False) for s in (1, -1)]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    margin = 0.05 * (high - low)
    ticks = [float(y) for y in MaxNLocator(4).tick_values(low, high) if low - margin <= y <= high + margin]
    return low - margin, high + margin, ticks


def _curve(line: Line, points: Sequence[tuple[float, float]]) -> str:
    path, pen = "", "M"
    for x, y in points:
        if math.isfinite(y):
            path, pen = f"{path}{pen}{x} {y}", "L"
        else:
            pen = "M"
    dots = (
        "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in points if math.isfinite(y)) if len(points) < 12 else ""
    )
    return f'<g fill="{line.colour}"><path d="{path}" fill="none" stroke="{line.colour}"/>{dots}</g>'


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.4g}k"
    return f"{value:.4g}"
