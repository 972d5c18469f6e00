"""Whether the gradients of an optimizer step are finite, and what a step changes before that is
known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .lars import LARS


class NotFinite(FloatingPointError):
    """A loss, a gradient or a weight is NaN or infinite. The message is one line for the user."""


class LeftOut(Exception):
    """Ends an optimizer step before anything is updated."""


def carried_by_gradients(loss: Tensor) -> Tensor:
    """The loss, whose gradients are NaN where it is not finite: part of a loss may have none.

    So to look at the gradients is enough; a float16 scaler leaves out the step too; and processes,
    which exchange gradients, all see it.
    """
    value = loss.detach()
    return loss * (value - value + 1)  # by 1, exactly, or by NaN


def not_finite(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """Whether any value is NaN, infinite, or so large that its square is: 1 or 0, float32 [], on
    the device; the host does not wait for it.

    It is their length that is looked at. On a CPU that takes a seventh of the time of their largest
    magnitude, and beyond it no norm to clip by and no second moment can be computed.

    Args:
        tensors: floating-point tensors of any dtypes.
        device: where they are.
    """
    return any_not_finite(lengths_of(tensors), device)


def lengths_of(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The Euclidean lengths of tensors, float32 or wider, in a vector for each dtype."""
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor.detach())
    return [
        torch.stack(torch._foreach_norm(each, 2, dtype=torch.promote_types(dtype, torch.float32)))
        for dtype, each in by_dtype.items()
    ]


def any_not_finite(lengths: Sequence[Tensor], device: torch.device) -> Tensor:
    """Whether any of some lengths is NaN or infinite; as `not_finite`."""
    if not lengths:
        return torch.zeros((), device=device)
    return torch.stack([(~each.isfinite()).any() for each in lengths]).any().float()


def total_length(lengths: Sequence[Tensor]) -> Tensor:
    """The length of all tensors as one vector, from their lengths; the host does not wait for
    it."""
    return torch.cat([each.float() for each in lengths]).norm()


def gradients_of(optimizer: Any) -> list[Tensor]:
    """The gradients of all parameters of an optimizer, or of Lightning's wrapper of one."""
    return [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]


def skips_on_device(optimizer: Optimizer) -> bool:
    """Whether the optimizer leaves out a step where its attribute `found_inf` is above 0, without
    the host: torch's fused ones and ours do."""
    return isinstance(optimizer, LARS) or all(group.get("fused") for group in optimizer.param_groups)


class Statistics:
    """The running means and variances of a module's norms, which a forward pass updates, can be
    set back to what they were before it.

    Args:
        module: on the device where it is trained.
    """

    def __init__(self, module: nn.Module) -> None:
        norms = [part for part in module.modules() if isinstance(getattr(part, "running_mean", None), Tensor)]
        self.now = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
        self.before = [buffer.clone() for buffer in self.now]

    def keep(self) -> None:
        """Keeps them as they are."""
        if self.now:
            torch._foreach_copy_(self.before, self.now)

    @torch.no_grad()
    def restore(self) -> None:
        """Sets them back to what was kept."""
        if self.now:
            torch._foreach_copy_(self.now, self.before)
