"""How far the cells of two runs, or of two groups of runs that differ in their seeds, are apart."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..gains import Gain, gain, students
from ..table import Cell
from .recorded import PastRun
from .settings import configs_of, name_in, seed_of

NAMING = re.compile(r"data\.(\w*(root|path|split|splits|column|pattern)|name|revision|labels|samples)")
"""Settings of data that say which samples there are."""


def why_other_data(run: PastRun, other: PastRun, labelled: str = "") -> str:
    """Why the tables of two runs are not of the same samples; empty where they are, as far as the
    runs tell.

    Args:
        run, other: the runs.
        labelled: the labelled set that the tables are of; "": the runs' own.
    """
    if name_in(run, "data") != name_in(other, "data"):
        return f"other data: {name_in(run, 'data')} and {name_in(other, 'data')}"
    settings, others = configs_of([run, other])
    for key in dict.fromkeys([*settings, *others]):
        names = NAMING.fullmatch(key) or (labelled and key.startswith("data.probe_sets"))
        if names and settings.get(key) != others.get(key):
            return f"other data: {key} is {settings.get(key)} and {others.get(key)}"
    sizes, others_sizes = _sizes(run.data), _sizes(other.data)
    for part in sizes.keys() & others_sizes.keys():
        if sizes[part] != others_sizes[part]:
            return f"other data: {part} has {sizes[part]:,} and {others_sizes[part]:,}"
    return ""


def _sizes(data: Mapping[str, Any]) -> dict[str, int]:
    """What was found, by set and split."""
    return {
        f"{name} {tally['split']}": tally["found"]
        for name, tallies in data.items()
        for tally in (tallies if isinstance(tallies, list) else ())
        if isinstance(tally, dict) and isinstance(tally.get("found"), int) and "split" in tally
    }


def same_draws(run: PastRun, other: PastRun, cell: Cell, baseline: Cell) -> bool:
    """Whether two cells, of runs on the same data, come from the same draws of labels: the draws of
    a table have the same seed in every run, and follow from the labels that there are."""
    facts = ("labels", "samples", "classes", "available")
    if any(cell.get(fact) != baseline.get(fact) for fact in facts) or not (cell.get("draws") and baseline.get("draws")):
        return False
    settings, others = configs_of([run, other])
    few = settings.get("data.labels_per_class"), others.get("data.labels_per_class")
    return few == (None, None) or (few[0] == few[1] and seed_of(run) == seed_of(other))


def difference(cells: Sequence[Cell], baselines: Sequence[Cell], paired: bool) -> Gain:
    """The mean of some runs' cells minus that of others, and how large it may be by chance in 95
    of 100 cases: an infinity where nothing tells.

    Args:
        cells: one of each run; runs of one group differ in their seeds alone.
        baselines: the same of the others.
        paired: whether the cells of two single runs come from the same draws of labels.
    """
    one, other = cells[0], baselines[0]
    points = statistics.mean(cell["mean"] for cell in cells) - statistics.mean(cell["mean"] for cell in baselines)
    if len(cells) == len(baselines) == 1:
        if all("error" not in cell and cell["n"] == 1 for cell in (one, other)):
            return Gain(points, math.inf)
        if paired:
            return gain(one, other)
        deviations = [(cell["std"], cell["n"]) for cell in (one, other)]
    else:
        deviations = [_of_seeds(group) for group in (cells, baselines) if len(group) > 1]
        if len(deviations) == 1:  # a single run varies as those of the other group do
            deviations.append((deviations[0][0], 1))
    spread = math.hypot(*(deviation for deviation, _ in deviations))
    most = max(count for _, count in deviations)
    of_runs = math.hypot(
        *(students(count if count > 1 else most) * std / math.sqrt(count) for std, count in deviations)
    )
    of_samples = 2 * math.hypot(one.get("error", 0.0), other.get("error", 0.0))
    return Gain(points, max(spread, math.hypot(of_samples, of_runs)))


def _of_seeds(cells: Sequence[Cell]) -> tuple[float, int]:
    return statistics.stdev(cell["mean"] for cell in cells), len(cells)
