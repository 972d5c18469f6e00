"""What one process knows and all must act on at the same step: a signal came, it is time for a
checkpoint."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ...distributed import world_size
from ..lightning import updated
from ..standing import Standing


class Votes(Standing):
    """Tells every process the highest `vote` among them, for each callback that has one, after each
    optimizer step: as `heard`.

    Nothing waits for it, neither the device nor another process: the numbers travel on the host, in
    a group of their own, while the next step is computed, and all processes read them at its end.
    So several processes hear one step late; a single one hears at once.
    """

    key = "votes"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.group: Any = None
        self.travelling: tuple[Any, Tensor] | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.voters = [callback for callback in trainer.callbacks if hasattr(callback, "vote")]
        if world_size() > 1:
            self.group = dist.new_group(backend="gloo")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if updated(trainer):
            self.hear()
            votes = [int(voter.vote(trainer)) for voter in self.voters]
            if self.group is None:
                self.deliver(votes)
            else:
                cast = torch.tensor(votes)
                self.travelling = dist.all_reduce(cast, dist.ReduceOp.MAX, self.group, async_op=True), cast

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.hear()
        if self.group is not None:
            dist.destroy_process_group(self.group)
        self.reset()

    def hear(self) -> None:
        """Delivers the votes of the step before, which have arrived: every process has computed a
        step since."""
        if self.travelling is not None:
            work, votes = self.travelling
            work.wait()
            self.deliver(votes.tolist())
        self.travelling = None

    def deliver(self, votes: list[int]) -> None:
        for voter, vote in zip(self.voters, votes, strict=True):
            voter.heard = vote
