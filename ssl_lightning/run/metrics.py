"""The metrics of a run: buffered on the device, written every n steps, under fixed names.

One `self.log` key costs 0.3 ms per step whatever `log_every_n_steps` is; appending a tensor to a
list costs a microsecond.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.files.atomic import write_text
from ..distributed import reduce_means
from .lightning import publish, updated
from .standing import Standing

SECONDS_BETWEEN_WRITES = 1.0


def log_metrics(trainer: Any, values: dict[str, float], timing: bool = False) -> None:
    """Passes values of this step to every logger, to the run's metrics file, to standing callbacks,
    and to `trainer.callback_metrics`.

    Args:
        trainer: Lightning's Trainer, or ours.
        values: the values by name, the same on every process.
        timing: whether the values are times, which differ between equal runs: they are written to
            `speed.csv`.
    """
    step = trainer.global_step
    publish(trainer, values)
    for logger in trainer.loggers:
        logger.log_metrics(values, step=step)
    for callback in trainer.callbacks:
        if isinstance(callback, Metrics):
            (callback.speed if timing else callback.table).add(step, values)
        if isinstance(callback, Standing) and not timing:
            callback.on_logged(trainer, values)


class Table:
    """Rows of metrics by step, appended to a CSV file; a resumed run continues it from the step of
    its checkpoint."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.rows: list[dict[str, float]] = []
        self.columns = ["step"]
        self.written = self.header = 0  # rows and columns in the file
        self.due = 0.0  # the time on the monotonic clock from which rows are written again

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds values to the row of this step, and writes earlier rows at most once a second."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.write(len(self.rows))
            self.rows.append({"step": step})
        self.rows[-1].update(values)
        self.columns += [name for name in values if name not in self.columns]

    def write(self, rows: int | None = None) -> None:
        """Appends the rows that are not yet in the file; a new column rewrites the file.

        Args:
            rows: number of leading rows to write, if a write is due; None: all rows, at once.
        """
        if rows is None:
            rows = len(self.rows)
        elif time.monotonic() < self.due:
            return
        if self.path is None or rows <= self.written:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        if len(self.columns) > self.header:
            writer.writeheader()
            writer.writerows(self.rows[:rows])
            write_text(self.path, text.getvalue())
        else:
            writer.writerows(self.rows[self.written : rows])
            with self.path.open("a") as file:
                file.write(text.getvalue())
        self.written, self.header, self.due = rows, len(self.columns), time.monotonic() + SECONDS_BETWEEN_WRITES

    def state(self) -> dict[str, list[float | None]]:
        """The state for a checkpoint: every column, with None where a row has no value."""
        return {name: [row.get(name) for row in self.rows] for name in self.columns}

    def open(self, path: Path | None, state: dict[str, list[float | None]]) -> None:
        """Continues from a checkpoint's `state`, in a new file: rows that a killed process wrote
        after the checkpoint are discarded."""
        rows = [
            {name: value for name, value in zip(state, values, strict=True) if value is not None}
            for values in zip(*state.values(), strict=True)
        ]
        self.path, self.rows, self.columns = path, rows, list(state) or ["step"]
        self.written, self.header, self.due = 0, 0, 0.0
        self.write(len(self.rows) - 1)


class Metrics(Standing):
    """Collects the values that `step` returned and writes them every `log_every_n_steps` steps: the
    mean over those steps, reduced over processes, as `train/loss`, `train/<part>` and `train/lr`.

    Stops a run whose loss is no longer finite.
    """

    key = "metrics"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.table = Table()
        self.speed = Table()
        self.pending: dict[str, list[Tensor | float]] = {}
        self.device = torch.device("cpu")
        self.resumed: dict[str, Any] = {}

    def open(self, folder: Path | None) -> None:
        """Starts the files `metrics.csv` and `speed.csv` in the run folder (on the process that
        writes)."""
        self.table.open(folder / "metrics.csv" if folder else None, self.resumed.get("metrics", {}))
        self.speed.open(folder / "speed.csv" if folder else None, self.resumed.get("speed", {}))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.device = pl_module.device

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Lightning divides the loss by the number of accumulated batches.
        weight = outputs.get("weight")
        self.pending.setdefault("loss", []).append(
            outputs["loss"] if weight is None else outputs["loss"] / weight.clamp(min=1e-12)
        )
        for name, value in outputs["logs"].items():
            self.pending.setdefault(name, []).append(value)
        if trainer.global_step % trainer.log_every_n_steps == 0 and updated(trainer):
            self.flush(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.flush(trainer)
        self.table.write()
        self.speed.write()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.on_train_end(trainer, pl_module)  # resumed from the last step's checkpoint: no step was left to train

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.table.write()
        self.speed.write()

    def flush(self, trainer: Any) -> None:
        """Writes the means of the pending values.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        if not self.pending:
            return
        pending = self.reduced()
        self.pending = {}
        means = torch.stack([steps.mean() for steps in pending.values()]).tolist()
        values = dict(zip((f"train/{name}" for name in pending), means, strict=True))
        values["train/loss"] *= trainer.accumulate_grad_batches
        values["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        log_metrics(trainer, values)
        if not math.isfinite(values["train/loss"]):
            raise FloatingPointError(
                f"The loss is {values['train/loss']} at step {trainer.global_step}. Try a lower learning rate, a longer"
                " warm-up, --trainer.gradient_clip_val 1.0 or --trainer.precision 32; the newest checkpoint is from"
                " before."
            )

    def reduced(self) -> dict[str, Tensor]:
        """The pending values by name: one value per batch, the mean over processes. They are
        reduced before they are averaged over batches, so that a run that resumes from them averages
        the same values, with any number of processes."""
        if not self.pending:
            return {}
        return reduce_means({name: column(values, self.device) for name, values in self.pending.items()})

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        return ("train/loss", "train/lr", "train/")

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.table.state(), "speed": self.speed.state(), "pending": self.reduced()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict
        self.pending = {name: list(values) for name, values in state_dict["pending"].items()}


def column(values: Sequence[Tensor | float], device: torch.device) -> Tensor:
    """Scalars as one vector [n], float32, on a device: tensors of any kind, and Python numbers."""
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor(values, dtype=torch.float32, device=device)
    return torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device).detach() for value in values])


def rows_of(trainer: Any) -> list[dict[str, float]]:
    """The run has written these rows to `metrics.csv`."""
    return next((callback.table.rows for callback in trainer.callbacks if isinstance(callback, Metrics)), [])


def speed_of(trainer: Any) -> list[dict[str, float]]:
    """The run has written these rows to `speed.csv`."""
    return next((callback.speed.rows for callback in trainer.callbacks if isinstance(callback, Metrics)), [])
