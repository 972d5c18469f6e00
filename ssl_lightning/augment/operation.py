"""What operations of augmentation share: random numbers by key, and work on a part of the batch."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .random import fold, uniform


class Operation(nn.Module, ABC):
    """A batched augmentation whose random numbers are a pure function of each sample's key.

    A hash of the class name is folded into the key, so that adding, removing or reordering other
    operations changes nothing in this one, and renaming the class redraws its numbers.
    """

    @abstractmethod
    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
        """Draws what is random about the samples of keys [S], whose images have this size: tensors
        [S, ...]."""

    @abstractmethod
    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        """Changes float32 images [S, C, H, W] as `numbers` say; x may be overwritten."""

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        """Images [S, C, H, W], uint8 or floating in [0, 1], and keys [S] -> float32 images; x is
        not changed."""
        x = as_float(x)
        return self.change(x, *self.numbers(key, x.shape[-2], x.shape[-1]))

    def draw(self, key: Tensor, n: int) -> Tensor:
        """This operation's random numbers for each sample: [S, n], uniform in [0, 1)."""
        return uniform(self.keys(key), n)

    def keys(self, key: Tensor) -> Tensor:
        """The keys [S] of this operation, from those of the samples."""
        return fold(key, zlib.crc32(type(self).__name__.encode()))


def as_float(x: Tensor) -> Tensor:
    """Converts uint8 images [S, C, H, W] to float32 in [0, 1], and floating ones to float32; always
    to a copy, contiguous.

    Raises:
        ValueError: x is not a batch of images, or holds integers other than uint8.
    """
    if x.ndim != 4 or not (x.dtype == torch.uint8 or x.is_floating_point()):
        raise ValueError(
            f"Images must be uint8, or floating in [0, 1], of shape [S, C, H, W]; got {x.dtype} {list(x.shape)}."
        )
    floating = x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return floating.div_(255) if x.dtype == torch.uint8 else floating


def on_whole_batch(x: Tensor) -> bool:
    """Whether an operation computes all samples, where it need not change all: on an accelerator,
    whose host would have to wait for their count, and in a compiled function."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def between(low: float, high: float, u: Tensor) -> Tensor:
    """Maps uniform numbers of [0, 1) to [low, high)."""
    return u * (high - low) + low


def change_some(chosen: Tensor, x: Tensor, change: Callable[..., Tensor], *numbers: Tensor) -> Tensor:
    """Computes `change(x, *numbers)` where a sample is chosen, x elsewhere; x may be overwritten.

    A CPU computes the chosen samples alone, where they need not be computed all (`on_whole_batch`).

    Args:
        chosen: [S] bool.
        x: [S, C, H, W].
        change: maps m images, which it may overwrite, and their numbers to m images of the same
            shape; called for at least one image, where x holds any.
        numbers: tensors [S, ...], the numbers of each sample.
    """
    if on_whole_batch(x):
        return torch.where(chosen[:, None, None, None], change(x.clone(), *numbers), x)
    picked = chosen.nonzero().squeeze(1)
    if len(picked) == 0:
        return x
    if len(picked) == len(x):
        return change(x, *numbers)
    return x.index_copy_(0, picked, change(x.index_select(0, picked), *(n.index_select(0, picked) for n in numbers)))
