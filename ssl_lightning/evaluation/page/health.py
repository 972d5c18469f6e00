"""What went wrong in runs, or might have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..comparison.last import last_values
from ..comparison.recorded import PastRun
from .curves import health_curves
from .writing import mark, paragraph, section, table, text


def health(names: Sequence[str], runs: Sequence[PastRun]) -> str:
    """The section of health: a line for each thing that happened, and the curves of what is
    watched."""
    rows = [
        [mark(number) + text(name), text("; ".join(_events(run)) or "nothing happened")]
        for number, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    note = paragraph("Standard deviation times the root of the dimension: 1 is spread evenly, 0 is collapsed.", "quiet")
    curves = health_curves(names, runs)
    return section("health", "Health", table(["", "what happened"], rows), note if curves else "", curves)


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
    for pattern, words in (
        ("nan-step-*", "a step was not finite: {}"),
        ("traceback-*.txt", "a process failed: {}"),
        ("unreadable.txt", "files were skipped: {}"),
    ):
        for path in sorted(run.folder.glob(pattern))[:5]:
            yield words.format(path.name)
