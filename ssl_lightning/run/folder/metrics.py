"""The metrics of a run: buffered on the device, written every n steps, under fixed names.

One `self.log` key costs 0.3 ms per step whatever `log_every_n_steps` is; appending a tensor to a
list costs a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.files.unwritable import explained
from ...distributed import reduce_means
from ..failures import tolerated
from ..lightning import publish, updated
from ..standing import Standing
from .rows import Row, Table


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
        with tolerated(trainer), explained(Path(logger.save_dir or ".") / type(logger).__name__.lower()):
            logger.log_metrics(values, step=step)
    for callback in trainer.callbacks:
        if isinstance(callback, Metrics):
            with tolerated(trainer):
                (callback.speed if timing else callback.table).add(step, values)
        if isinstance(callback, Standing) and not timing:
            callback.on_logged(trainer, values)


class Metrics(Standing):
    """Collects the values that `step` returned and writes them every `log_every_n_steps` steps: the
    mean over those steps, reduced over processes, as `train/loss`, `train/<part>` and `train/lr`.
    A step that was left out, since it was not finite, does not count.
    """

    key = "metrics"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.table = Table()
        self.speed = Table()
        self.pending: dict[str, list[Tensor | float]] = {}
        self.counted: dict[str, int] = {}
        """Of each pending value, the number up to the last optimizer step."""
        self.device = torch.device("cpu")
        self.resumed: dict[str, Any] = {}

    def open(self, folder: Path, origin: Path | None) -> None:
        """Starts the files `metrics.csv` and `speed.csv`, on the process that writes.

        Args:
            folder: the run folder.
            origin: the run folder that the checkpoint lies in, if it lies in one.
        """
        for name, table in {"metrics": self.table, "speed": self.speed}.items():
            file = f"{name}.csv"
            table.open(folder / file, self.resumed.get(name, {}), origin and origin / file)

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
        if updated(trainer):
            if pl_module.left_out:
                cut = {name: values[: self.counted.get(name, 0)] for name, values in self.pending.items()}
                self.pending = {name: values for name, values in cut.items() if values}
            self.counted = {name: len(values) for name, values in self.pending.items()}
        if trainer.global_step % trainer.log_every_n_steps == 0 and updated(trainer):
            self.flush(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.flush(trainer)
        for table in (self.table, self.speed):
            with tolerated(trainer):
                table.write()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.on_train_end(trainer, pl_module)  # resumed from the last step's checkpoint: no step was left to train

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        for table in (self.table, self.speed):
            with suppress(OSError):  # what stopped the run is more important
                table.write()

    def flush(self, trainer: Any) -> None:
        """Writes the means of the pending values."""
        if not self.pending:
            return
        pending = self.reduced()
        self.pending, self.counted = {}, {}
        means = torch.stack([steps.mean() for steps in pending.values()]).tolist()
        values = dict(zip((f"train/{name}" for name in pending), means, strict=True))
        values["train/loss"] *= trainer.accumulate_grad_batches
        values["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        log_metrics(trainer, values)

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
        self.counted = {name: len(values) for name, values in self.pending.items()}


def column(values: Sequence[Tensor | float], device: torch.device) -> Tensor:
    """Scalars as one vector [n], float32, on a device: tensors of any kind, and Python numbers."""
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor(values, dtype=torch.float32, device=device)
    return torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device).detach() for value in values])


def rows_of(trainer: Any) -> list[Row]:
    """The rows of the run's `metrics.csv`; on the process that writes it."""
    return next((callback.table.all() for callback in trainer.callbacks if isinstance(callback, Metrics)), [])


def speed_of(trainer: Any) -> list[Row]:
    """The rows of the run's `speed.csv`; on the process that writes it."""
    return next((callback.speed.all() for callback in trainer.callbacks if isinstance(callback, Metrics)), [])
