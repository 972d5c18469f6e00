"""Batched polyphase resampling."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

ZEROS, BETA = 10, 5.0
"""Of the filter: zero crossings on each side, and the shape of its Kaiser window."""
PHASES = 32
"""Phases that are computed at once: the matrix of one product spans their inputs, and is nearly
without zeros."""


class Resampler:
    """From one sampling rate to another by a windowed sinc (Crochiere and Rabiner 1983, Multirate
    Digital Signal Processing).

    Sample n of the output stands at the time of sample n * down / up of the input. The filter is
    that of SciPy's `resample_poly`. A stretch of the output needs a stretch of the input alone:
    `needs` says which.

    Args:
        rate: of the input, in Hz.
        target: of the output, in Hz.

    Raises:
        ValueError: a rate is not positive.
    """

    def __init__(self, rate: int, target: int) -> None:
        if min(rate, target) < 1:
            raise ValueError(f"Sampling rates are positive, got {rate} and {target} Hz.")
        common = math.gcd(rate, target)
        self.up, self.down = target // common, rate // common

    def length(self, frames: int) -> int:
        """Samples of the output for as many frames of the input."""
        return -(-frames * self.up // self.down)

    def needs(self, start: int, count: int) -> tuple[int, int]:
        """First frame and number of frames of the input that `count` samples of the output from
        `start` are made of; they may lie before its beginning and beyond its end, and are zeros
        there."""
        if self.up == self.down:
            return start, count
        return start // self.up * self.down - self.reach, self._periods(count) * self.down + 2 * self.reach

    def __call__(self, x: Tensor, start: Tensor, count: int) -> Tensor:
        """The input that `needs(start, count)` names, [S, frames] float32, and `start` [S] ->
        `count` samples of the output, [S, count]."""
        if self.up == self.down:
            return x
        periods = self._periods(count)
        y = x.new_empty(len(x), periods, self.up)
        for first, offset, kernels in _kernels(self.up, self.down):
            width = kernels.shape[1]
            windows = x[:, offset:].unfold(1, width, self.down)[:, :periods]  # [S, periods, width]
            y[:, :, first : first + len(kernels)] = windows @ kernels.to(x.device).mT
        place = (start % self.up)[:, None] + torch.arange(count, device=x.device)
        return y.flatten(1).gather(1, place)

    @property
    def reach(self) -> int:
        """Frames on each side of a time that the sample at that time is made of."""
        return -(-ZEROS * max(self.up, self.down) // self.up) + 1

    def _periods(self, count: int) -> int:
        """Periods of `up` samples that `count` of them touch at most, wherever they begin."""
        return (count + 2 * self.up - 2) // self.up


@lru_cache(maxsize=16)
def _kernels(up: int, down: int) -> list[tuple[int, int, Tensor]]:
    """For each block of phases: the first one, the offset of its inputs from the first frame that
    `needs` names, and its kernels [phases, frames]."""
    widest = max(up, down)
    half = ZEROS * widest
    k = torch.arange(-half, half + 1, dtype=torch.float64)
    taps = torch.sinc(k / widest) * torch.kaiser_window(2 * half + 1, periodic=False, beta=BETA, dtype=torch.float64)
    taps *= up / taps.sum()
    reach = -(-half // up) + 1
    blocks = []
    for first in range(0, up, PHASES):
        phase = torch.arange(
            first, min(first + PHASES, up)
        )  # output i * up + p is the sum of x[i * down + j] h[p * down - j * up]
        centre = phase * down // up
        low, high = int(centre[0]) - reach, int(centre[-1]) + reach + 1
        tap = phase[:, None] * down - torch.arange(low, high) * up + half
        kernels = torch.where((tap >= 0) & (tap <= 2 * half), taps[tap.clamp(0, 2 * half)], 0.0)
        blocks.append((first, low + reach, kernels.float()))
    return blocks
