"""Where a run stands, in a line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities import rank_zero_only

from ..data.datamodule import SSLDataModule
from .folder.folder import run_name
from .folder.metrics import pending_loss
from .forecast import after, duration, first_forecast, steps_of
from .heartbeat import Heartbeat
from .lightning import updated
from .meter import newest_speed
from .pace import done_of, seconds_allowed

MEASURED_STEPS, MEASURED_SECONDS = 10, 30.0
"""Steps after the first, or their seconds, from which the expected time is computed."""
SLOW = 2.0
"""Seconds of a first step from which it is told at once what the run will take."""
PROBES = {"probe/linear/top1": "linear", "probe/knn/top1": "kNN", "val/top1": "validation"}
"""Metrics of the line, and what they are called there."""
QUIET, SHARE = 60.0, 0.25
"""Into a file, the next line is printed after so many seconds, or this part of those gone, at the
latest."""
SECONDS_BETWEEN_STAGES = 2.0
"""Into a file, a stage after the training is printed at most so often."""


class Progress(ProgressBar):
    """One line says where the run stands: redrawn twice a second on a terminal; into a file printed
    ten times a run, and at least once a minute at first, then more and more seldom.

    It counts steps of the whole run and names figures of the probes. Lightning's bars count the
    batches of an epoch: of 400 steps in 100 epochs `TQDMProgressBar` leaves 1,100 lines in a file,
    and `RichProgressBar` one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._drawn = self._tenth = self._printed = 0.0
        self._staged = -math.inf
        self._first_step = self._printed_step = 0
        self._began = self._started = 0.0
        self._expected = False
        self._shown: dict[str, Any] = {}
        """The probes' figures of the last printed line."""
        self.heartbeat = Heartbeat(self._alive)

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    @contextmanager
    def within(self, trainer: Any) -> Iterator[None]:
        """A run that says what it is at as long as it has not taken a step."""
        if self._enabled and trainer.is_global_zero:
            self.heartbeat.start("opening the data")
        try:
            yield
        finally:
            self.heartbeat.stop()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.heartbeat.doing = "getting ready"

    @rank_zero_only
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._first_step, self._expected, self._tenth = trainer.global_step, False, 0.0
        self._began = self._printed = time.monotonic()
        self._printed_step, self._shown = trainer.global_step, {}
        self.heartbeat.doing = "the first step"
        if not self._enabled:
            return
        data, total = trainer.datamodule, trainer.estimated_stepping_batches
        steps = f"{total:,} steps" if math.isfinite(total) else "as many steps as the time allows"
        samples = _samples(data) if isinstance(data, SSLDataModule) else "your loaders"
        size = f", {data.batch_size} in a batch" if hasattr(data, "batch_size") else ""
        parameters = sum(parameter.numel() for parameter in pl_module.backbone.parameters())
        print(
            f"{run_name(pl_module, data)}: {samples}{size}, {steps} ({trainer.num_training_batches:,} an"
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
        if not self._enabled or not updated(trainer):
            return
        now, done = time.monotonic(), trainer.global_step - self._first_step
        if done <= 1:
            self._started = now
            self.heartbeat.stop()
            if now - self._began > SLOW and trainer.global_step < trainer.estimated_stepping_batches:
                self._print(first_forecast(trainer, now - self._began))
        elif not self._expected and (done > MEASURED_STEPS or (done > 2 and now - self._started > MEASURED_SECONDS)):
            self._expected = True
            allowed, left = seconds_allowed(trainer), self.seconds_left(trainer, now)
            steps = f"for the remaining {steps_of(trainer, trainer.global_step)} steps"
            until = "until the time is over" if left > allowed else steps
            left = min(left, allowed)
            self._print(f"expected time: about {duration(left)} {until}{after(trainer, left)}")
        if sys.stdout.isatty():
            if now - self._drawn > 0.5:
                self._drawn = now
                sys.stdout.write("\r\x1b[K" + self.line(trainer, now)[:119])
                sys.stdout.flush()
        elif (share := done_of(trainer)) >= self._tenth + 0.1 or now - self._printed > max(
            QUIET, SHARE * (now - self._began)
        ):
            self._tenth = int(share * 10 + 1e-9) / 10
            self._print_line(trainer, now)

    def stage(self, text: str) -> None:
        """Shows what goes on after the training; empty: it has ended."""
        if not self._enabled:
            return
        self._print_last()
        self._show(text)

    def _show(self, text: str) -> None:
        now = time.monotonic()
        if sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K" + text[:119])
            sys.stdout.flush()
        elif text and now - self._staged >= SECONDS_BETWEEN_STAGES:
            self._staged = now
            self._print(text)

    @rank_zero_only
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._enabled and sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K")
        elif self._enabled:
            self._print_last()

    def _print_last(self) -> None:
        """Prints the line of a run's last step into a file, where it was not printed: the run ended
        before the steps that were planned."""
        if not sys.stdout.isatty() and self.trainer.global_step > self._printed_step:
            self._print_line(self.trainer, time.monotonic())

    def _print_line(self, trainer: Any, now: float) -> None:
        """Prints the line into a file, with those figures of probes that are new since the last."""
        self._printed, self._printed_step = now, trainer.global_step
        self._print(self.line(trainer, now, self._shown))
        self._shown = {name: trainer.callback_metrics.get(name) for name in PROBES}

    def line(self, trainer: Any, now: float, known: Mapping[str, Any] | None = None) -> str:
        """The line holds step, newest metrics, speed, and time left.

        Args:
            trainer: of the run.
            now: on the monotonic clock.
            known: the probes' figures that need not be said again.
        """
        parts = [f"step {trainer.global_step:,}/{steps_of(trainer)}"]
        values = trainer.callback_metrics
        loss = pending_loss(trainer)
        if loss is not None or "train/loss" in values:
            parts.append(f"loss {float(values['train/loss']) if loss is None else loss:.3f}")
        for name, title in PROBES.items():
            if name in values and values[name] is not (known or {}).get(name):
                parts.append(f"{title} {100 * float(values[name]):.1f} %")
        if speed := newest_speed(trainer):
            parts.append(f"{speed[0]:,.0f} samples/s, {100 * speed[1]:.0f} % waiting for data")
        if trainer.global_step - self._first_step > 1:
            left = min(self.seconds_left(trainer, now), seconds_allowed(trainer))
            parts.append(f"{duration(left)} left{after(trainer, left)}")
        return " | ".join(parts)

    def seconds_left(self, trainer: Any, now: float) -> float:
        """Seconds that the remaining steps take at the speed so far."""
        a_step = (now - self._started) / (trainer.global_step - self._first_step - 1)
        return float((trainer.estimated_stepping_batches - trainer.global_step) * a_step)

    def _alive(self, doing: str, seconds: float) -> None:
        self._show(f"{doing}: {duration(seconds)} so far")

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
