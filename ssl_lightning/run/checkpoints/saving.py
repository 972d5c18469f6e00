"""When a run writes its checkpoints, and which of them stay."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.callbacks import Checkpoint as LightningCheckpoint
from pytorch_lightning.utilities import rank_zero_warn

from ...data.files.unwritable import Unwritable, explained
from ...distributed import on_first
from ...plugins.arguments import require
from ...plugins.messages import did_you_mean
from ..failures import Failures, tolerated
from ..lightning import updated
from ..standing import Standing
from .checkpoint import find_newest
from .names import PATTERN
from .retention import Retention


class Checkpoint(Standing, LightningCheckpoint):
    """Writes `checkpoints/step-<optimizer steps>.ckpt` in the run folder, after the probes of that
    step.

    Args:
        enabled: whether to write any.
        every_n_epochs: one on each n-th epoch's last step.
        minutes: and one when this many minutes passed since the last; 0 for none.
        keep: how many of the newest stay.
        keep_every_n_epochs: those of each n-th epoch stay besides; 0 for none.
        monitor: a metric, such as `probe/linear/top1`; the best by its last value stay besides.
        top: how many of the best.
        mode: whether the highest (`max`) or the lowest value (`min`) is the best; `auto`: the
            lowest, where the name of the metric says `loss`.
        on_error: what follows where a checkpoint, metrics or pictures cannot be written: the run
            stops, or warns and goes on (`warn`).
    """

    key = "checkpoint"

    def __init__(
        self,
        enabled: bool = True,
        every_n_epochs: int = 1,
        minutes: float = 10.0,
        keep: int = 2,
        keep_every_n_epochs: int = 0,
        monitor: str | None = None,
        top: int = 1,
        mode: Literal["auto", "min", "max"] = "auto",
        on_error: Literal["stop", "warn"] = "stop",
    ) -> None:
        if every_n_epochs < 1 or keep < 1 or keep_every_n_epochs < 0 or minutes < 0:
            raise ValueError(
                f"Checkpoint needs every_n_epochs >= 1, keep >= 1, keep_every_n_epochs >= 0 and minutes >= 0, got "
                f"{every_n_epochs}, {keep}, {keep_every_n_epochs}, {minutes}."
            )
        require(self, at_least=1, top=top)
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"Checkpoint(mode={mode!r}) must be auto, min or max.")
        if on_error not in ("stop", "warn"):
            raise ValueError(f"Checkpoint(on_error={on_error!r}) must be stop or warn.")
        self.enabled = enabled
        self.every_n_epochs = every_n_epochs
        self.minutes = minutes
        self.keep = keep
        self.keep_every_n_epochs = keep_every_n_epochs
        self.monitor, self.top, self.mode, self.on_error = monitor, top, mode, on_error
        self.reset()

    def reset(self) -> None:
        self.folder: Path | None = None  # set by the run folder
        self.last: Path | None = None
        self.failures = Failures(self.on_error)
        self.retention = Retention(self.keep, self.monitor, self.top, self.mode)
        self._named = False  # whether a value of `monitor` has been missed
        self._last_time = time.monotonic()
        self._saved_at = 0  # the optimizer step of the last checkpoint
        self.heard = 0  # whether `minutes` had passed on rank 0 (`Votes`)
        self.stop: BaseException | None = None
        """Raised after the next optimizer step and its checkpoint, which holds what the callbacks
        before this one did in that step."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._last_time, self._saved_at = time.monotonic(), trainer.global_step
        resumed = Path(trainer.ckpt_path).resolve() if trainer.ckpt_path else None
        if resumed and self.folder and resumed.parent == self.folder.resolve():
            self.last = resumed  # where no step is left, it is not written again, with the epochs counted otherwise

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not updated(trainer):
            return  # a run cannot go on from half an accumulated batch
        epoch, epoch_ends = trainer.current_epoch + 1, batch_idx + 1 == trainer.num_training_batches
        due = epoch_ends and (epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs)
        if due or trainer.global_step == trainer.max_steps or self.stop or self._late(trainer):
            self.save(
                trainer, keep=bool(self.keep_every_n_epochs) and epoch_ends and epoch % self.keep_every_n_epochs == 0
            )
        if self.stop:
            raise self.stop

    def vote(self, trainer: Any) -> bool:
        """Whether `minutes` have passed; of several processes rank 0 decides for all."""
        passed = time.monotonic() - self._last_time > 60 * self.minutes
        return bool(self.minutes) and trainer.is_global_zero and passed

    def _late(self, trainer: Any) -> bool:
        """Whether all have heard that `minutes` have passed since the last checkpoint; several
        processes hear what was said a step ago."""
        return bool(self.heard) and trainer.global_step > self._saved_at + (trainer.world_size > 1)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.last is None or self.last.name != PATTERN.format(step=trainer.global_step):
            self.save(trainer)  # stopped early: by a callback, or by max_time

    def save(self, trainer: Any, keep: bool = False) -> None:
        """Writes a checkpoint of this step, then removes those that need not stay; where it cannot
        be written, all stay.

        Raises:
            Unwritable: it cannot be written, and the run stops then.
        """
        if not self.enabled or self.folder is None:
            return
        self._look_for_monitor(trainer)
        name = self.retention.add(trainer.global_step, trainer.callback_metrics, keep)
        with tolerated(trainer):
            try:
                on_first(lambda: self._require_folder(name))
                trainer.save_checkpoint(self.folder / name, weights_only=False)
            except BaseException as error:
                self.retention.drop(name)
                if isinstance(error, Unwritable):
                    raise Unwritable(f"{error} {self._left()}", error.reason) from error
                raise
            finally:
                self._last_time, self._saved_at = time.monotonic(), trainer.global_step
            self.last = self.folder / name
            folder = self.folder
            on_first(lambda: self.retention.tidy(folder))

    def _require_folder(self, name: str) -> None:
        """A run folder that was removed is not made anew in silence."""
        assert self.folder
        with explained(self.folder / name):
            self.folder.stat()

    def _left(self) -> str:
        newest = find_newest(self.folder) if self.folder else None
        return f"The newest checkpoint is {newest.name}." if newest else "There is no checkpoint yet."

    def _look_for_monitor(self, trainer: Any) -> None:
        """Says once that there is no value yet to know the best by."""
        known = self._named or math.isfinite(self.retention.value)
        if self.monitor is None or known or self.monitor in trainer.callback_metrics:
            return
        self._named = True
        rank_zero_warn(
            f"No {self.monitor!r} is logged by step {trainer.global_step:,}, so that no checkpoint is kept as the best"
            f" by it (--checkpoint.monitor).{did_you_mean(self.monitor, trainer.callback_metrics)}"
        )

    @property
    def best_model_path(self) -> str:
        """The best checkpoint by `monitor`, of those that are there; empty: there is none."""
        best = self.retention.best
        return str(self.folder / best[0]) if self.folder and best else ""

    def state_dict(self) -> dict[str, Any]:
        return self.retention.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.retention.load(state_dict)
