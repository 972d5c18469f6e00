"""Where a run stands, in a line."""

from __future__ import annotations

import sys
import time
from typing import Any

from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities import rank_zero_only

from ..data.datamodule import SSLDataModule
from .folder import run_name

MEASURED_STEPS = 10
"""Steps after the first from which the expected time is computed."""


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
        data, total = trainer.datamodule, int(trainer.estimated_stepping_batches)
        samples = _samples(data) if isinstance(data, SSLDataModule) else "your loaders"
        size = f", {data.batch_size} in a batch" if hasattr(data, "batch_size") else ""
        parameters = sum(parameter.numel() for parameter in pl_module.backbone.parameters())
        print(
            f"{run_name(pl_module, data)}: {samples}{size}, {total:,} steps ({trainer.num_training_batches:,} an"
            f" epoch); encoder {type(pl_module.backbone).__name__}, {parameters:,} parameters;"
            f" {trainer.strategy.root_device}, precision {trainer.precision}"
            + (f"; going on at step {self._first_step:,}" if self._first_step else "")
        )
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
            left = (trainer.estimated_stepping_batches - trainer.global_step) * (now - self._started) / (done - 1)
            self._print(
                f"expected time: about {duration(left)} for the remaining"
                f" {trainer.estimated_stepping_batches - trainer.global_step:,.0f} steps"
            )
        share = trainer.global_step / trainer.estimated_stepping_batches
        if sys.stdout.isatty():
            if now - self._drawn > 0.5:
                self._drawn = now
                sys.stdout.write("\r\x1b[K" + self.line(trainer, now)[:119])
                sys.stdout.flush()
        elif share >= self._tenth + 0.1:
            self._tenth = int(share * 10 + 1e-9) / 10
            self._print(self.line(trainer, now))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._enabled and sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K")

    def line(self, trainer: Any, now: float) -> str:
        """The line holds step, newest metrics, speed, and time left."""
        total = int(trainer.estimated_stepping_batches)
        parts = [f"step {trainer.global_step:,}/{total:,}"]
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
        done = trainer.global_step - self._first_step
        if done > 1:
            parts.append(f"{duration((total - trainer.global_step) * (now - self._started) / (done - 1))} left")
        return " | ".join(parts)

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


def duration(seconds: float) -> str:
    """Seconds become what a person says: `45 s`, `2 min 5 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
