"""How fast a run goes."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..distributed import reduce_sum, world_size
from .folder.metrics import log_metrics
from .lightning import updated
from .standing import Standing

ENOUGH = 2.0
"""Seconds of training from which a speed is known."""


class Meter(Standing):
    """Measures samples a second and the share of the time in which the training waited for data,
    views included, since the last row.

    They are logged as `speed/samples_per_s` and `speed/data_wait`; for views with padding also
    `speed/tokens_per_s`, which counts positions of the first view that are not padding. They go to
    a file of their own, `speed.csv`, since they differ between equal runs.

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
        self.tokens: list[Tensor] = []  # of each batch with padding since then
        self.unpadded = 0  # positions of the batches without
        self.seconds, self.all_samples = 0.0, 0  # of the run, over all resumptions
        self.samples_per_s = self.data_wait = 0.0
        self._ended = self._since = time.perf_counter()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.waited, self.samples, self.tokens, self.unpadded = 0.0, 0, [], 0
        self._ended = self._since = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        # Between the end of a step and the next batch other callbacks run: a checkpoint is written.
        self.waited += time.perf_counter() - getattr(trainer.train_dataloader, "requested_at", self._ended)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        size = getattr(trainer.datamodule, "batch_size", None)
        self.samples += size if size is not None else len(batch["views"][0].x) * trainer.world_size
        if self.enabled and isinstance(batch, dict) and batch.get("views"):
            x, segment = batch["views"][0][:2]
            if segment is None:
                self.unpadded += len(x) * x.shape[-1]
            else:
                self.tokens.append((segment > 0).sum())
        if self.enabled and trainer.global_step % trainer.log_every_n_steps == 0 and updated(trainer):
            self.record(trainer, pl_module.device)
        self._ended = time.perf_counter()

    def record(self, trainer: Any, device: torch.device) -> None:
        """The rates since the last call are logged. Whether a batch has padding may differ between
        processes, all of which take part in the sum."""
        now = time.perf_counter()
        elapsed = now - self._since
        self.samples_per_s = self.samples / elapsed
        self.data_wait = self.waited / elapsed
        values = {"speed/samples_per_s": self.samples_per_s, "speed/data_wait": self.data_wait}
        tokens, padded = self.positions(device)
        if padded:
            values["speed/tokens_per_s"] = tokens / elapsed
        self.add_up(now)
        log_metrics(trainer, values, timing=True)

    def positions(self, device: torch.device) -> tuple[int, int]:
        """Positions of all processes since the last row that are not padding, and the number of
        batches in which some are."""
        if not self.tokens and world_size() == 1:
            return 0, 0
        known = torch.tensor([self.unpadded, len(self.tokens)], device=device)
        if self.tokens:
            known[0] += torch.stack(self.tokens).sum()
        tokens, padded = reduce_sum(known).tolist()
        return tokens, padded

    def add_up(self, now: float) -> None:
        """What was measured since the last row is added to the run's totals."""
        self.seconds, self.all_samples = self.seconds + now - self._since, self.all_samples + self.samples
        self.waited, self.samples, self.tokens, self.unpadded, self._since = 0.0, 0, [], 0, now

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.add_up(time.perf_counter())

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds + time.perf_counter() - self._since, "samples": self.all_samples + self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.all_samples = state_dict["seconds"], state_dict["samples"]


def newest_speed(trainer: Any) -> tuple[float, float] | None:
    """Samples a second, and the share of the time in which the training waited for data: since the
    last row, or where that was a moment ago those of the row; None: there is no meter."""
    for meter in (callback for callback in trainer.callbacks if isinstance(callback, Meter) and callback.enabled):
        elapsed = time.perf_counter() - meter._since
        if meter.samples and (elapsed > ENOUGH or not meter.samples_per_s):
            return meter.samples / elapsed, meter.waited / elapsed
        return meter.samples_per_s, meter.data_wait
    return None


def run_totals(trainer: Any) -> tuple[float, int]:
    """The run has taken so many seconds of training and samples, over all resumptions."""
    return next(
        ((callback.seconds, callback.all_samples) for callback in trainer.callbacks if isinstance(callback, Meter)),
        (0.0, 0),
    )
