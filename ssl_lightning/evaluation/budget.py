"""How long the closing tables of a run may take, and how many samples are embedded in that time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from ..data.peek import BATCH
from ..run.meter import run_totals
from ..run.pace import seconds_until_end

Minutes = float | Literal["auto"]
LEAST = 45.0
"""Seconds that the tables of a run may take, however short its training was."""
SHARE = 0.5
"""The part of the training time that the tables may take, where that is more."""
EMBEDDING = 0.5
"""The part of the time that the features of all rows may take; probes need the rest."""
FEWEST = 250
"""No fewer samples of a split are embedded because of the time."""
ENOUGH = 0.5
"""Seconds of work from which its speed is known."""


def seconds_of(minutes: Minutes, training: float) -> float:
    """Seconds that the closing tables of a run may take; infinite without a limit.

    Args:
        minutes: the argument of `Report`.
        training: seconds that the training took.
    """
    if minutes == "auto":
        return max(LEAST, SHARE * training)
    return 60 * minutes or math.inf


def seconds_left(minutes: Minutes, trainer: Any) -> float:
    """Seconds that the closing tables may take now, at the end of a run's training: not longer than
    the run has.

    Args:
        minutes: the argument of `Report`.
        trainer: of the run.
    """
    return max(0.0, min(seconds_of(minutes, run_totals(trainer)[0]), seconds_until_end(trainer)))


class Budget:
    """The time of a run's closing tables: what one row leaves, the others have. Each process has a
    clock of its own; rank 0 decides.

    Args:
        seconds: of all tables together.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.ends = seconds, time.monotonic() + seconds
        self.rows = 1
        """Rows to come, with the present one."""

    @property
    def left(self) -> float:
        return max(0.0, self.ends - time.monotonic())

    def deadline(self) -> float:
        """The time on the monotonic clock at which the present row's probes shall have learned.
        Half of what is left is for the rows to come, which tell less."""
        return time.monotonic() + self.left / min(2, self.rows)


def seconds_a_sample(work: Callable[[Tensor], object], index: Tensor) -> float:
    """Measures some work, on more and more samples until it takes long enough to tell.

    Args:
        work: called with a part of the index.
        index: [M] samples, at least one.
    """
    most = min(BATCH, len(index))
    start, size, enough = 0, min(8, most), 4 * ENOUGH  # the first call has to get ready
    while True:
        part = index[start : start + size] if start + size <= len(index) else index[:size]
        began = time.monotonic()
        work(part)
        took = time.monotonic() - began
        if took > enough or (start and size == most):
            return took / size
        start, size, enough = start + size, min(2 * size, most), ENOUGH


def affordable(train: int, judged: int, cost: float, seconds: float) -> tuple[int, int]:
    """Number of training samples, and of samples to evaluate on, that are embedded in some time:
    all, or of both half as often as it takes, but not below `FEWEST`.

    Args:
        train: labelled training samples.
        judged: samples to evaluate on.
        cost: seconds that a sample takes, in all rows together.
        seconds: the time.
    """
    while cost * (train + judged) > seconds and max(train, judged) > FEWEST:
        train, judged = (max(min(size, FEWEST), size // 2) for size in (train, judged))
    return train, judged
