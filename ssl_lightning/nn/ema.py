"""A slow copy of a module: the teacher of BYOL, MoCo, DINO and data2vec."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """Exponential moving average of a module's weights (Grill et al. 2020, arXiv 2006.07733,
    Section 3.1).

    Holds a float32 copy that takes no gradient; calling it calls the copy. Buffers (running means,
    counters) are copied.

    Args:
        module: what to follow; the copy starts equal to it.
        decay: share of the old value kept at the first update (the paper's tau_base).
        final: share kept at the end of training; the way there is a half cosine.

    Raises:
        ValueError: decay or final is outside [0, 1].
    """

    def __init__(self, module: nn.Module, decay: float = 0.996, final: float = 1.0) -> None:
        super().__init__()
        if not (0 <= decay <= 1 and 0 <= final <= 1):
            raise ValueError(
                f"EMA keeps a share between 0 and 1 of the old weights, got decay={decay} and final={final}."
            )
        self.decay, self.final = decay, final
        self._source = (module,)  # in a tuple, so that it is no submodule
        self.module = copy.deepcopy(module).float().requires_grad_(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def decay_at(self, progress: float) -> float:
        """tau = final - (final - decay) (cos(pi k / K) + 1) / 2 at progress k / K, which ends at
        1."""
        return self.final - (self.final - self.decay) * (math.cos(math.pi * min(progress, 1.0)) + 1) / 2

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Moves the copy towards the module it follows, once for each optimizer step.

        Args:
            progress: share of the training done, optimizer steps over their total, in [0, 1].

        Raises:
            TypeError: the copy was cast to half precision, where a step of 1 - decay is rounded
                away.
        """
        (source,) = self._source
        old: list[Tensor] = list(self.module.parameters())
        if any(mine.dtype in (torch.bfloat16, torch.float16) for mine in old):
            raise TypeError(
                "The EMA's weights were cast to half precision, where its small steps are lost; train with a mixed"
                " precision."
            )
        new = [parameter.to(mine) for mine, parameter in zip(old, source.parameters(), strict=True)]
        torch._foreach_lerp_(old, new, 1 - self.decay_at(progress))
        for mine, buffer in zip(self.module.buffers(), source.buffers(), strict=True):
            mine.copy_(buffer)
