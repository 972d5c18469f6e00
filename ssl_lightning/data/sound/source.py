"""Recordings of any length as a source: of each, the windows are read that the views take, at one
sampling rate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...augment.window import Waves, Window, within
from ..files.source import FileSource, in_threads
from ..sources import Source, Subset, Uncut
from .recording import Sound, UnreadableSound
from .resampling import Resampler


class SoundSource(FileSource):
    """Recordings of any length and sampling rate.

    Args:
        count: how many there are.
        sample_rate: of what is read, in Hz.
        others: of a `FileSource`.
    """

    samples, error = "recordings", UnreadableSound
    lengths: Tensor | None = None
    """[N] int64, once somebody has asked for them (`lengths_of`)."""

    def __init__(self, count: int, sample_rate: int, *others: Any) -> None:
        super().__init__(count, *others)
        self.sample_rate = sample_rate

    @abstractmethod
    def open(self, number: int) -> Sound:
        """A recording, of which nothing but its length is known yet."""

    def stamp(self, number: int) -> str:
        """What tells whether a recording has changed since it was last read."""
        return self.name(number)

    def fetch(self, index: Tensor) -> Recordings:
        return Recordings(self, index.tolist())


Parts = list[tuple[int, int, int, Tensor]]
"""For each view of a recording: its rate, the window's start and length at the rate of the views,
and the samples as recorded."""


class Recordings(Uncut):
    """Recordings of a source that were asked for; nothing is read before they are cut.

    Args:
        source: of which they are.
        numbers: [S] which.
    """

    def __init__(self, source: SoundSource, numbers: Sequence[int]) -> None:
        self.source, self.numbers = source, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def cut(self, transforms: Sequence[Any], keys: Sequence[Tensor]) -> list[Waves]:
        """For each view the windows [S, T] of its transform's `window`.

        Raises:
            UnreadableSound: a recording cannot be read, and the source does not skip it.
        """
        windows: list[Window] = [transform.window for transform in transforms]

        def read(place: int) -> Parts:
            number, key = self.numbers[place], [key[place : place + 1] for key in keys]
            try:
                return self._read(number, windows, key)
            except UnreadableSound as error:
                self.source.skip(number, error)
            return self.source.substitute(number, lambda other: self._read(other, windows, key))

        places = range(len(self.numbers))
        parts = [read(place) for place in places] if self.source.in_memory else in_threads(read, places)
        return [self._resampled([views[view] for views in parts], window) for view, window in enumerate(windows)]

    def _read(self, number: int, windows: Sequence[Window], keys: Sequence[Tensor]) -> Parts:
        sound = self.source.open(number)
        resampler = Resampler(sound.rate, self.source.sample_rate)
        length = resampler.length(sound.frames)
        stretches = [
            (window.start(key, length), window.taken(length)) for window, key in zip(windows, keys, strict=True)
        ]
        return [(sound.rate, start, count, sound.read(*resampler.needs(start, count))) for start, count in stretches]

    def _resampled(self, parts: Parts, window: Window) -> Waves:
        """Windows at one rate: all that were recorded at the same rate at once."""
        if not parts:
            return Waves(torch.empty(0, window.row(0)))
        rates, starts, lengths, waves = (list(column) for column in zip(*parts, strict=True))
        samples = window.row(max(lengths))
        x, start = torch.empty(len(parts), samples), torch.tensor(starts)
        for rate in set(rates):
            same = torch.tensor([place for place, other in enumerate(rates) if other == rate])
            resampler = Resampler(rate, self.source.sample_rate)
            _, frames = resampler.needs(0, samples)  # as many, wherever they start
            rows = torch.stack([F.pad(waves[place], (0, frames - len(waves[place]))) for place in same.tolist()])
            x[same] = resampler(rows, start[same], samples)
        if min(lengths) == samples:
            return Waves(x)
        length = torch.tensor(lengths)
        return Waves(x.masked_fill_(~within(length, samples), 0.0), length)  # resampling sounds on behind the end


def recordings_of(source: Source) -> SoundSource:
    """The source itself, or the one that it is a part of.

    Raises:
        TypeError: it has no recordings.
    """
    while isinstance(source, Subset):
        source = source.source
    if not isinstance(source, SoundSource):
        raise TypeError(f"A datamodule for sound needs a SoundSource, got a {type(source).__name__}.")
    return source
