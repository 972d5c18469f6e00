"""How a run stops after a signal: with a checkpoint, a line on how to go on, and no process left
behind."""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..checkpoints.saving import Checkpoint
from ..folder.folder import folder_of
from ..lightning import launched, only_waits, requeue_signal
from ..standing import Standing
from .signals import Listener, Stopped, current, listening, nothing
from .slurm import requeue

PATIENCE = 60.0
"""Seconds in which the processes that this one launched must have ended after it."""


class Stopping(Standing):
    """Stops training after the optimizer step in which a signal came to one of the processes, or
    before the closing table."""

    key = "stopping"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.listener = Listener()
        self.heard = 0
        self.trained = False
        """Whether no step is left to train."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.listener = current() or self.listener
        if multiprocessing.parent_process() is not None and self.listener is not current():
            self.listener.start()  # a process that Lightning has started for this run alone

    def vote(self, trainer: Any) -> int:
        """The signal that this process has noted, or 0."""
        return self.listener.noted or 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.listener.deferred = True

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.heard:
            return
        self.listener.release()
        stop = Stopped(self.heard)
        savers = checkpoints(trainer)
        if not savers:
            raise stop
        savers[-1].stop = stop

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        for saver in checkpoints(trainer):
            saver.on_train_end(trainer, pl_module)  # before the closing table, which takes its time
        self.trained, self.listener.deferred = True, False
        if signum := self.heard or self.listener.noted:
            raise Stopped(signum)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.trained = True  # also where none was left when the run was resumed


def checkpoints(trainer: Any) -> list[Checkpoint]:
    """The run's callbacks that write checkpoints."""
    return [each for each in trainer.callbacks if isinstance(each, Checkpoint) and each.enabled and each.folder]


@contextmanager
def stoppable(trainer: Any) -> Iterator[None]:
    """A run of a trainer that a signal stops, with a line on how to go on.

    Raises:
        Stopped: a signal came.
    """
    with listening() as listener:
        if warning := requeue_signal(trainer):
            listener.listen_to(warning)
        listener.release = lambda: listener.processes.extend(launched(trainer))
        listener.deferred = only_waits(trainer)
        try:
            yield
        except Stopped as stop:
            end(trainer, listener, stop)
            raise
        except Exception as error:
            if listener.noted is None:
                raise
            late = Stopped(listener.noted)  # as where the signal ended a worker, or another process
            end(trainer, listener, late, f" ({type(error).__name__}: {' '.join(str(error).split())})")
            raise late from error
        finally:
            listener.deferred, listener.release = False, nothing


def end(trainer: Any, listener: Listener, stop: Stopped, reason: str = "") -> None:
    """Says how to go on, puts a job back into SLURM's queue, and waits for launched processes."""
    listener.deferred = True
    listener.release()
    warned = trainer.state.fn == "fit" and stop.signum == requeue_signal(trainer)
    stop.tell(reason + how_to_go_on(trainer) + (requeue() if warned and trainer.is_global_zero else ""))
    until = time.monotonic() + PATIENCE
    for process in listener.processes:
        if isinstance(process, subprocess.Popen):
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def how_to_go_on(trainer: Any) -> str:
    """Where a stopped run stands, and what continues it."""
    if trainer.state.fn != "fit":
        return "; start it again with the same command."
    if only_waits(trainer):
        return "; the same command with --resume auto goes on from the newest checkpoint."
    savers = checkpoints(trainer)
    newest = (savers[-1].last if savers else None) or trainer.ckpt_path
    trained = any(isinstance(each, Stopping) and each.trained for each in trainer.callbacks)
    at = f"after the last step, {trainer.global_step:,}" if trained else f"at step {trainer.global_step:,}"
    if newest is None and trainer.global_step and not savers:
        return f" {at}; there is no checkpoint, since checkpoints are disabled."
    if newest is None:
        at = at if trainer.global_step else "before the first step"
        return f" {at}; start it again with the same command."
    folder = folder_of(newest)
    again = (
        f"the same command with --resume {folder or newest}"
        if trainer.config is not None
        else f"fit(..., ckpt_path={str(newest)!r})"
    )
    return f" {at}; the checkpoint is {newest}. {'The closing table' if trained else 'To go on'}: {again}."
