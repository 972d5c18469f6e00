"""Collapse monitor: do the embeddings still differ from each other, in more than a few
directions?"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_warn

from ...distributed import gather
from ...nn.spread import effective_rank, spread
from ...run.lightning import updated
from ...run.metrics import log_metrics


class CollapseMonitor(Callback):
    """Watches the embeddings that the loss sees, and raises an alarm that names cause and remedy.

    Logged as `collapse/std` (1 is spread evenly, 0 is collapsed) and `collapse/rank` (effective
    number of dimensions).

    Args:
        enabled: whether to run.
        every_n_steps: optimizer steps between two looks.
        min_std: an alarm below this `collapse/std`.
        min_rank: an alarm below this `collapse/rank`. Features on a line were seen at up to 2.4
            behind a projection head that bends it, healthy encoders from their first step on at 30
            and more.
        patience: looks in a row that must be that low.
        stop: whether an alarm ends the run, after a checkpoint.
    """

    def __init__(
        self,
        enabled: bool = True,
        every_n_steps: int = 10,
        min_std: float = 0.05,
        min_rank: float = 2.5,
        patience: int = 3,
        stop: bool = False,
    ) -> None:
        if every_n_steps < 1 or patience < 1:
            raise ValueError(
                f"CollapseMonitor needs every_n_steps and patience of at least 1, got {every_n_steps} and {patience}."
            )
        self.enabled = enabled
        self.every_n_steps, self.min_std, self.min_rank, self.patience, self.stop = (
            every_n_steps,
            min_std,
            min_rank,
            patience,
            stop,
        )
        self.low = 0
        self.alarmed = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.enabled or trainer.global_step % self.every_n_steps or not updated(trainer):
            return
        if outputs["embeddings"] is None:
            return
        with torch.no_grad(), torch.autocast(pl_module.device.type, enabled=False):
            embeddings = gather(outputs["embeddings"])  # [G, D]
            if len(embeddings) < 2:
                return
            std, rank = torch.stack((spread(embeddings), effective_rank(embeddings))).tolist()
        log_metrics(trainer, {"collapse/std": std, "collapse/rank": rank})
        self.low = self.low + 1 if std < self.min_std or rank < self.min_rank else 0
        if self.low == self.patience and not self.alarmed:
            self.alarmed = True
            rank_zero_warn(self.verdict(trainer, std, rank))
        if self.alarmed and self.stop:
            trainer.should_stop = True

    def verdict(self, trainer: Any, std: float, rank: float) -> str:
        """What is wrong and what to do, in two sentences."""
        name = type(trainer.lightning_module).__name__
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        if std < self.min_std:
            cause = (
                f"all samples get nearly the same embedding (collapse/std {std:.3f}, healthy is near 1): complete"
                " collapse"
            )
        else:
            cause = f"the embeddings differ in about {rank:.1f} directions only (collapse/rank): dimensional collapse"
        return (
            f"{name}, step {trainer.global_step}: {cause}. Lower the learning rate (now {lr:.2g}) or lengthen the"
            " warm-up, check that the two views differ (plots/views.png), and for methods without negatives that"
            " predictor, teacher and stop-gradient are in place."
        )

    def state_dict(self) -> dict[str, Any]:
        return {"low": self.low, "alarmed": self.alarmed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.low, self.alarmed = state_dict["low"], state_dict["alarmed"]
