"""What a run does where it cannot write: it stops, or warns and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_warn

from ..data.files.unwritable import Unwritable
from .standing import Standing

OnError = Literal["stop", "warn"]


class Failures:
    """What a run could not write, and what follows from it.

    Args:
        on_error: `stop`: the run ends with the error. `warn`: it goes on, and tries again at the
            next occasion.
    """

    def __init__(self, on_error: OnError) -> None:
        self.on_error, self.count = on_error, 0


def failures_of(trainer: Any) -> Failures:
    """The failures of a run, which its checkpoints' callback holds; without one it stops."""
    held = (getattr(callback, "failures", None) for callback in trainer.callbacks)
    return next((each for each in held if isinstance(each, Failures)), Failures("stop"))


@contextmanager
def tolerated(trainer: Any) -> Iterator[None]:
    """The run stops where something within cannot be written, or warns and goes on, as
    `--checkpoint.on_error` says.

    Raises:
        Unwritable: it stops.
    """
    try:
        yield
    except Unwritable as error:
        failures = failures_of(trainer)
        failures.count += 1
        if failures.on_error == "stop":
            raise
        rank_zero_warn(f"Step {trainer.global_step:,}: {error} The run goes on, and will try again.")
        for callback in trainer.callbacks:
            if isinstance(callback, Standing):
                with suppress(Unwritable):
                    callback.on_unwritable(trainer)
