"""Collapse monitor: do the embeddings still differ from each other, in more than a few
directions?"""

from __future__ import annotations

import math
from typing import Any

import torch

from ...distributed import gather
from ...nn.precision import where_double
from ...nn.spread import effective_rank, spread
from ...plugins.arguments import require
from ...run.lightning import updated
from ...run.metrics import log_metrics
from ...run.standing import Standing
from ...types import Alarm

REMEDY = (
    "Lower the learning rate or lengthen the warm-up, check that the two views differ (plots/views.png), and for"
    " methods without negatives that predictor, teacher and stop-gradient are in place"
)


class CollapseMonitor(Standing):
    """Measures how far the embeddings that the loss sees are spread, and gives `health` an alarm
    for each of the two measures.

    Logged as `collapse/std` (1 is spread evenly, 0 is collapsed) and `collapse/rank` (effective
    number of dimensions).

    Args:
        enabled: whether to run.
        every_n_steps: optimizer steps between two looks.
        min_std: an alarm below this `collapse/std`.
        min_rank: an alarm below this `collapse/rank`. Features on a line were seen at up to 2.4
            behind a projection head that bends it, healthy encoders from their first step on at 30
            and more.
        patience: looks in a row that must be that low; None: as `health` says.
        stop: whether an alarm ends the run, after a checkpoint; None: as `health` says.

    Raises:
        ValueError: every_n_steps or patience is below 1.
    """

    key = "collapse"

    def __init__(
        self,
        enabled: bool = True,
        every_n_steps: int = 10,
        min_std: float = 0.05,
        min_rank: float = 2.5,
        patience: int | None = None,
        stop: bool | None = None,
    ) -> None:
        require(self, at_least=1, every_n_steps=every_n_steps, patience=patience)
        self.enabled, self.every_n_steps = enabled, every_n_steps
        causes = (
            ("std", min_std, "all samples get nearly the same embedding: complete collapse"),
            ("rank", min_rank, "the embeddings differ in few directions only: dimensional collapse"),
        )
        self.alarms = tuple(
            Alarm(name, cause, REMEDY, low=low, group="collapse", patience=patience, stop=stop)
            for name, low, cause in causes
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.enabled or trainer.global_step % self.every_n_steps or not updated(trainer):
            return
        if outputs["embeddings"] is None:
            return
        with torch.no_grad(), torch.autocast(pl_module.device.type, enabled=False):
            embeddings = where_double(gather(outputs["embeddings"]))  # [G, D]
            if len(embeddings) < 2:
                return
            std, rank = torch.stack((spread(embeddings), effective_rank(embeddings))).tolist()
        if math.isfinite(std):  # else the loss is NaN too, and its error says more
            log_metrics(trainer, {"collapse/std": std, "collapse/rank": rank})
