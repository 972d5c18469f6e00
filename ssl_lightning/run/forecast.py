"""What a run will take, in words."""

from __future__ import annotations

import math
from typing import Any

from .meter import run_totals
from .pace import seconds_allowed
from .standing import Standing

LONG = 3 * 3600.0
"""Seconds of a run from which it is told how it can be made shorter."""


def steps_of(trainer: Any, done: int = 0) -> str:
    """Number of steps of a run without those that are done, in digits."""
    total = trainer.estimated_stepping_batches
    return f"{total - done:,.0f}" if math.isfinite(total) else "?"


def first_forecast(trainer: Any, seconds: float) -> str:
    """Says what a run will take, from its first step alone, which has more to do than the others;
    of a long run also how to make it short.

    Args:
        trainer: of the run.
        seconds: that the first step took.
    """
    steps = trainer.estimated_stepping_batches - trainer.global_step
    left = min(seconds * steps, seconds_allowed(trainer))
    line = f"the first step took {duration(seconds)}: at most about {duration(left)} to go{after(trainer, left)}"
    if not LONG < left < math.inf:
        return line
    return (
        f"{line}. --minutes 60 does all within an hour; a step takes less time with a smaller --model.encoder, smaller"
        " views or a smaller --data.batch_size, or on a GPU"
    )


def after(trainer: Any, left: float) -> str:
    """Says what comes after a training that takes so many more seconds; empty where nothing
    does."""
    training = run_totals(trainer)[0] + left
    callbacks = [callback for callback in trainer.callbacks if isinstance(callback, Standing)]
    most = sum(callback.seconds_after(trainer, training) for callback in callbacks)
    return (f", then the table, at most {duration(most)}" if math.isfinite(most) else ", then the table") * bool(most)


def duration(seconds: float) -> str:
    """Seconds become what a person says: `45 s`, `2 min 5 s`, `3 h 20 min`."""
    if not math.isfinite(seconds):
        return "unlimited time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
