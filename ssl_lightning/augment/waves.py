"""What waves sound like: loudness, polarity, place in time, noise. A wave is an image of one row,
[S, 1, 1, T]."""

from __future__ import annotations

import torch
from torch import Tensor

from .operation import Operation, change_some, check_probability, spread
from .random import fold, normal


class Gain(Operation):
    """Louder or softer, by a number of decibels from a range.

    Raises:
        ValueError: the range is empty.
    """

    def __init__(self, decibels: tuple[float, float]) -> None:
        super().__init__()
        if decibels[0] > decibels[1]:
            raise ValueError(f"Gain needs decibels[0] <= decibels[1], got {decibels}.")
        self.decibels = decibels

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (spread(*self.decibels, self.draw(key, 1)[:, 0]),)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return x.mul_((10 ** (numbers[0] / 20))[:, None, None, None])


class Polarity(Operation):
    """The wave upside down, with probability p: the ear hears no difference."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_probability("Polarity", p)

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return (self.draw(key, 1)[:, 0] < self.p,)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return x.mul_(1 - 2 * numbers[0].to(x.dtype)[:, None, None, None])


class TimeShift(Operation):
    """Later or earlier, by a part of the window from a range; zeros where nothing was.

    Raises:
        ValueError: the range is empty, or reaches beyond the window.
    """

    def __init__(self, part: tuple[float, float]) -> None:
        super().__init__()
        if not -1 <= part[0] <= part[1] <= 1:
            raise ValueError(f"TimeShift needs -1 <= part[0] <= part[1] <= 1, got {part}.")
        self.part = part

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor]:
        return ((spread(*self.part, self.draw(key, 1)[:, 0]) * width).round().long(),)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        width = x.shape[-1]
        place = torch.arange(width, device=x.device) - numbers[0][:, None]  # [S, T]
        moved = x.gather(-1, place.clamp(0, width - 1)[:, None, None].expand_as(x))
        return moved.mul_(((place >= 0) & (place < width))[:, None, None])


class Noise(Operation):
    """White noise, with probability p, so much softer than the sound as a number of decibels from a
    range says.

    The sound's power is that of its samples which are not zero: padding does not make it softer.

    Raises:
        ValueError: the range is empty, or p is no probability.
    """

    def __init__(self, decibels: tuple[float, float], p: float = 0.5) -> None:
        super().__init__()
        if decibels[0] > decibels[1]:
            raise ValueError(f"Noise needs decibels[0] <= decibels[1], got {decibels}.")
        self.decibels = decibels
        self.p = check_probability("Noise", p)

    def numbers(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        u = self.draw(key, 2)
        return u[:, 0] < self.p, spread(*self.decibels, u[:, 1]), fold(self.own(key), 0)

    def change(self, x: Tensor, *numbers: Tensor) -> Tensor:
        chosen, *of_noise = numbers
        return change_some(chosen, x, self._add, *of_noise)

    def _add(self, x: Tensor, decibels: Tensor, key: Tensor) -> Tensor:
        power = x.square().sum((1, 2, 3)) / (x != 0).sum((1, 2, 3)).clamp(min=1)
        scale = (power * 10 ** (-decibels / 10)).sqrt()
        return x.add_(normal(key, x.shape[-1])[:, None, None] * scale[:, None, None, None])
