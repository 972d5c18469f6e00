"""How far runs came: state, steps, time, and the last values of their curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .recorded import PastRun

FACTS = ("steps", "seconds", "samples_per_s", "samples", "parameters")
"""Values of a summary that are shown first, by name."""


def last_values(runs: Sequence[PastRun]) -> dict[str, list[Any]]:
    """Steps, seconds, sizes, scores without labels, and the last finite value of each metric, of
    each run (None: it has none), by name."""
    values: dict[str, list[Any]] = {
        fact: [run.summary.get(fact, run.last_step if fact == "steps" else None) for run in runs] for fact in FACTS
    }
    for name in dict.fromkeys(name for run in runs for name in run.summary if name.startswith("label_free/")):
        values[name] = [run.summary.get(name) for run in runs]
    for name in dict.fromkeys(name for run in runs for name in run.curves):
        values[name] = [_last(run, name) for run in runs]
    return {name: each for name, each in values.items() if any(value is not None for value in each)}


def _last(run: PastRun, name: str) -> float | None:
    _, values = run.curves.get(name, ((), ()))
    return next((value for value in reversed(values) if math.isfinite(value)), None)
