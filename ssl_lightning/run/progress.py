"""How fast a run goes, and where it stands: the data-wait meter and the progress line."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..distributed import reduce_sum
from .folder import run_name
from .lightning import updated
from .metrics import Metrics, log_metrics
from .standing import Standing

MEASURED_STEPS = 10
"""Steps after the first that the expected time is computed from."""


class Meter(Standing):
    """Samples a second, and the share of the time that the training waited for data, views
    included, since the last row.

    Logged as `speed/samples_per_s` and `speed/data_wait`, for views with padding also
    `speed/tokens_per_s`, places that are real, in the first view; written to `speed.csv`, for no
    two runs share a clock.

    Args:
        enabled: whether to run.
    """

    key = "meter"

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.reset()

    def reset(self) -> None:
        self.waited = 0.0
        self.samples = 0  # since the last row
        self.tokens: list[Tensor] = []  # of each batch since then
        self.seconds, self.all_samples = 0.0, 0  # of the run, over all resumptions
        self.samples_per_s = self.data_wait = 0.0
        self._ended = self._since = time.perf_counter()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.waited, self.samples, self.tokens = 0.0, 0, []
        self._ended = self._since = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        # Between the end of a step and the next batch other callbacks run: a checkpoint is written.
        self.waited += time.perf_counter() - getattr(trainer.train_dataloader, "asked", self._ended)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        size = getattr(trainer.datamodule, "batch_size", None)
        self.samples += size if size is not None else len(batch["views"][0].x) * trainer.world_size
        segment = batch["views"][0].segment if self.enabled and isinstance(batch, dict) and batch.get("views") else None
        if segment is not None:
            self.tokens.append((segment > 0).sum())
        if self.enabled and trainer.global_step % trainer.log_every_n_steps == 0 and updated(trainer):
            self.record(trainer)
        self._ended = time.perf_counter()

    def record(self, trainer: Any) -> None:
        """Writes the rates since the last call."""
        elapsed = time.perf_counter() - self._since
        self.samples_per_s = self.samples / elapsed
        self.data_wait = self.waited / elapsed
        values = {"speed/samples_per_s": self.samples_per_s, "speed/data_wait": self.data_wait}
        if self.tokens:
            values["speed/tokens_per_s"] = float(reduce_sum(torch.stack(self.tokens).sum())) / elapsed
        self.add_up()
        log_metrics(trainer, values, timing=True)

    def add_up(self) -> None:
        """Adds what was measured since the last row to the run's totals."""
        now = time.perf_counter()
        self.seconds, self.all_samples = self.seconds + now - self._since, self.all_samples + self.samples
        self.waited, self.samples, self.tokens, self._since = 0.0, 0, [], now

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.add_up()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds + time.perf_counter() - self._since, "samples": self.all_samples + self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.all_samples = state_dict["seconds"], state_dict["samples"]


class Progress(ProgressBar):
    """One line that says where the run stands: redrawn twice a second on a terminal, else printed
    ten times a run."""

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
        """Step, newest metrics, speed, time left."""
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
    """How many samples there are to pretrain on, and what the probes have to go by."""
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
    """Seconds as a person says them: `45 s`, `2 min 5 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def run_totals(trainer: Any) -> tuple[float, int]:
    """Seconds of training and samples so far, over all resumptions."""
    return next(
        ((callback.seconds, callback.all_samples) for callback in trainer.callbacks if isinstance(callback, Meter)),
        (0.0, 0),
    )


def rows_of(trainer: Any) -> list[dict[str, float]]:
    """The rows of `metrics.csv` so far."""
    return next((callback.table.rows for callback in trainer.callbacks if isinstance(callback, Metrics)), [])


def speed_of(trainer: Any) -> list[dict[str, float]]:
    """The rows of `speed.csv` so far."""
    return next((callback.speed.rows for callback in trainer.callbacks if isinstance(callback, Metrics)), [])
