"""The networks of a method, and the augmentation of its views, run compiled while it trains."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import MethodType, TracebackType
from typing import Any

import torch
from torch import nn

from ..augment.image import Augmentation
from ..encoders.base import Encoder
from ..nn.transformer import Transformer


class Compiled(AbstractContextManager[None]):
    """Within the context, the functions that modules name in `entries` are those that
    `torch.compile` makes of them: of encoders, of the copies of them in teachers, of transformers,
    and of augmentations.

    Outside of it nothing is different: no module is wrapped, so that parameters and checkpoints
    keep their names, a copy of the method is a plain one, and probes compile nothing.

    Args:
        modules: the method; the transforms that make its views.
    """

    def __init__(self, *modules: nn.Module) -> None:
        parts = dict.fromkeys(part for module in modules for part in compilable(module))
        self.parts = [(part, name, _compiled(part, name)) for part in parts for name in part.entries]

    def __enter__(self) -> None:
        for part, name, function in self.parts:
            part.__dict__[name] = MethodType(function, part)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part, name, _ in self.parts:
            del part.__dict__[name]


def compilable(module: nn.Module) -> list[Encoder | Transformer | Augmentation]:
    """Encoders, transformers that are not part of one, and augmentations, each of them once."""
    if isinstance(module, Encoder | Transformer | Augmentation):
        return [module]
    parts = [part for child in module.children() for part in compilable(child)]
    return list(dict.fromkeys(parts))


def _compiled(part: nn.Module, name: str) -> Any:
    """The function of the class, not of the instance, so that the compiled one serves a copy of
    the module too."""
    return torch.compile(getattr(type(part), name))
