"""Whether an optimizer steps: in float16 a step whose gradients are not finite is skipped."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from pytorch_lightning.core.optimizer import LightningOptimizer
from torch.optim import Optimizer


class StepWatch:
    """Tells whether an optimizer steps while the watch is entered.

    A `torch.amp.GradScaler` finds the scale at which float16 gradients do not overflow by trying:
    it calls the optimizer only where they are finite. What follows the weights (a teacher, a
    queue) must not move without them.

        with StepWatch(optimizer) as watch:
            super().optimizer_step(...)
        if watch.stepped: ...

    Args:
        optimizer: of torch, or Lightning's wrapper of one. Any other is taken to have stepped.
        scaled: whether a scaler is there: the host reads what it saw. Otherwise an optimizer that
            is called is taken to have stepped.
    """

    def __init__(self, optimizer: Any, scaled: bool = True) -> None:
        self.scaled = scaled
        self.optimizer = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        self.stepped = not isinstance(self.optimizer, Optimizer)

    def __enter__(self) -> StepWatch:
        if isinstance(self.optimizer, Optimizer):
            self.hook = self.optimizer.register_step_post_hook(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self.optimizer, Optimizer):
            self.hook.remove()

    def _note(self, optimizer: Optimizer, *args: Any) -> None:
        # A fused optimizer that scales by itself is called in any case, and told what the scaler
        # saw: a scalar above 0 where a gradient is not finite.
        overflow = getattr(optimizer, "found_inf", None) if self.scaled else None
        self.stepped = self.stepped or overflow is None or not bool(overflow)
