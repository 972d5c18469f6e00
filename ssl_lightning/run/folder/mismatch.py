"""Which settings keep the weights of a checkpoint from fitting a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...plugins.record import config_of
from ...plugins.run_record import config_in
from .identity import MOST, settings


def check_shapes(method: Any, checkpoint: Mapping[str, Any]) -> None:
    """Refuses weights of other names or shapes than the method's, where its arguments differ from
    those of the run that wrote them.

    Args:
        method: that is about to load them.
        checkpoint: as `archive.read` returns it.

    Raises:
        ValueError: they do not fit; the message names the arguments that differ.
    """
    weights, mine = checkpoint.get("state_dict") or {}, method.state_dict()
    if shapes(weights) == shapes(mine) or "config" not in checkpoint:
        return
    here, there = settings(config_of(method), "model"), settings(config_in(dict(checkpoint))["model"], "model")
    differ = [
        f"--{key} {here[key]} here, {there[key]} in the checkpoint"
        for key in here
        if key in there and here[key] != there[key]
    ]
    if not differ:
        return  # torch says which weights
    more = f"; and {len(differ) - MOST} more" * (len(differ) > MOST)
    raise ValueError(f"its weights are those of another network ({'; '.join(differ[:MOST])}{more})")


def shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items() if isinstance(tensor, Tensor)}
