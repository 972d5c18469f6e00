"""BatchNorm over parts of a batch, so that a sample's statistics do not reveal which other samples
are near; and its running statistics before a first step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..plugins.arguments import require


class Parts:
    """A mixin for BatchNorm classes, which normalises consecutive parts of a batch, each by its own
    statistics."""

    parts: int
    training: bool
    momentum: float | None

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> the same shape; a part has at least two samples."""
        number = min(self.parts, len(x) // 2)
        inner: Any = super()
        if not self.training or number < 2:
            whole: Tensor = inner.forward(x)
            return whole
        momentum = self.momentum
        if momentum is not None:  # None averages over all calls
            self.momentum = 1 - (1 - momentum) ** (1 / number)  # all parts: one step of the running mean
        try:
            return torch.cat([inner.forward(part) for part in x.tensor_split(number)])
        finally:
            self.momentum = momentum

    def __reduce__(self) -> Any:  # pickle finds the BatchNorm class by its name, not the class in parts
        return _empty, (type(self).__bases__[1],), self.__dict__


def split_batch_norm(network: nn.Module, parts: int) -> None:
    """Makes every BatchNorm in a network normalise `parts` parts of a batch one by one, as that
    many processes would.

    This is what ShuffleBN does with several devices (He et al. 2019, arXiv 1911.05722, Section
    3.3), on one. Parameters, running statistics and their names stay; in eval mode nothing changes.

    Raises:
        ValueError: fewer than two parts.
    """
    require("split_batch_norm", at_least=2, parts=parts)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            cls: Any = type(module)
            module.__class__ = cls if isinstance(module, Parts) else _in_parts(cls)
            module.parts = parts  # type: ignore[assignment]  # an attribute of the class it now has


@cache
def _in_parts(cls: Any) -> Any:
    return type(f"{cls.__name__}InParts", (Parts, cls), {})


def _empty(cls: Any) -> Any:
    split = _in_parts(cls)
    return split.__new__(split)


def unsettled(network: nn.Module) -> list[_BatchNorm]:
    """The BatchNorms that train and whose running statistics are those that they are built with,
    mean 0 and variance 1: in eval mode they do not normalise, as they do in training."""
    norms = [each for each in network.modules() if isinstance(each, _BatchNorm) and each.training]
    return [each for each in norms if each.running_mean is not None and _as_built(each.running_mean, each.running_var)]


def _as_built(mean: Tensor, variance: Tensor | None) -> bool:
    return not mean.any() and variance is not None and bool((variance == 1).all())


@contextmanager
def settling(norms: list[_BatchNorm]) -> Iterator[None]:
    """Sets these BatchNorms to training mode, in which each forward pass is averaged into their
    running statistics, all alike; they end in the mode and with the momentum that they had."""
    before = [(each, each.training, each.momentum) for each in norms]
    for each in norms:
        each.reset_running_stats()
        each.training, each.momentum = True, None
    try:
        yield
    finally:
        for each, training, momentum in before:
            each.training, each.momentum = training, momentum
