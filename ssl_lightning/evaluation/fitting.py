"""A training inside of a run's end: on labels, by one process alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..types import Batch
from .regression import OutOfTime

STEPS_MEASURED = 20
"""Steps of a fit from which its time is expected."""


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seeds the default generators, and restores their state afterwards; gradients are computed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


def descend(
    loss_of: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    steps: int,
    optimizer: Any,
    schedule: Any,
    trainer: Any,
    seconds: float = math.inf,
    accumulated: int = 1,
    clip: Callable[[Any], object] | None = None,
) -> None:
    """Takes optimizer steps on batches.

    Args:
        loss_of: the mean loss of a batch.
        batches: all equally large.
        steps: number of optimizer steps.
        optimizer, schedule: what `OptimizerSpec.build` returned.
        trainer: gives device and precision.
        seconds: that all of it may take.
        accumulated: number of batches whose mean gradient a step takes; the last step takes what is
            left.
        clip: clips the gradients of an optimizer.

    Raises:
        OutOfTime: the steps so far say that all of them would take longer.
    """
    scaler = torch.amp.GradScaler(trainer.strategy.root_device.type, enabled=trainer.precision == "16-mixed")
    started = time.monotonic()
    batches = iter(batches)
    for done in range(steps):
        if (time.monotonic() - started) * (steps / done if done > STEPS_MEASURED else 1) > seconds:
            raise OutOfTime
        optimizer.zero_grad()
        together = list(islice(batches, accumulated))
        for batch in together:
            scaler.scale(loss_of(batch) / len(together)).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            clip(optimizer)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
