"""Convolutions whose outputs are one column wide, which some processors compute wrongly in
bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def narrow_in_float32(network: nn.Module) -> nn.Module:
    """Has strided convolutions of a network computed in float32 where they would give a single
    column in bfloat16 on a CPU; returns the network.

    oneDNN's bfloat16 kernel for processors with AMX reads memory behind the rows there (seen with
    torch 2.14: outputs and gradients are wrong or NaN in most calls): the last stages of a
    convolutional network on small images, or on a few frames of a sound. They cost next to nothing.
    """
    for module in network.modules():
        strided = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.stride[-1] > 1
        if strided and _again not in module._forward_hooks.values():
            module.register_forward_hook(_again)
    return network


def _again(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """The output of a convolution, computed anew in float32 where it is one column wide."""
    if not isinstance(output, Tensor) or output.dtype != torch.bfloat16 or output.device.type != "cpu":
        return None
    if output.shape[-1] > 1:
        return None
    weights = {name: weight.float() for name, weight in module.named_parameters()}
    with torch.autocast("cpu", enabled=False):
        exact: Tensor = functional_call(module, weights, (inputs[0].float(),))
    return exact.to(output.dtype)
