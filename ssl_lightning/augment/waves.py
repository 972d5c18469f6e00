"""Operations on waves: gain, polarity, shift in time, noise. A wave is an image of one row, [S, 1,
1, T]."""

from __future__ import annotations

import torch
from torch import Tensor

from ..plugins.arguments import require
from .operation import Operation, between, change_some
from .random import fold, normal


class Gain(Operation):
    """Makes waves louder or softer, by decibels from a range.

    Raises:
        ValueError: the range is empty.
    """

    def __init__(self, decibels: tuple[float, float]) -> None:
        super().__init__()
        if decibels[0] > decibels[1]:
            raise ValueError(f"Gain(decibels={decibels}) must be a range, the lower end first.")
        self.decibels = decibels

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (between(*self.decibels, self.draw(key, 1)[:, 0]),)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return x.mul_((10 ** (numbers[0] / 20))[:, None, None, None])


class Polarity(Operation):
    """Changes the sign of waves with probability p, which the ear does not hear."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        require(self, at_least=0, at_most=1, p=p)
        self.p = p

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (self.draw(key, 1)[:, 0] < self.p,)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return x.mul_(1 - 2 * numbers[0].to(x.dtype)[:, None, None, None])


class TimeShift(Operation):
    """Shifts waves in time, by a part of the window from a range, and fills up with zeros.

    Raises:
        ValueError: the range is empty, or reaches beyond the window.
    """

    def __init__(self, part: tuple[float, float]) -> None:
        super().__init__()
        if not -1 <= part[0] <= part[1] <= 1:
            raise ValueError(f"TimeShift(part={part}) must be -1 <= part[0] <= part[1] <= 1.")
        self.part = part

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return ((between(*self.part, self.draw(key, 1)[:, 0]) * width).round().long(),)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        width = x.shape[-1]
        index = torch.arange(width, device=x.device) - numbers[0][:, None]  # [S, T]
        moved = x.gather(-1, index.clamp(0, width - 1)[:, None, None].expand_as(x))
        return moved.mul_(((index >= 0) & (index < width))[:, None, None])


class Noise(Operation):
    """Adds white noise with probability p, softer than the sound by decibels from a range.

    The sound's power is the mean over its samples that are not zero: padding does not count.

    Raises:
        ValueError: the range is empty, or p is not a probability.
    """

    def __init__(self, decibels: tuple[float, float], p: float = 0.5) -> None:
        super().__init__()
        if decibels[0] > decibels[1]:
            raise ValueError(f"Noise(decibels={decibels}) must be a range, the lower end first.")
        require(self, at_least=0, at_most=1, p=p)
        self.decibels, self.p = decibels, p

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        u = self.draw(key, 2)
        return u[:, 0] < self.p, between(*self.decibels, u[:, 1]), fold(self.keys(key), 0)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        chosen, decibels, key = numbers
        return change_some(chosen, x, self._add, decibels, key)

    def _add(self, x: Tensor, decibels: Tensor, key: Tensor) -> Tensor:
        power = x.square().sum((1, 2, 3)) / (x != 0).sum((1, 2, 3)).clamp(min=1)
        scale = (power * 10 ** (-decibels / 10)).sqrt()
        return x.add_(normal(key, x.shape[-1])[:, None, None] * scale[:, None, None, None])
