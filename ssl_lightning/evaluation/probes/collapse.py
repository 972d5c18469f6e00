"""Collapse monitor: do the embeddings still differ from each other, in more than a few
directions?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...distributed import gather
from ...nn.precision import where_double
from ...nn.spread import effective_rank, spread
from ...plugins.arguments import require
from ...run.lightning import updated
from ...run.metrics import log_metrics
from ...run.standing import Standing
from ...types import Alarm
from .base import at_end

SAMPLES = 256
"""The effective rank is that of at most this many embeddings of a batch, evenly spaced in it: the
eigenvalues for 256 of 768 values take 10 ms of the host's time, for 1,024 of 512 values 60 ms."""
REMEDY = (
    "Lower the learning rate or lengthen the warm-up, check that the two views differ (plots/views.png), and for"
    " methods without negatives that predictor, teacher and stop-gradient are in place"
)


class CollapseMonitor(Standing):
    """Measures how far the embeddings that the loss sees are spread, and gives `health` an alarm
    for each of the two measures.

    Logged as `collapse/std` (1 is spread evenly, 0 is collapsed) and `collapse/rank` (effective
    number of dimensions, of at most 256 samples). On an accelerator the values are computed while
    it works on the next step, so that an alarm that ends the run ends it one step later.

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
        self.reset()

    def reset(self) -> None:
        self.pending: Callable[[], dict[str, float]] | None = None
        """Gives the values of the last look, which are not logged yet."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.enabled or trainer.global_step % self.every_n_steps or not updated(trainer):
            return
        if outputs["embeddings"] is None:
            return
        with torch.no_grad(), torch.autocast(pl_module.device.type, enabled=False):
            embeddings = where_double(
                gather(outputs["embeddings"], pl_module.row_counts(outputs["embeddings"]))
            )  # [G, D]
            if len(embeddings) < 2:
                return
            some = embeddings[:: -(-len(embeddings) // SAMPLES)]
            self.pending = _Look(spread(embeddings), some)
        if not runs_ahead(pl_module.device) or at_end(trainer, batch_idx):
            self.log_pending(trainer)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.log_pending(trainer)  # the step's work is queued on the device: it is busy meanwhile

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log_pending(trainer)  # no further step may come

    def log_pending(self, trainer: Any) -> None:
        """Logs the values of the last look, if there are any that are not logged yet."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        values = pending()
        if math.isfinite(values["collapse/std"]):  # else the loss is NaN too, and its error says more
            log_metrics(trainer, values)

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        return [alarm.metric for alarm in self.alarms] if self.enabled else []

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pending is None else {"pending": self.pending()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "pending" in state_dict:
            self.pending = partial(dict, state_dict["pending"])


class _Look:
    """What a look needs of the embeddings, on its way to the host, which need not wait for it."""

    def __init__(self, std: Tensor, embeddings: Tensor) -> None:
        self.std, self.embeddings = (each.to("cpu", non_blocking=True) for each in (std, embeddings))
        copies = std.device.type != "cpu" and torch.accelerator.is_available()
        self.arrived = torch.accelerator.current_stream().record_event() if copies else None

    def __call__(self) -> dict[str, float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return {"collapse/std": float(self.std), "collapse/rank": float(effective_rank(self.embeddings))}


def runs_ahead(device: torch.device) -> bool:
    """Whether the host queues work for the device, and does not wait until it is done."""
    return device.type != "cpu"
