"""LARS is SGD with momentum whose learning rate adapts to each layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from ..plugins.arguments import require


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling: each weight moves in proportion to its length, whatever
    that of its gradient.

    You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks (2017), arXiv
    1708.03888, Algorithm 1, as SimCLR (Chen et al. 2020, arXiv 2002.05709, Section 3) and BYOL
    (Grill et al. 2020, arXiv 2006.07733, Section 3.2) use it:

        u = g + beta w             weight decay is added to the gradient
        lambda = eta |w| / |u|     1 where either norm is zero, and in groups with `adapt=False`
        v = m v + lambda u         v starts at zero
        w = w - gamma v

    Two conventions differ between the sources. Algorithm 1 divides by |g| + beta |w|; here, as in
    both papers' published code, by the length of the decayed gradient. And Algorithm 1 and SimCLR's
    code (lars_optimizer.py) put the learning rate gamma into the buffer, v = m v + gamma lambda u;
    here, as in BYOL's code (byol/utils/optimizers.py) and in `torch.optim.SGD`, it multiplies the
    buffer. At a constant rate the two are the same. Under a schedule the rate here takes effect at
    once, while in the buffer it lags by about 1 / (1 - m) steps: a warm-up rises later, and a run
    that decays to zero ends on steps that are not. So a group without adaptation is SGD with
    momentum, exactly, at any schedule.

    All weights are processed together, and the host never waits for the device. Where the attribute
    `found_inf`, a tensor, is above 0, a step changes nothing, as torch's fused optimizers have it.

    Args:
        params: parameters, or groups of them; biases and norms belong in a group with
            `weight_decay=0, adapt=False`.
        lr: global learning rate, the paper's gamma.
        momentum: the paper's m, in [0, 1).
        weight_decay: the paper's beta.
        trust_coefficient: the paper's eta, the length of a step as a part of the weight's, at a
            learning rate of 1.
        adapt: whether the rate adapts to each weight; else lambda is 1.

    Raises:
        ValueError: an argument is out of range.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        adapt: bool = True,
    ) -> None:
        require(self, at_least=0, lr=lr, weight_decay=weight_decay)
        require(self, at_least=0, below=1, momentum=momentum)
        require(self, above=0, trust_coefficient=trust_coefficient)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient; returns the result of `closure`, which is
        called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_kind.setdefault((parameter.device, parameter.dtype), []).append(parameter)
            for weights in by_kind.values():
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Updates weights of one device and one dtype."""
        updates = [weight.grad for weight in weights if weight.grad is not None]
        if group["weight_decay"]:
            updates = list(torch._foreach_add(updates, weights, alpha=group["weight_decay"]))
        buffers = [self._buffer(weight) for weight in weights]
        momentum, rate = group["momentum"], group["lr"]
        if self.found_inf is not None:
            skips = self.found_inf.to(weights[0].device) > 0
            updates = [torch.where(skips, 0.0, update) for update in updates]
            momentum, rate = torch.where(skips, 1.0, momentum), torch.where(skips, 0.0, rate)
        torch._foreach_mul_(buffers, momentum)
        if group["adapt"]:
            torch._foreach_addcmul_(buffers, updates, _trust(weights, updates, group["trust_coefficient"]))
        else:
            torch._foreach_add_(buffers, updates)
        if self.found_inf is None:
            torch._foreach_add_(weights, buffers, alpha=-rate)
        else:
            torch._foreach_sub_(weights, torch._foreach_mul(buffers, rate))

    def _buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _trust(weights: list[Tensor], updates: list[Tensor], coefficient: float) -> list[Tensor]:
    """Computes lambda of each weight, a scalar on its device, in at least float32."""
    dtype = torch.promote_types(weights[0].dtype, torch.float32)
    w = torch.stack(torch._foreach_norm(weights, 2, dtype=dtype))  # [number of weights]
    u = torch.stack(torch._foreach_norm(updates, 2, dtype=dtype))
    return list(torch.where((w > 0) & (u > 0), coefficient * w / u, 1.0).unbind())
