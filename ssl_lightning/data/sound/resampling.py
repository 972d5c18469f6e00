"""Recordings at another sampling rate, by the SoX Resampler library."""

from __future__ import annotations

import math

import soxr
import torch
from torch import Tensor

from .recording import Sound

CONTEXT = 128
"""Samples, at the lower of the two rates, that are read on each side of a stretch: with as many, it
equals that of the whole recording but for the rounding of float32."""


def length_at(sound: Sound, rate: int) -> int:
    """Samples of a recording at another rate, in Hz: sample n stands at n / rate seconds."""
    return -(-sound.frames * rate // sound.rate)


def read_at(sound: Sound, rate: int, start: int, count: int) -> Tensor:
    """Samples [count] of a recording from `start` on, both at another rate, in Hz; of the recording
    no more is read than they are made of.

    Raises:
        UnreadableSound: this part of the recording cannot be read.
    """
    if sound.rate == rate:
        return sound.read(start, count)
    common = math.gcd(sound.rate, rate)
    up, down = rate // common, sound.rate // common  # `down` frames last as long as `up` samples
    context = -(-CONTEXT // min(up, down))
    first, last = start // up - context, -(-(start + count) // up) + context
    x = sound.read(first * down, (last - first) * down)
    y = soxr.resample(x.numpy(), sound.rate, rate)
    return torch.from_numpy(y[start - first * up :][:count])
