"""Is the run healthy? Values that a method logs, between the bounds that it gives for them."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_warn

from ..distributed import reduce_mean
from .lightning import updated


class Health(Callback):
    """Raises an alarm that names cause and remedy where a value stays outside of the bounds that
    its method gives (`SSLMethod.alarms`).

    Args:
        enabled: whether to run.
        every_n_steps: optimizer steps between two looks.
        patience: looks in a row at which a value must be outside.
        stop: whether an alarm ends the run, after a checkpoint.
    """

    def __init__(self, enabled: bool = True, every_n_steps: int = 10, patience: int = 3, stop: bool = False) -> None:
        if every_n_steps < 1 or patience < 1:
            raise ValueError(
                f"Health needs every_n_steps and patience of at least 1, got {every_n_steps} and {patience}."
            )
        self.enabled, self.every_n_steps, self.patience, self.stop = enabled, every_n_steps, patience, stop
        self.outside: dict[str, int] = {}
        """Looks in a row at which each value was outside, and not below `patience` where that was
        said."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.enabled or trainer.global_step % self.every_n_steps or not updated(trainer):
            return
        alarms = [alarm for alarm in pl_module.alarms if alarm.name in outputs["logs"]]
        if not alarms:
            return
        logged = [
            torch.as_tensor(outputs["logs"][alarm.name], dtype=torch.float32, device=pl_module.device)
            for alarm in alarms
        ]
        values = reduce_mean(torch.stack(logged)).tolist()  # all processes then stop, or none
        for alarm, value in zip(alarms, values, strict=True):
            looks = self.outside.get(alarm.name, 0)
            if looks < self.patience:
                looks = self.outside[alarm.name] = 0 if alarm.healthy(value) else looks + 1
                if looks == self.patience:
                    rank_zero_warn(f"{type(pl_module).__name__}, step {trainer.global_step}: {alarm.sentence(value)}")
            if looks >= self.patience and self.stop:
                trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"outside": self.outside}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.outside = dict(state_dict["outside"])
