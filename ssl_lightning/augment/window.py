"""Windows of recordings, and batches of waves with marked padding."""

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
        lengths: [S] int64, the samples of each that are its own; None where all T are.
    """

    x: Tensor
    lengths: Tensor | None = None


def within(lengths: Tensor, count: int) -> Tensor:
    """Which of `count` places lie within lengths [S]: [S, count] bool."""
    return torch.arange(count, device=lengths.device) < lengths[:, None]


def row_lengths(longest: Tensor, step: int, most: int | None = None) -> Tensor:
    """Samples of a row for recordings of at most `longest` samples: multiples of `step`, few of
    them, each at most an eighth longer than the next shorter one; `most` at most."""
    units = (longest + step - 1) // step
    coarse = 2 ** (torch.frexp(units.double()).exponent - 4).clamp(min=0)  # 8 lengths an octave
    rows = (units + coarse - 1) // coarse * coarse * step
    return rows if most is None else rows.clamp(max=most)


@dataclass(frozen=True)
class Window:
    """What a view takes of a recording.

    Args:
        samples: T, at the rate of the views; None takes whole recordings, and needs a step.
        random: whether it lies anywhere, which its key says; else it lies in the middle. A shorter
            recording is taken whole.
        step: 0: every row has T samples. Else a batch's rows are as long as its longest recording
            needs, as `row_lengths` rounds it.
    """

    samples: int | None
    random: bool
    step: int = 0

    def taken(self, length: int) -> int:
        """What it takes of a recording of so many samples."""
        return length if self.samples is None else min(length, self.samples)

    def row(self, longest: int) -> int:
        """T for a batch of whose recordings at most so many samples are taken."""
        if not self.step and self.samples is not None:
            return self.samples
        return int(row_lengths(torch.tensor(longest), self.step, self.samples))

    def start(self, key: Tensor, length: int) -> int:
        """Where it begins in a recording of so many samples, for a key [1]."""
        spare = length - self.taken(length)
        if not self.random or not spare:
            return spare // 2
        high, low = uniform(fold(key, zlib.crc32(b"Window")), 2)[
            0
        ].tolist()  # 24 bits each: a long recording has more places
        return min(int((high + low * 2.0**-24) * (spare + 1)), spare)
