"""A source of recordings of any length: of each, only the windows that the views take are read, at
one sampling rate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...augment.window import Waves, Window
from ..files.source import FileSource, in_threads
from ..sources import Source, Subset, Uncut
from ..windows import Windows
from .recording import Sound, UnreadableSound
from .resampling import length_at, read_at


class SoundSource(FileSource):
    """A source of recordings of any length and sampling rate.

    Args:
        count: N, the number of recordings.
        sample_rate: in Hz, to which recordings are resampled when read.
        others: further arguments of `FileSource`.
    """

    samples, error = "recordings", UnreadableSound
    lengths: Tensor | None = None
    """[N] int64, once `lengths_of` has computed them."""
    view: int | None = None
    """Samples that a view shows of a recording at most; None: all."""
    _windows: tuple[int, Windows | None] | None = None

    def __init__(self, count: int, sample_rate: int, *others: Any) -> None:
        super().__init__(count, *others)
        self.sample_rate = sample_rate

    @abstractmethod
    def open(self, number: int) -> Sound:
        """Opens a recording, of which only the header is read."""

    def stamp(self, number: int) -> str:
        """Returns a text that changes when the recording does."""
        return self.name(number)

    def fetch(self, index: Tensor) -> Recordings:
        return Recordings(self, index.tolist())

    def windows(self) -> Windows | None:
        from .windows import windows_over  # here: it is built of this class

        if self.view is None:
            return None
        if self._windows is None or self._windows[0] != self.view:
            self._windows = self.view, windows_over(self, self.view)
        return self._windows[1]


class Recordings(Uncut):
    """Recordings fetched from a source; nothing is read before they are cut.

    Args:
        source: the recordings' source.
        numbers: [S] the recordings' indices in the source.
        starts: [S] the sample at which each view begins; None: where its transform has it.
    """

    def __init__(self, source: SoundSource, numbers: Sequence[int], starts: Sequence[int] | None = None) -> None:
        self.source, self.numbers, self.starts = source, numbers, starts

    def __len__(self) -> int:
        return len(self.numbers)

    def cut(self, transforms: Sequence[Any], keys: Sequence[Tensor]) -> list[Waves]:
        """Returns for each view the windows [S, T] of its transform's `window`.

        Raises:
            UnreadableSound: a recording cannot be read, and the source does not skip it.
        """
        windows: list[Window] = [transform.window for transform in transforms]

        def read(row: int) -> list[Tensor]:
            number, key = self.numbers[row], [key[row : row + 1] for key in keys]
            start = None if self.starts is None else self.starts[row]
            try:
                return self._read(number, windows, key, start)
            except UnreadableSound as error:
                self.source.skip(number, error)
            return self.source.substitute(number, lambda other: self._read(other, windows, key, start))

        rows = range(len(self.numbers))
        waves = [read(row) for row in rows] if self.source.in_memory else in_threads(read, rows)
        return [_rows([views[view] for views in waves], window) for view, window in enumerate(windows)]

    def _read(self, number: int, windows: Sequence[Window], keys: Sequence[Tensor], start: int | None) -> list[Tensor]:
        """Reads for each view the samples [T] of a recording that its window takes."""
        sound, rate = self.source.open(number), self.source.sample_rate
        length = length_at(sound, rate)
        waves = []
        for window, key in zip(windows, keys, strict=True):
            count = window.taken(length)
            first = window.start(key, length) if start is None else min(start, length - count)
            waves.append(read_at(sound, rate, first, count))
        return waves


def _rows(waves: list[Tensor], window: Window) -> Waves:
    """Returns the samples of recordings as one batch; shorter ones are padded at the end."""
    lengths = [len(wave) for wave in waves]
    samples = window.row(max(lengths, default=0))
    x = torch.zeros(len(waves), samples)
    for row, wave in zip(x, waves, strict=True):
        row[: len(wave)] = wave
    return Waves(x) if min(lengths, default=samples) == samples else Waves(x, torch.tensor(lengths))


def recordings_of(source: Source) -> SoundSource:
    """Returns the source itself, or the one that it is a part of.

    Raises:
        TypeError: it is not a source of recordings.
    """
    while isinstance(source, Subset):
        source = source.source
    if not isinstance(source, SoundSource):
        raise TypeError(f"A {type(source).__name__} is not a SoundSource, which a datamodule for sound needs.")
    return source
