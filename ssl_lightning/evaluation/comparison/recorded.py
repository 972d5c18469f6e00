"""A run as its folder has it. What is missing or damaged there is a line, and the rest is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...plugins.gate import read_json, read_yaml
from ...plugins.moved import renamed
from ..table import Cell
from .files import Curve, plain, read_curves, read_mapping

MARKS = ("config.yaml", "resolved.yaml", "summary.json", "metrics.csv")
"""A folder with any of these files is taken for that of a run."""


class PastRun(NamedTuple):
    """What the folder of a run holds.

    Attributes:
        folder: as it was given.
        config: `config.yaml`.
        resolved: `resolved.yaml`; empty for older versions.
        summary: `summary.json` without the closing table.
        cells: the closing table's cells, by (labelled set, row, column); "" is the run's own set.
        curves: `metrics.csv` by metric.
        data: `data.json`.
        faults: lines on what is missing or cannot be read.
    """

    folder: Path
    config: Mapping[str, Any]
    resolved: Mapping[str, Any]
    summary: Mapping[str, Any]
    cells: Mapping[tuple[str, str, str], Cell]
    curves: Mapping[str, Curve]
    data: Mapping[str, Any]
    faults: Sequence[str]

    @property
    def last_step(self) -> int | None:
        steps = [int(steps[-1]) for steps, _ in self.curves.values() if steps]
        return max(steps, default=None)


def read_runs(folders: Sequence[str], least: int) -> list[PastRun]:
    """The runs of some folders, in their order.

    Raises:
        ValueError: there are fewer than `least`, a folder is given twice, or is not that of a run.
    """
    for folder in folders:
        _check(Path(folder))
    if len(folders) < least:
        raise ValueError(f"{len(folders)} run folder was given, and a comparison needs two or more.")
    seen: dict[Path, str] = {}
    for folder in folders:
        place = Path(folder).resolve()
        if place in seen:
            raise ValueError(f"The run {folder!r} is given twice; name each run once.")
        seen[place] = folder
    return [read_run(folder) for folder in folders]


def read_run(folder: str | Path) -> PastRun:
    """Reads what a run folder holds.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError, ValueError: it is not the folder of a run.
    """
    path = Path(folder)
    _check(path)
    faults: list[str] = []
    config = renamed(read_mapping(path / "config.yaml", read_yaml, faults))
    resolved = renamed(read_mapping(path / "resolved.yaml", read_yaml, faults, _older))
    summary = read_mapping(path / "summary.json", read_json, faults, _unfinished)
    cells = dict(_cells(summary, faults))
    curves = read_curves(path / "metrics.csv", faults)
    data = read_mapping(path / "data.json", read_json, faults, lambda _: "")
    if summary and not cells:
        faults.append("summary.json has no closing table")
    if failed := summary.get("report/failed"):
        faults.append(f"the report says: {failed}")
    if count := summary.get("failed_writes"):
        faults.append(f"{count} writes failed during the run")
    facts = {name: value for name, value in summary.items() if not name.startswith("final/")}
    return PastRun(path, config, resolved, facts, cells, curves, data, [*map(plain, faults)])


def _check(path: Path) -> None:
    if path.is_file():
        within = any((path.parent / name).is_file() for name in MARKS)
        hint = f", {str(path.parent)!r}" if within else " that it lies in"
        raise NotADirectoryError(f"{str(path)!r} is a file; give the run folder{hint}.")
    if not path.is_dir():
        raise FileNotFoundError(f"There is no run folder {str(path)!r}.")
    if any((path / name).is_file() for name in MARKS):
        return
    below = sorted({file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/config.yaml")})
    if below:
        raise ValueError(f"{str(path)!r} is not a run but holds {len(below)}; give them, such as {str(below[-1])!r}.")
    raise ValueError(f"{str(path)!r} is not the folder of a run: it has none of {', '.join(MARKS)}.")


def _unfinished(path: Path) -> str:
    from ...run.folder.lock import is_locked  # imported here: it takes seconds

    return "it is still running" if is_locked(path.parent) else "no summary.json: it was stopped before its end"


def _older(path: Path) -> str:
    return f"no {path.name}, as of an older version: settings are compared as they were given"


def _cells(summary: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[tuple[str, str, str], Cell]]:
    for name, value in summary.items():
        if not name.startswith("final/"):
            continue
        *prefix, row, column = plain(name).split("/")[1:] if name.count("/") > 1 else ("", "")
        cell = _cell(value)
        if cell is None or not row:
            faults.append(f"{name} of summary.json is not a cell of a table ({json.dumps(value)[:60]})")
        else:
            yield ("/".join(prefix), row, column), cell


def _cell(value: Any) -> Cell | None:
    """A cell, with what older versions did not write; None for anything else."""
    if not isinstance(value, dict) or not _is_number(value.get("mean")):
        return None
    draws = value.get("draws", [])
    sound = isinstance(draws, list) and all(map(_is_number, draws))
    others = ("std", "n", "error", "labels", "samples", "classes", "available")
    if not sound or any(not _is_number(value.get(name, 0)) for name in others):
        return None
    cell: Any = {"std": 0.0, "n": max(1, len(draws))} | value
    return cell if cell["n"] >= 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
