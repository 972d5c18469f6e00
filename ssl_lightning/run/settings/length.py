"""Whether a run is long enough for what its settings set going."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

from ...nn.ema import EMA
from ...optim.configure import samples_a_step
from ...plugins.arguments import argument_defaults
from ..standing import Standing

STALE = 0.5
"""A slow encoder that ends with more than this share of its first, random weights has taught
little else."""


def check_length(trainer: Any, method: Any) -> None:
    """Warns, in one line before the first step, of settings that a run is too short for."""
    short = [*too_short(trainer, method), *stale(trainer, method)]
    if short:
        steps = int(trainer.estimated_stepping_batches)
        rank_zero_warn(
            f"{type(method).__name__}: this run of {steps:,} steps is too short for {'; '.join(short)}. Lower them, or"
            " train longer."
        )


def too_short(trainer: Any, method: Any) -> Iterator[str]:
    """The settings that the run ends before, with the steps that they need."""
    total = trainer.estimated_stepping_batches
    an_epoch = max(1.0, trainer.num_training_batches / trainer.accumulate_grad_batches)
    for need in method.needs:
        start, samples = need.epochs * an_epoch, samples_a_step(method.optimizer_spec, trainer) * total
        if start >= total or need.samples > samples:
            steps = max(start, need.samples * total / samples)
            yield f"{need.setting} ({math.ceil(steps):,} steps)"
    for callback in trainer.callbacks:
        period = getattr(callback, "every_n_steps", None)
        if not isinstance(callback, Standing) or not isinstance(period, int) or not getattr(callback, "enabled", True):
            continue
        if period > total and period != argument_defaults(type(callback)).get("every_n_steps"):
            yield f"{callback.key}.every_n_steps={period} ({period:,} steps)"


def stale(trainer: Any, method: Any) -> Iterator[str]:
    """The slow encoders that hardly move in a run, with the share of their first weights that they
    keep."""
    steps = int(trainer.estimated_stepping_batches)
    for teacher in method.teachers:
        share = kept(teacher, steps)
        if share > STALE:
            yield f"its slow encoder (decay {teacher.decay:g}), which keeps {100 * share:.0f} % of its first weights"


def kept(teacher: EMA, steps: int) -> float:
    """The share of its first weights that a slow encoder has after so many updates, to within the
    mean of 1,000 of them."""
    points = min(steps, 1_000)
    decays = [teacher.decay_at(point / points) for point in range(points)]
    return math.exp(steps / points * sum(map(math.log, decays))) if points and all(decays) else 0.0
