"""What went wrong in runs, or might have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..comparison.last import last_values
from ..comparison.recorded import PastRun
from .curves import health_curves
from .pictures import Room, figure
from .writing import mark, paragraph, section, table, text

ALARMS = 5
"""Alarms of a run that are shown."""


def health(names: Sequence[str], runs: Sequence[PastRun], room: Room) -> str:
    """The section of health: a line for each thing that happened, and the curves of what is
    watched."""
    rows = [
        [mark(number) + text(name), "<br>".join(map(text, _events(run))) or "no alarm, and nothing failed"]
        for number, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    drawn = [figure(path, name, room) for name, run in zip(names, runs, strict=True)
             if (path := run.folder / "plots" / "health.png").is_file()]  # fmt: skip
    note = paragraph("Standard deviation times the root of the dimension: 1 is spread evenly, 0 is collapsed.", "quiet")
    curves = health_curves(names, runs)
    return section("health", "Health", table(["", "what happened"], rows), note if curves else "", curves, *drawn)


def _alarms(path: Path) -> list[str]:
    """The first alarms of a run, and how many more there are."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    except OSError as error:
        return [f"{path.name} cannot be read ({error})"]
    return [*lines[:ALARMS], *([f"{len(lines) - ALARMS} further alarms"] if len(lines) > ALARMS else [])]


def _events(run: PastRun) -> Iterator[str]:
    summary = run.summary
    if not summary:
        yield "no summary.json"
    if count := summary.get("failed_writes"):
        yield f"{count} failed writes"
    if skipped := last_values([run]).get("health/skipped"):
        yield f"{skipped[0]:.0f} steps skipped: not finite"
    if failed := summary.get("report/failed"):
        yield f"failed: {failed}"
    yield from _alarms(run.folder / "alarms.txt")
    for pattern, words in (
        ("nan-step-*", "a step was not finite: {}"),
        ("traceback-*.txt", "a process failed: {}"),
        ("unreadable.txt", "files were skipped: {}"),
    ):
        for path in sorted(run.folder.glob(pattern))[:5]:
            yield words.format(path.name)
