"""The precision of a network's weights: views are cast to it, and what must stay exact does not
follow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..types import View

HALF = (torch.bfloat16, torch.float16)
WITHOUT_DOUBLE = ("mps",)
"""Devices that have no float64: Apple's GPUs."""


def dtype_of(network: nn.Module) -> torch.dtype | None:
    """Returns the dtype of a network's weights, by the first that is a floating-point number; None
    where there is none."""
    return next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), None)


def cast(view: View, network: nn.Module) -> View:
    """Casts the values of a view to the dtype of a network's weights; token ids stay integers."""
    dtype = dtype_of(network)
    return view if dtype is None or not view.x.is_floating_point() else view._replace(x=view.x.to(dtype))


def sum_dtype(device: torch.device) -> torch.dtype:
    """Returns the dtype in which many values are added up: float64, float32 where the device has
    none."""
    return torch.float32 if device.type in WITHOUT_DOUBLE else torch.float64


def where_double(x: Tensor) -> Tensor:
    """Returns x on a device that has float64: its own, or the CPU."""
    return x.cpu() if x.device.type in WITHOUT_DOUBLE else x


class AtLeastFloat32(nn.Module):
    """A module whose float32 parameters and buffers stay float32 when the network that it is a part
    of is cast to half precision, as Lightning does for `bf16-true`."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def exact(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in HALF and tensor.dtype not in HALF else moved

        return super()._apply(exact, recurse)
