"""Validation of a supervised run: when it is run, when the run stops early, and which weights it
ends with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.sources import Source
from ..run.folder.metrics import log_metrics
from ..run.lightning import stopping, updated
from ..run.standing import Standing


class Validation(Standing):
    """Evaluates the network once per pass over the labels, keeps the weights with the lowest loss,
    and ends the run with them.

    It runs right after the update and before the checkpoint of that step, so the checkpoint holds
    its whole state. Logged as `val/loss` and `val/top1`.

    Args:
        patience: passes without a lower loss after which the run stops; 0: never.
    """

    key = "validation"

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.source: Source | None = None
        self.loss, self.step, self.waited = math.inf, 0, 0  # the lowest loss, its optimizer step, the passes since
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        data = trainer.datamodule
        self.source = data.labelled_samples("val") if isinstance(data, SSLDataModule) and pl_module.supervised else None
        if self.patience and self.waited >= self.patience:
            trainer.should_stop = True  # resumed from the checkpoint of a run that had stopped

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.source is None or not updated(trainer):
            return
        step = trainer.global_step
        ends = step >= trainer.estimated_stepping_batches or stopping(trainer)
        steps_a_pass = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        if ends or step % steps_a_pass == 0:
            self.look(trainer, pl_module, step)
        if self.patience and self.waited >= self.patience:
            trainer.should_stop = True
        if ends or stopping(trainer):
            for name, tensor in _changing(pl_module).items():
                tensor.copy_(self.weights[name])

    def look(self, trainer: Any, pl_module: Any, step: int) -> None:
        loss, top1 = pl_module.judge(trainer.datamodule, self.source, trainer.precision_plugin.forward_context)
        log_metrics(trainer, {"val/loss": loss, "val/top1": top1})
        if loss < self.loss or not self.weights:
            self.loss, self.step, self.waited = loss, step, 0
            self.weights = {name: tensor.cpu().clone() for name, tensor in _changing(pl_module).items()}
        else:
            self.waited += 1

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        return ("val/loss", "val/top1")

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "step": self.step, "waited": self.waited, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss, self.step, self.waited = state_dict["loss"], state_dict["step"], state_dict["waited"]
        self.weights = dict(state_dict["weights"])


def _changing(module: nn.Module) -> dict[str, Tensor]:
    """Everything in a module's state but frozen parameters."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor.detach() for name, tensor in module.state_dict().items() if name not in frozen}
