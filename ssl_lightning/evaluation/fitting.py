"""A training inside of a run's end: on labels, by one process alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
) -> None:
    """Takes an optimizer step on each batch.

    Args:
        loss_of: the loss of a batch.
        batches: as many as there are steps.
        steps: their number.
        optimizer, schedule: what `OptimizerSpec.build` returned.
        trainer: gives device and precision.
        seconds: that all of it may take.

    Raises:
        OutOfTime: the steps so far say that all of them would take longer.
    """
    scaler = torch.amp.GradScaler(trainer.strategy.root_device.type, enabled=trainer.precision == "16-mixed")
    started = time.monotonic()
    for done, batch in enumerate(batches):
        if (time.monotonic() - started) * (steps / done if done > STEPS_MEASURED else 1) > seconds:
            raise OutOfTime
        loss = loss_of(batch)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
