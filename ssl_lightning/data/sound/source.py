"""Recordings of any length as a source: of each, the windows are read that the views take, at one
sampling rate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...augment.window import Waves, Window
from ..files.source import FileSource, in_threads
from ..sources import Source, Subset, Uncut
from .recording import Sound, UnreadableSound
from .resampling import length_at, read_at


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

        def read(place: int) -> list[Tensor]:
            number, key = self.numbers[place], [key[place : place + 1] for key in keys]
            try:
                return self._read(number, windows, key)
            except UnreadableSound as error:
                self.source.skip(number, error)
            return self.source.substitute(number, lambda other: self._read(other, windows, key))

        places = range(len(self.numbers))
        waves = [read(place) for place in places] if self.source.in_memory else in_threads(read, places)
        return [_rows([of_views[view] for of_views in waves], window) for view, window in enumerate(windows)]

    def _read(self, number: int, windows: Sequence[Window], keys: Sequence[Tensor]) -> list[Tensor]:
        """For each view the samples [T] of a recording that its window takes."""
        sound, rate = self.source.open(number), self.source.sample_rate
        length = length_at(sound, rate)
        return [
            read_at(sound, rate, window.start(key, length), window.taken(length))
            for window, key in zip(windows, keys, strict=True)
        ]


def _rows(waves: list[Tensor], window: Window) -> Waves:
    """Samples of each recording as one batch, padded behind the shorter ones."""
    lengths = [len(wave) for wave in waves]
    samples = window.row(max(lengths, default=0))
    x = torch.zeros(len(waves), samples)
    for row, wave in zip(x, waves, strict=True):
        row[: len(wave)] = wave
    return Waves(x) if min(lengths, default=samples) == samples else Waves(x, torch.tensor(lengths))


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
