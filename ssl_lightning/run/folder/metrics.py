"""The metrics of a run: buffered on the device, written every n steps, under fixed names.

One `self.log` key costs 0.3 ms per step whatever `log_every_n_steps` is; appending a tensor to a
list costs a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.files.unwritable import explained
from ...distributed import reduce_means, world_size
from ...optim.finite import total_length
from ..failures import tolerated
from ..lightning import publish, updated
from ..loggers.show import commit
from ..standing import Standing
from .rows import Row, Table

Scalar = Tensor | float


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
    mean over those steps, as `train/loss`, `train/<part>` and `train/lr`, and the length of the
    last step's gradients before they are clipped, as `train/grad_norm`. The value of a step is the
    mean of its batches, accumulated or of several processes, by their weights. A step that was left
    out, since it was not finite, does not count.
    """

    key = "metrics"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.table = Table()
        self.speed = Table()
        self.step: list[dict[str, tuple[Scalar, Scalar | None]]] = []
        """Of the batches since the last optimizer step: values with their weights."""
        self.pending: dict[str, list[Scalar]] = {}
        self.weights: dict[str, list[Scalar | None]] = {}
        """Of the pending values, where the processes' may differ."""
        self.losses: tuple[str, ...] = ()
        """The values whose sum is the loss, where that is not one of them itself."""
        self.lengths: Sequence[Tensor] = ()
        """Of the last step's gradients: a row needs the length of all, other steps do not compute
        it."""
        self.norm: float | None = None
        """That length, where a checkpoint held it."""
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
        self.device, self.step = pl_module.device, []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        commit(trainer)  # now that all have logged what they log of the step before

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        logs = {name: (value, outputs["weight"]) for name, value in outputs["logs"].items()}
        self.step.append({**logs, **outputs["losses"]})
        self.losses = tuple(name for name in outputs["losses"] if name != "loss")
        if updated(trainer):
            step, self.step = self.step, []
            if not pl_module.left_out:
                self.take_up(step)
                self.lengths, self.norm = pl_module.gradient_lengths, None
        if trainer.global_step % trainer.log_every_n_steps == 0 and updated(trainer):
            self.flush(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.flush(trainer)
        commit(trainer)
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
        self.pending, self.weights = {}, {}
        means = torch.stack([steps.mean() for steps in pending.values()]).tolist()
        values = dict(zip((f"train/{name}" for name in pending), means, strict=True))
        values["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        if (norm := self.gradient_norm()) is not None:
            values["train/grad_norm"] = norm
        log_metrics(trainer, values)

    def gradient_norm(self) -> float | None:
        """The length of the last step's gradients; None: they were not looked at."""
        return float(total_length(self.lengths)) if self.lengths else self.norm

    def take_up(self, step: Sequence[Mapping[str, tuple[Scalar, Scalar | None]]]) -> None:
        """Adds the values of an optimizer step, from those of its batches."""
        for name in dict.fromkeys(name for batch in step for name in batch):
            values, weights = zip(*(batch[name] for batch in step if name in batch), strict=True)
            value, weight = values[0], weights[0]
            if len(values) > 1:
                shares = column(weights, self.device)
                weight = shares.sum()
                value = (column(values, self.device) * shares).sum() / weight.clamp(min=1e-12)
            self.pending.setdefault(name, []).append(value)
            self.weights.setdefault(name, []).append(weight)

    def reduced(self) -> dict[str, Tensor]:
        """The pending values by name: one value per step, the mean over processes. They are
        reduced before they are averaged over steps, so that a run that resumes from them averages
        the same values, with any number of processes."""
        if not self.pending:
            return {}
        values = {name: column(each, self.device) for name, each in self.pending.items()}
        if world_size() > 1:
            weights = {name: column(each, self.device) for name, each in self.weights.items()}
            sums = reduce_means(
                {("value", name): each * weights[name] for name, each in values.items()}
                | {("weight", name): each for name, each in weights.items()}
            )
            values = {
                name: each / sums["weight", name].clamp(min=1e-12)
                for (kind, name), each in sums.items()
                if kind == "value"
            }
        if self.losses:
            before = values.pop("loss", torch.empty(0, device=self.device))  # of steps before a resume
            since = torch.stack([values[name] for name in self.losses]).sum(dim=0)[len(before) :]
            values = {"loss": torch.cat([before, since]), **values}
        return values

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        return ("train/loss", "train/lr", "train/grad_norm", "train/")

    def state_dict(self) -> dict[str, Any]:
        pending = self.reduced()
        norm = self.gradient_norm() if pending else None
        return {"metrics": self.table.state(), "speed": self.speed.state(), "pending": pending, "gradient_norm": norm}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict
        self.pending = {name: list(values) for name, values in state_dict["pending"].items()}
        self.weights = {name: [None] * len(values) for name, values in self.pending.items()}
        self.lengths, self.norm = (), state_dict.get("gradient_norm")


def pending_loss(trainer: Any) -> float | None:
    """The mean loss of this process since the last row of metrics; None: no step came since. The
    host waits for the device."""
    metrics = next((callback for callback in trainer.callbacks if isinstance(callback, Metrics)), None)
    if metrics is None or not metrics.pending:
        return None
    names = metrics.losses or ("loss",)
    return sum(float(column(metrics.pending[name], metrics.device).mean()) for name in names)


def column(values: Iterable[Scalar | None], device: torch.device) -> Tensor:
    """Scalars as one vector [n], float32, on a device: tensors of any kind, and Python numbers;
    None is 1."""
    values = [1.0 if value is None else value for value in values]
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor(values, dtype=torch.float32, device=device)
    return torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device).detach() for value in values])


def rows_of(trainer: Any) -> list[Row]:
    """The rows of the run's `metrics.csv`; on the process that writes it."""
    return next((callback.table.all() for callback in trainer.callbacks if isinstance(callback, Metrics)), [])


def speed_of(trainer: Any) -> list[Row]:
    """The rows of the run's `speed.csv`; on the process that writes it."""
    return next((callback.speed.all() for callback in trainer.callbacks if isinstance(callback, Metrics)), [])
