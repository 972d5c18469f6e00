"""When a run writes its checkpoints, and which of them stay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Checkpoint as LightningCheckpoint

from .checkpoint import PATTERN
from .lightning import updated
from .standing import Standing


class Checkpoint(Standing, LightningCheckpoint):
    """Writes `checkpoints/step-<optimizer steps>.ckpt` in the run folder, after the probes of that
    step.

    Args:
        enabled: whether to write any.
        every_n_epochs: one on each n-th epoch's last step.
        minutes: and one when this many minutes passed since the last; 0 for none.
        keep: how many of the newest stay.
        keep_every_n_epochs: those of each n-th epoch stay besides; 0 for none.
    """

    key = "checkpoint"

    def __init__(
        self,
        enabled: bool = True,
        every_n_epochs: int = 1,
        minutes: float = 10.0,
        keep: int = 2,
        keep_every_n_epochs: int = 0,
    ) -> None:
        if every_n_epochs < 1 or keep < 1 or keep_every_n_epochs < 0 or minutes < 0:
            raise ValueError(
                f"Checkpoint needs every_n_epochs >= 1, keep >= 1, keep_every_n_epochs >= 0 and minutes >= 0, got "
                f"{every_n_epochs}, {keep}, {keep_every_n_epochs}, {minutes}."
            )
        self.enabled = enabled
        self.every_n_epochs = every_n_epochs
        self.minutes = minutes
        self.keep = keep
        self.keep_every_n_epochs = keep_every_n_epochs
        self.reset()

    def reset(self) -> None:
        self.folder: Path | None = None  # set by the run folder
        self.last: Path | None = None
        self._kept: set[Path] = set()
        self._kept_names: list[str] = []
        self._last_time = time.monotonic()
        self._saved_at = 0  # the optimizer step of the last checkpoint
        self.heard = 0  # whether `minutes` had passed on rank 0 (`Votes`)
        self.stop: BaseException | None = None
        """Raised after the next optimizer step and its checkpoint, which holds what the callbacks
        before this one did in that step."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._last_time, self._saved_at = time.monotonic(), trainer.global_step
        if self.folder is not None:
            self._kept = {self.folder / name for name in self._kept_names}

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
        """Writes a checkpoint of this step, then removes those that need not stay."""
        if not self.enabled or self.folder is None:
            return
        path = self.folder / PATTERN.format(step=trainer.global_step)
        self._kept |= {path} if keep else set()
        trainer.save_checkpoint(path, weights_only=False)
        self.last, self._last_time, self._saved_at = path, time.monotonic(), trainer.global_step
        if trainer.is_global_zero:
            older = sorted(set(self.folder.glob("step-*.ckpt")) - self._kept - {path}, reverse=True)
            for old in older[self.keep - 1 :]:
                old.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": sorted(path.name for path in self._kept)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._kept_names = list(state_dict["kept"])
