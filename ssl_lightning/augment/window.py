"""Windows of recordings, in batches of waves with marked padding."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .random import fold, uniform


class Waves(NamedTuple):
    """Windows of a batch of recordings.

    Args:
        x: [S, T] float32, with zeros behind a recording that is shorter.
        lengths: [S] int64, number of samples of each that are not padding. None: T.
    """

    x: Tensor
    lengths: Tensor | None = None


def within(lengths: Tensor, count: int) -> Tensor:
    """Which of `count` indices lie within lengths [S]: [S, count] bool."""
    return torch.arange(count, device=lengths.device) < lengths[:, None]


def row_lengths(longest: Tensor, step: int, most: int | None = None) -> Tensor:
    """Lengths of rows for recordings of at most `longest` samples: a few multiples of `step`, each
    at most an eighth longer than the next shorter one, and at most `most`."""
    units = (longest + step - 1) // step
    coarse = 2 ** (torch.frexp(units.double()).exponent - 4).clamp(min=0)  # 8 lengths an octave
    rows = (units + coarse - 1) // coarse * coarse * step
    return rows if most is None else rows.clamp(max=most)


@dataclass(frozen=True)
class Window:
    """The part of a recording that a view shows.

    Args:
        samples: T, at the rate of the views. None: whole recordings, which needs a step.
        random: whether the key places it anywhere; else it lies in the middle. A shorter recording
            is taken whole.
        step: 0: every row has T samples. Else a batch's rows are as long as its longest recording
            needs, rounded up by `row_lengths`.
    """

    samples: int | None
    random: bool
    step: int = 0

    def taken(self, length: int) -> int:
        """Samples that it takes of a recording of `length` samples."""
        return length if self.samples is None else min(length, self.samples)

    def row(self, longest: int) -> int:
        """T for a batch whose recordings have at most `longest` samples."""
        if not self.step and self.samples is not None:
            return self.samples
        return int(row_lengths(torch.tensor(longest), self.step, self.samples))

    def start(self, key: Tensor, length: int) -> int:
        """First sample that it takes of a recording of `length` samples, for a key [1]."""
        spare = length - self.taken(length)
        if not self.random or not spare:
            return spare // 2
        # 24 bits each: a long recording has more than 2^24 samples.
        high, low = uniform(fold(key, zlib.crc32(b"Window")), 2)[0].tolist()
        return min(int((high + low * 2.0**-24) * (spare + 1)), spare)
