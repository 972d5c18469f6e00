"""A slow copy of a module serves as the teacher of BYOL, MoCo, DINO and data2vec."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ..plugins.arguments import require
from .precision import HALF, AtLeastFloat32, dtype_of


class EMA(AtLeastFloat32):
    """Exponential moving average of a module's weights (Grill et al. 2020, arXiv 2006.07733,
    Section 3.1).

    It holds a float32 copy without gradient; calling it calls the copy. Buffers (running means,
    counters) are copied. Where the module is trained in half precision (`bf16-true`), the copy's
    weights stay float32, since small steps of 1 - decay would be rounded away, and it computes in
    the module's precision.

    Args:
        module: the module to follow; the copy starts equal to it.
        decay: share of the old value kept at the first update (the paper's tau_base).
        final: share kept at the end of training, which is reached on a half cosine.

    Raises:
        ValueError: decay or final is outside [0, 1].
    """

    def __init__(self, module: nn.Module, decay: float = 0.996, final: float = 1.0) -> None:
        super().__init__()
        require(self, at_least=0, at_most=1, decay=decay, final=final)
        self.decay, self.final = decay, final
        self._source = (module,)  # in a tuple, so that it is not a submodule
        self.module = copy.deepcopy(module).float().requires_grad_(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        (source,) = self._source
        dtype = dtype_of(source)
        if dtype not in HALF:
            return self.module(*args, **kwargs)
        device = next(self.module.parameters()).device
        with torch.autocast(device.type, dtype):
            return self.module(*args, **kwargs)

    @torch.no_grad()
    def restart(self) -> None:
        """Sets the copy to the module that it follows, whose weights were loaded since."""
        (source,) = self._source
        self.module.load_state_dict(source.state_dict())

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
        if any(weight.dtype in HALF for weight in old):
            raise TypeError(
                "The EMA's weights were cast to half precision, where its small steps are lost; train with a mixed"
                " precision."
            )
        new = [parameter.to(weight) for weight, parameter in zip(old, source.parameters(), strict=True)]
        torch._foreach_lerp_(old, new, 1 - self.decay_at(progress))
        copies, buffers = list(self.module.buffers()), list(source.buffers())
        if buffers:
            torch._foreach_copy_(copies, buffers)
