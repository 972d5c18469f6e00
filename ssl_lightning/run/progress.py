"""Where a run stands, in a line."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from pytorch_lightning.callbacks import ProgressBar, Timer
from pytorch_lightning.utilities import rank_zero_only

from ..data.datamodule import SSLDataModule
from .folder.folder import run_name
from .meter import run_totals
from .standing import Standing

MEASURED_STEPS = 10
"""Steps after the first from which the expected time is computed."""
SECONDS_BETWEEN_STAGES = 2.0
"""Into a file, a stage after the training is printed at most so often."""


class Progress(ProgressBar):
    """One line says where the run stands: redrawn twice a second on a terminal, printed ten times a
    run into a file.

    It counts steps of the whole run and names figures of the probes. Lightning's bars count the
    batches of an epoch: of 400 steps in 100 epochs `TQDMProgressBar` leaves 1,100 lines in a file,
    and `RichProgressBar` one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._drawn = self._tenth = 0.0
        self._staged = -math.inf
        self._first_step = 0
        self._started = 0.0
        self._expected = False

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    @rank_zero_only
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._first_step, self._expected, self._tenth = trainer.global_step, False, 0.0
        if not self._enabled:
            return
        data, total = trainer.datamodule, steps_of(trainer)
        samples = _samples(data) if isinstance(data, SSLDataModule) else "your loaders"
        size = f", {data.batch_size} in a batch" if hasattr(data, "batch_size") else ""
        parameters = sum(parameter.numel() for parameter in pl_module.backbone.parameters())
        print(
            f"{run_name(pl_module, data)}: {samples}{size}, {total} steps ({trainer.num_training_batches:,} an"
            f" epoch); encoder {type(pl_module.backbone).__name__}, {parameters:,} parameters;"
            f" {trainer.strategy.root_device}, precision {trainer.precision}"
            + (f"; going on at step {self._first_step:,}" if self._first_step else "")
        )
        for name, part in data.ledgers().items() if isinstance(data, SSLDataModule) else ():
            print(*(f"{name}, {tally}" for tally in part), sep="\n")
        folder = getattr(trainer, "run_folder", None)
        if folder:
            print(f"run folder: {folder}")
        sys.stdout.flush()

    @rank_zero_only
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self._enabled:
            return
        now, done = time.monotonic(), trainer.global_step - self._first_step
        if done <= 1:
            self._started = now
        elif not self._expected and done > MEASURED_STEPS:
            self._expected = True
            allowed, left = seconds_allowed(trainer), self.seconds_left(trainer, now)
            steps = f"for the remaining {steps_of(trainer, trainer.global_step)} steps"
            until = "until max_time" if left > allowed else steps
            left = min(left, allowed)
            self._print(f"expected time: about {duration(left)} {until}{after(trainer, left)}")
        if sys.stdout.isatty():
            if now - self._drawn > 0.5:
                self._drawn = now
                sys.stdout.write("\r\x1b[K" + self.line(trainer, now)[:119])
                sys.stdout.flush()
        elif (share := done_of(trainer)) >= self._tenth + 0.1:
            self._tenth = int(share * 10 + 1e-9) / 10
            self._print(self.line(trainer, now))

    def stage(self, text: str) -> None:
        """Shows what goes on after the training; empty: it has ended."""
        if not self._enabled:
            return
        now = time.monotonic()
        if sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K" + text[:119])
            sys.stdout.flush()
        elif text and now - self._staged >= SECONDS_BETWEEN_STAGES:
            self._staged = now
            self._print(text)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._enabled and sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K")

    def line(self, trainer: Any, now: float) -> str:
        """The line holds step, newest metrics, speed, and time left."""
        parts = [f"step {trainer.global_step:,}/{steps_of(trainer)}"]
        values = trainer.callback_metrics
        if "train/loss" in values:
            parts.append(f"loss {float(values['train/loss']):.3f}")
        for name, title in (("probe/linear/top1", "linear"), ("probe/knn/top1", "kNN"), ("val/top1", "validation")):
            if name in values:
                parts.append(f"{title} {100 * float(values[name]):.1f} %")
        if "speed/samples_per_s" in values:
            parts.append(
                f"{float(values['speed/samples_per_s']):,.0f} samples/s, {100 * float(values['speed/data_wait']):.0f} %"
                " waiting for data"
            )
        if trainer.global_step - self._first_step > 1:
            left = min(self.seconds_left(trainer, now), seconds_allowed(trainer))
            parts.append(f"{duration(left)} left{after(trainer, left)}")
        return " | ".join(parts)

    def seconds_left(self, trainer: Any, now: float) -> float:
        """Seconds that the remaining steps take at the speed so far."""
        a_step = (now - self._started) / (trainer.global_step - self._first_step - 1)
        return float((trainer.estimated_stepping_batches - trainer.global_step) * a_step)

    def _print(self, text: str) -> None:
        sys.stdout.write(("\r\x1b[K" if sys.stdout.isatty() else "") + text + "\n")
        sys.stdout.flush()


def _samples(data: SSLDataModule) -> str:
    """The line names the samples to pretrain on, and the labels that the probes use."""
    splits = data.probe_splits()
    if data.supervised and splits is not None:
        return (
            f"{len(splits[0]):,} labelled samples of {data.num_classes} classes, {len(splits[1]):,} more for validation"
        )
    labels = (
        "no labels"
        if splits is None or splits[0].labels is None
        else f"{len(splits[0].labels.unique())} classes for the probes"
    )
    return f"{len(data.training_split):,} samples, {labels}"


def steps_of(trainer: Any, done: int = 0) -> str:
    """Number of steps of a run without those that are done, in digits."""
    total = trainer.estimated_stepping_batches
    return f"{total - done:,.0f}" if math.isfinite(total) else "?"


def after(trainer: Any, left: float) -> str:
    """Says what comes after a training that takes so many more seconds; empty where nothing
    does."""
    training = run_totals(trainer)[0] + left
    callbacks = [callback for callback in trainer.callbacks if isinstance(callback, Standing)]
    most = sum(callback.seconds_after(trainer, training) for callback in callbacks)
    return (f", then the table, at most {duration(most)}" if math.isfinite(most) else ", then the table") * bool(most)


def seconds_allowed(trainer: Any) -> float:
    """Seconds until `max_time` ends the training; infinite where it does not."""
    timers = (each.time_remaining() for each in trainer.callbacks if isinstance(each, Timer))
    return min((max(0.0, left) for left in timers if left is not None), default=math.inf)


def done_of(trainer: Any) -> float:
    """The part of a run that is done, by its steps or by `max_time`."""
    gone = max((each.time_elapsed() for each in trainer.callbacks if isinstance(each, Timer)), default=0.0)
    by_time = gone / max(gone + seconds_allowed(trainer), 1e-9)
    return max(by_time, float(trainer.global_step / trainer.estimated_stepping_batches))


def duration(seconds: float) -> str:
    """Seconds become what a person says: `45 s`, `2 min 5 s`, `3 h 20 min`."""
    if not math.isfinite(seconds):
        return "unlimited time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
