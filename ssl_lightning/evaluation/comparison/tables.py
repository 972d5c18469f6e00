"""The closing tables of several runs side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...plugins.messages import did_you_mean
from ..gains import Gain, clause, sign
from ..protocols.stamp import stamp_of, what_differs
from ..table import ENOUGH_DRAWS, MISSING, ROWS, Cell, column_titles
from .differences import difference, same_draws, why_other_data
from .recorded import PastRun
from .settings import groups_of, names_of

OWN_TITLES = {
    "top1": "top-1",
    "balanced": "mean over classes",
    "frozen": "frozen features",
    "labels_only": "labels only",
}
"""Titles of the columns of a supervised run."""


class Entry(NamedTuple):
    """A run, or runs that differ in their seeds, under a name, with a row of its closing table: a
    cell of each run by column."""

    name: str
    runs: Sequence[PastRun]
    cells: Mapping[str, Sequence[Cell]]


class Difference(NamedTuple):
    """An entry minus the first one: gains by column, those that are clear (1 or -1; 0: within the
    spread), the columns that are not paired, and, where nothing is subtracted, why not."""

    name: str
    gains: Mapping[str, Gain]
    signs: Mapping[str, int]
    unpaired: Sequence[str]
    why_not: str = ""


class Sheet(NamedTuple):
    """One row of the closing tables of a labelled set ("": the runs' own): entries, what the first
    one is compared with, and lines that say what holds."""

    labelled: str
    row: str
    titles: Mapping[str, str]
    entries: Sequence[Entry]
    differences: Sequence[Difference]
    lines: Sequence[str]

    @property
    def title(self) -> str:
        return f"{self.labelled}: " * bool(self.labelled) + ROWS.get(self.row, f"{self.row} split")


def sheets_of(runs: Sequence[PastRun], rows: Sequence[str] = ()) -> list[Sheet]:
    """The closing tables of runs, by labelled set and row.

    Args:
        runs: as they are to be shown; the others are compared with the first one.
        rows: keys of `ROWS`, or the split of a supervised run; empty: the pretrained encoder, and
            what supervised runs end with.

    Raises:
        ValueError: no run has such a row.
    """
    there = list(dict.fromkeys((labelled, row) for run in runs for labelled, row, _ in run.cells))
    known = list(dict.fromkeys(row for _, row in there))
    for row in rows:
        if row not in known:
            raise ValueError(f"No run has the row {row!r}; there are {', '.join(known)}.{did_you_mean(row, known)}")
    wanted = rows or [row for row in known if row == "pretrained" or row not in ROWS]
    groups = groups_of(runs)
    names = names_of([group[0] for group in groups], seeds=any(len(group) == 1 for group in groups))
    named = [
        (f"{name.split(' seed ')[0]} ({len(group)} seeds)" if len(group) > 1 else name, group)
        for name, group in zip(names, groups, strict=True)
    ]
    return [_sheet(labelled, row, named) for row in wanted for labelled, each in there if each == row]


def _sheet(labelled: str, row: str, named: Sequence[tuple[str, Sequence[PastRun]]]) -> Sheet:
    entries = []
    for name, group in named:
        cells: dict[str, list[Cell]] = {}
        for run in group:
            for (its_set, its_row, column), cell in run.cells.items():
                if (its_set, its_row) == (labelled, row):
                    cells.setdefault(column, []).append(cell)
        if cells:
            entries.append(Entry(name, [run for run in group if run.cells], cells))
    if row in ROWS:
        first = {number: {key: some[0] for key, some in each.cells.items()} for number, each in enumerate(entries)}
        titles = column_titles({str(number): cells for number, cells in first.items()})
    else:
        titles = {column: OWN_TITLES.get(column, column) for each in entries for column in each.cells}
    compared = [_compared(each, entries[0], labelled) for each in entries[1:]]
    lines = [*_protocols(entries, compared, labelled), *_lines(entries, compared, titles)]
    return Sheet(labelled, row, titles, entries, compared, lines)


def _compared(entry: Entry, first: Entry, labelled: str) -> Difference:
    run, other = entry.runs[0], first.runs[0]
    if why := why_other_data(other, run, labelled):
        return Difference(entry.name, {}, {}, [], why)
    gains, signs, unpaired = {}, {}, []
    for column in (column for column in first.cells if column in entry.cells):
        cells, baselines = entry.cells[column], first.cells[column]
        single = len(cells) == len(baselines) == 1
        paired = single and same_draws(run, other, cells[0], baselines[0])
        gains[column] = difference(cells, baselines, paired)
        signs[column] = sign(cells[0], baselines[0], gains[column])
        unpaired += [column] * (single and not paired)
    return Difference(entry.name, gains, signs, unpaired, "" if gains else "no column in common")


def _protocols(entries: Sequence[Entry], compared: Sequence[Difference], labelled: str) -> list[str]:
    """Lines on tables that come from another protocol than the first one's."""
    name = f"final/{labelled}".rstrip("/")
    first, *others = ([stamp_of(run.summary, name) for run in each.runs] for each in entries)
    lines = []
    for entry, gains, stamps in zip(entries[1:], compared, others, strict=True):
        if gains.why_not or not any(first + stamps):
            continue
        changed = next(filter(None, (what_differs(first[0], other) for other in first + stamps)), "")
        if not all(first + stamps):
            lines.append(f"{entry.name}: whether the protocol is that of {entries[0].name} is not recorded.")
        elif changed:
            lines.append(f"{entry.name}: another protocol than that of {entries[0].name} ({changed}).")
    return lines


def _lines(entries: Sequence[Entry], compared: Sequence[Difference], titles: Mapping[str, str]) -> list[str]:
    lines = []
    for each in compared:
        if each.why_not:
            lines.append(f"{each.name}: not comparable with {entries[0].name} ({each.why_not}).")
            continue
        named = {titles[column]: sign for column, sign in each.signs.items()}
        lines.append(f"{each.name}: {clause(entries[0].name, named)}.")
        if each.unpaired:
            columns = ", ".join(titles[column] for column in each.unpaired)
            lines.append(f"{each.name}: other labels were drawn, so these differences are not paired: {columns}.")
    if any(difference.gains for difference in compared) and any(len(entry.runs) == 1 for entry in entries):
        lines.append("What another seed would change is not known of a single run.")
    return lines


def mean_of(cells: Sequence[Cell]) -> tuple[float, float | None]:
    """Mean and standard deviation of cells: over seeds of several runs, over draws of one; None
    where there are too few draws for one."""
    if len(cells) > 1:
        means = [cell["mean"] for cell in cells]
        return statistics.mean(means), statistics.stdev(means)
    return cells[0]["mean"], cells[0]["std"] if cells[0]["n"] >= ENOUGH_DRAWS else None


def in_words(cells: Sequence[Cell] | None) -> str:
    """Cells as a percentage with their deviation."""
    if not cells:
        return MISSING.strip()
    mean, std = mean_of(cells)
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if std is not None else "")


def gain_in_words(gain: Gain | None) -> str:
    """A difference in points, with what it may be by chance."""
    if gain is None:
        return MISSING.strip()
    return f"{100 * gain.points:+.1f}" + (f" ± {100 * gain.margin:.1f}" if math.isfinite(gain.margin) else " ± ?")
