"""The curves of several runs, one chart for each metric that they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..comparison.files import Curve
from ..comparison.recorded import PastRun
from ..comparison.settings import name_in
from .chart import Level, Line, chart, for_hover
from .writing import colour, data, key_of, section, table, text

MOST = 300
"""Points of a curve that are drawn."""
FIRST = ("train/loss", "val/", "probe/")
"""How the names of metrics begin that are shown first."""
HEALTH = ("collapse/", "health/")


def curves(names: Sequence[str], runs: Sequence[PastRun]) -> str:
    """The section of curves."""
    panels = _panels(names, runs)
    first = {title: lines for title, lines in panels.items() if _metric(title).startswith(FIRST)}
    others = {
        title: lines for title, lines in panels.items() if title not in first and not _metric(title).startswith(HEALTH)
    }
    more = f"<details><summary>{len(others)} further metrics</summary>{_grid(others, 'm')}</details>" if others else ""
    return section("curves", "Curves", _grid(first, "c"), more)


def health_curves(names: Sequence[str], runs: Sequence[PastRun]) -> str:
    """Charts of what watches over a run, with the values below which alarms ring."""
    panels = {title: each for title, each in _panels(names, runs).items() if _metric(title).startswith(HEALTH)}
    return _grid(panels, "h", _alarms(runs))


def _panels(names: Sequence[str], runs: Sequence[PastRun]) -> dict[str, list[Line]]:
    """The curves of each chart by its title: losses of one method on one data set together, since
    others are on another scale; probes by data set."""
    several = {key: len({name_in(run, key) for run in runs}) > 1 for key in ("model", "data")}
    panels: dict[str, list[Line]] = {}
    for number, (name, run) in enumerate(zip(names, runs, strict=True)):
        for metric, curve in run.curves.items():
            keys = (
                ()
                if metric.startswith(HEALTH)
                else ("data",)
                if metric.startswith(("probe/", "val/"))
                else ("model", "data")
            )
            where = ", ".join(name_in(run, key) for key in keys if several[key])
            x, y = thinned(curve)
            if any(map(math.isfinite, y)):
                title = metric + (f" \N{MIDDLE DOT} {where}" if where else "")
                panels.setdefault(title, []).append(Line(name, colour(number), x, y))
    return dict(sorted(panels.items(), key=lambda item: _order(_metric(item[0]))))


def _metric(title: str) -> str:
    return title.partition(" \N{MIDDLE DOT} ")[0]


def _order(metric: str) -> tuple[int, str]:
    rank = next((number for number, start in enumerate(FIRST) if metric.startswith(start)), len(FIRST))
    return rank, metric


def thinned(curve: Curve, most: int = MOST) -> tuple[list[float], list[float]]:
    """At most so many points of a curve: each is the mean of as many neighbours."""
    x, y = curve
    width = -(-len(x) // most)
    if width <= 1:
        return list(x), list(y)
    means = []
    for start in range(0, len(y), width):
        finite = [value for value in y[start : start + width] if math.isfinite(value)]
        means.append(math.fsum(finite) / len(finite) if finite else math.nan)
    return [x[min(start + width, len(x)) - 1] for start in range(0, len(x), width)], means


def _alarms(runs: Sequence[PastRun]) -> dict[str, Level]:
    """The levels below which collapse is told, by metric, as the first run has them."""
    settings: Any = next((run.resolved.get("collapse") for run in runs if run.resolved.get("collapse")), {})
    levels = {}
    for metric, name in (("collapse/std", "min_std"), ("collapse/rank", "min_rank")):
        value = settings.get(name) if isinstance(settings, dict) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            levels[metric] = Level(float(value), f"alarm below {value:g}")
    return levels


def _grid(panels: Mapping[str, Sequence[Line]], prefix: str, levels: Mapping[str, Level] | None = None) -> str:
    parts, once = [], []
    for number, (title, lines) in enumerate(panels.items()):
        if all(len(line.x) == 1 for line in lines):
            values = ", ".join(f"{text(line.name)} {line.y[0]:.4g} at step {line.x[0]:,.0f}" for line in lines)
            once.append([key_of(title), values])
            continue
        key = f"{prefix}{number}"
        level = (levels or {}).get(_metric(title))
        drawn = chart(key, lines, "step", [level] if level else [])
        legend = "".join(f'<span><i style="background:{line.colour}"></i>{text(line.name)}</span>' for line in lines)
        parts.append(
            f'<figure class="card"><figcaption>{text(title)}</figcaption>{drawn}<div class="legend">{legend}</div>'
            f"{data(f'{key}-data', for_hover(lines, 'step'))}</figure>"
        )
    cards = f'<div class="cards">{"".join(parts)}</div>' if parts else ""
    return cards + (table(["looked at once", "value"], once) if once else "")
