"""Recordings that are handed over one by one: files, or samples with their rate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...plugins.messages import printable
from ..files.source import in_threads
from ..given import Given, GivenFiles
from ..sources import Source
from ..splits import Split
from .datamodule import SoundDataModule
from .preparation import made_up
from .recording import Sound, SoundFile, Stored
from .resampling import length_at
from .source import SoundSource
from .statistics import Statistics


class GivenSounds(Given, SoundDataModule):
    """The items that it is given are its training split: paths, or samples [T] in [-1, 1], of torch
    or NumPy, with their rate in Hz."""

    @cached_property
    def statistics(self) -> Statistics:
        """Those of the run; nothing is computed from the items."""
        return Statistics(*(self.given_statistics or (0.0, 1.0)), torch.empty(0))

    def made_up(self, count: int) -> list[Any]:
        return [*made_up(count, self.sample_rate, self.samples or self.sample_rate)]

    def source(self, split: Split) -> Source | None:
        return GivenRecordings(self.items, self.sample_rate) if split == "train" else None


class GivenRecordings(GivenFiles, SoundSource):
    """A source of recordings that are handed over.

    Args:
        items: as of `GivenSounds`.
        sample_rate: in Hz, to which recordings are resampled when read.
    """

    def __init__(self, items: Sequence[Any], sample_rate: int) -> None:
        super().__init__(len(items), sample_rate)
        self.items = items
        lengths = in_threads(lambda number: length_at(self.open(number), sample_rate), range(len(items)))
        self.lengths = torch.tensor(lengths, dtype=torch.int64)

    def open(self, number: int) -> Sound:
        item = self.items[number]
        if isinstance(item, (str, Path)):
            return SoundFile(item)
        return Stored(self.name(number), *_samples(item, self.name(number)))

    def name(self, number: int) -> str:
        item = self.items[number]
        return printable(item) if isinstance(item, (str, Path)) else f"recording {number}"


def _samples(item: Any, name: str) -> tuple[Tensor, int]:
    """A recording's samples [T] and its rate, where they are so.

    Raises:
        TypeError, ValueError: they are not; the message says what is given, and the remedy.
    """
    if not (isinstance(item, tuple) and len(item) == 2):
        raise TypeError(f"{name} is a {type(item).__name__}; give a file's path, or samples [T] with their rate.")
    samples, rate = torch.as_tensor(item[0]), item[1]
    if samples.ndim != 1:
        shape = list(samples.shape)
        raise ValueError(f"{name} has the shape {shape}; give the samples [T] of one channel, or the channels' mean.")
    if not samples.is_floating_point():
        kind = str(samples.dtype).removeprefix("torch.")
        raise ValueError(f"{name} holds {kind}; give floating-point samples in [-1, 1], such as int16 / 32768.")
    return samples.float(), rate
