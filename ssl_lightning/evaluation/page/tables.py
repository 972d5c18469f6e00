"""Who the runs are, the settings in which they differ, and their closing tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..comparison.last import last_values
from ..comparison.recorded import PastRun
from ..comparison.settings import ABSENT, differing, name_in, seed_of, shown
from ..comparison.tables import Difference, Sheet, gain_in_words, in_words
from .writing import key_of, mark, paragraph, section, table, text

HEAD = (
    "Accuracy in %, ± std over draws of labels, or over seeds where there are several. Differences are ± what"
    " chance may explain; bold ones are clear."
)


def about(names: Sequence[str], runs: Sequence[PastRun]) -> str:
    """The section of runs: what each is, and what its folder lacks."""
    rows = [
        [
            mark(number) + text(name),
            text(name_in(run, "model")),
            text(name_in(run, "data")),
            text(_number(seed_of(run))),
            text(_number(run.summary.get("steps", run.last_step))),
            text(_duration(run.summary.get("seconds"))),
            text(run.folder),
        ]
        for number, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    faults = [f"{name}: {fault}" for name, run in zip(names, runs, strict=True) for fault in run.faults]
    head = ["run", "method", "data", "seed", "steps", "time", "folder"]
    return section("runs", "Runs", table(head, rows, "facts"), *(paragraph(fault, "fault") for fault in faults))


def settings(names: Sequence[str], runs: Sequence[PastRun]) -> str:
    """The section of settings that differ."""
    if len(runs) < 2:
        return ""
    head = ["setting", *(mark(number) + text(name) for number, name in enumerate(names))]
    shared: list[list[str]] = []
    others: list[list[str]] = []
    for key, values in differing(runs).items():
        row = [key_of(key), *(text(shown(value)) for value in values)]
        (others if ABSENT in values else shared).append(row)
    if not shared and not others:
        return section("settings", "What differs", paragraph("The settings are equal."))
    folded = (
        f"<details><summary>{len(others)} settings that only some runs have</summary>{table(head, others)}</details>"
    )
    return section("settings", "What differs", table(head, shared) if shared else "", folded if others else "")


def closing(runs: Sequence[PastRun], sheets: Sequence[Sheet]) -> str:
    """The section of closing tables: the pretrained encoder, and the other rows folded away."""
    first = [sheet for sheet in sheets if sheet.row not in BASELINE_ROWS]
    others = [sheet for sheet in sheets if sheet.row in BASELINE_ROWS]
    parts = [_sheet(sheet, runs) for sheet in first]
    if others:
        inner = "".join(_sheet(sheet, runs) for sheet in others)
        parts.append(f"<details><summary>Baselines: {text(_titles(others))}</summary>{inner}</details>")
    return section("tables", "Closing tables", paragraph(HEAD, "quiet") if parts else "", *parts)


BASELINE_ROWS = ("majority", "raw", "untrained", "published", "untrained_layers", "published_layers", "labels_only")


def _titles(sheets: Sequence[Sheet]) -> str:
    return ", ".join(dict.fromkeys(sheet.title for sheet in sheets))


def _sheet(sheet: Sheet, runs: Sequence[PastRun]) -> str:
    rows = []
    for entry in sheet.entries:
        dots = "".join(mark(runs.index(run)) for run in entry.runs)
        rows.append([dots + text(entry.name), *(text(in_words(entry.cells.get(column))) for column in sheet.titles)])
    for each in (each for each in sheet.differences if not each.why_not):
        name = text(f"{each.name} \N{MINUS SIGN} {sheet.entries[0].name}")
        rows.append([f"<em>{name}</em>", *(_gain(each, column) for column in sheet.titles)])
    body = table(["", *map(text, sheet.titles.values())], rows, "numbers")
    return f"<h3>{text(sheet.title)}</h3>{body}" + "".join(paragraph(line, "quiet") for line in sheet.lines)


def _gain(difference: Difference, column: str) -> str:
    words = text(gain_in_words(difference.gains.get(column)))
    sign = difference.signs.get(column, 0)
    return (
        f'<b class="{"better" if sign > 0 else "worse"}">{words}</b>' if sign else f'<span class="quiet">{words}</span>'
    )


def last(names: Sequence[str], runs: Sequence[PastRun]) -> str:
    """The section of last values."""
    rows = [[key_of(name), *(text(_number(value)) for value in values)] for name, values in last_values(runs).items()]
    head = ["", *(mark(number) + text(name) for number, name in enumerate(names))]
    body = f"<details><summary>{len(rows)} values</summary>{table(head, rows, 'numbers')}</details>"
    return section("last", "Last values", body if rows else "")


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
