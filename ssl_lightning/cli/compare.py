"""`ssl-lightning compare`: several runs side by side."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

from ..evaluation.comparison.files import plain
from ..evaluation.comparison.last import last_values
from ..evaluation.comparison.recorded import PastRun, read_runs
from ..evaluation.comparison.settings import ABSENT, differing, names_of, seed_of, shown
from ..evaluation.comparison.tables import Sheet, gain_in_words, in_words, mean_of, sheets_of
from .rows import print_rows

HEAD = (
    "accuracy in %, ± std over draws of labels, or over seeds where there are several; differences ±"
    " what chance may explain"
)


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning compare`."""
    runs = read_runs(options.runs, least=2)
    sheets = sheets_of(runs, options.row or ())
    names = names_of(runs)
    if options.json:
        print(json.dumps(_strict(as_json(runs, names, sheets)), indent=2))
        return 0
    for name, run in zip(names, runs, strict=True):
        print(f"{name}: {plain(str(run.folder))}" + "".join(f"; {fault}" for fault in run.faults))
    settings = differing(runs)
    print("\nSettings that differ" if settings else "\nThe settings are equal.")
    print_rows([{"setting": key, **dict(zip(names, map(shown, each), strict=True))} for key, each in settings.items()])
    for sheet in sheets:
        print(f"\n{sheet.title}: {HEAD}")
        print_rows(rows_of(sheet))
        for line in sheet.lines:
            print(line)
    if not sheets:
        print("\nNo run has a closing table.")
    print("\nLast values")
    print_rows([{"value": name, **dict(zip(names, each, strict=True))} for name, each in last_values(runs).items()])
    return 0


def rows_of(sheet: Sheet) -> list[dict[str, str]]:
    """The rows of a table: the entries, then the differences from the first one."""
    rows = [
        {"run": entry.name, **{title: in_words(entry.cells.get(column)) for column, title in sheet.titles.items()}}
        for entry in sheet.entries
    ]
    for each in (each for each in sheet.differences if not each.why_not):
        cells = {title: gain_in_words(each.gains.get(column)) for column, title in sheet.titles.items()}
        rows.append({"run": f"{each.name} \N{MINUS SIGN} {sheet.entries[0].name}", **cells})
    return rows


def as_json(runs: Sequence[PastRun], names: Sequence[str], sheets: Sequence[Sheet]) -> dict[str, Any]:
    """All that is shown, with whole numbers; accuracies are fractions."""
    return {
        "runs": [
            {"name": name, "folder": str(run.folder), "seed": seed_of(run), "faults": list(run.faults)}
            for name, run in zip(names, runs, strict=True)
        ],
        "settings": {
            key: {name: value for name, value in zip(names, each, strict=True) if value is not ABSENT}
            for key, each in differing(runs).items()
        },
        "tables": [_table(sheet) for sheet in sheets],
        "last": {key: dict(zip(names, each, strict=True)) for key, each in last_values(runs).items()},
    }


def _strict(value: Any) -> Any:
    """The same with text for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_strict(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _table(sheet: Sheet) -> dict[str, Any]:
    return {
        "set": sheet.labelled,
        "row": sheet.row,
        "runs": {
            entry.name: {
                "folders": [str(run.folder) for run in entry.runs],
                "cells": {
                    column: dict(zip(("mean", "std"), mean_of(cells), strict=True))
                    | {"draws": [cell.get("draws") for cell in cells]}
                    for column, cells in entry.cells.items()
                },
            }
            for entry in sheet.entries
        },
        "differences": {
            each.name: {
                column: {
                    "points": gain.points,
                    "margin": gain.margin if math.isfinite(gain.margin) else None,
                    "clear": bool(each.signs[column]),
                    "paired": column not in each.unpaired,
                }
                for column, gain in each.gains.items()
            }
            for each in sheet.differences
        },
        "remarks": list(sheet.lines),
    }
