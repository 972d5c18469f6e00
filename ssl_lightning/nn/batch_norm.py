"""BatchNorm over parts of a batch, so that a sample's statistics do not reveal which other samples
are near."""

from __future__ import annotations

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
