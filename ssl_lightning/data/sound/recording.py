"""Sound files: of each, only the part that is needed is read, as one channel."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...plugins.arguments import require
from ...plugins.messages import printable
from ..files.reading import note
from ..files.source import Unreadable

SUFFIXES = frozenset(
    "." + kind
    for kind in [
        "wav",
        "wave",
        "flac",
        "ogg",
        "oga",
        "opus",
        "mp3",
        "aif",
        "aiff",
        "aifc",
        "au",
        "snd",
        "caf",
        "w64",
        "rf64",
    ]
)
"""Suffixes of file names that count as sound, in lower case, with the dot. The content decides
which format a file has."""
LOSSY = ("MP3", "OGG")
"""Formats whose headers may declare a few frames more than there are: the decoder's delay."""
DELAY = 2 * 1152
"""Frames that may be missing at the end of a lossy file; they are read as zeros."""
OGG_END = 10
"""Seconds at the end of an ogg file within which seeking is not exact."""


class UnreadableSound(Unreadable):
    """A sound file that cannot be read."""


class Sound(ABC):
    """One recording.

    Attributes:
        name: the recording's name in messages.
        rate: samples per second.
        frames: the number of samples.
    """

    name: str
    rate: int
    frames: int

    @abstractmethod
    def read(self, start: int, count: int) -> Tensor:
        """Reads samples from `start` on, [count] float32, full scale being [-1, 1]; zeros before
        the beginning and beyond the end.

        Raises:
            UnreadableSound: the samples cannot be decoded, are not finite, or the whole recording
                is silent.
        """


class Stored(Sound):
    """A recording in memory.

    Args:
        name: the recording's name in messages.
        samples: [T] in [-1, 1].
        rate: in Hz.

    Raises:
        ValueError: the rate is not positive.
    """

    def __init__(self, name: str, samples: Tensor, rate: int) -> None:
        require(name, at_least=1, rate=rate)
        self.name, self.samples, self.rate, self.frames = name, samples, rate, len(samples)

    def read(self, start: int, count: int) -> Tensor:
        wave = torch.zeros(count)
        low, high = max(start, 0), min(start + count, self.frames)
        if low < high:
            wave[low - start : high - start] = self.samples[low:high]
        return wave


class SoundFile(Sound):
    """A sound file, or a stretch of one, whose header is read at once, and its samples when they
    are needed.

    Several channels become their mean. A file that ends before its header says so is an error; but
    a wav that was cut off is merely shorter, and what an mp3 lacks its decoder fills with silence.
    Silence is no error where the file sounds elsewhere.

    Args:
        path: of the file.
        begin: of the stretch, in seconds.
        end: of the stretch, in seconds; None: the end of the file.

    Raises:
        UnreadableSound: the file is missing, is not a sound, has no samples, or has none in the
            stretch.
    """

    def __init__(self, path: str | Path, begin: float = 0.0, end: float | None = None) -> None:
        self.path, self.name = path, printable(path)
        note(self.name)
        try:
            self.file = soundfile.SoundFile(path)
        except MemoryError:
            raise
        except Exception as error:
            raise UnreadableSound(f"{self.name}: {_reason(path, error)}.") from error
        self.rate, whole = self.file.samplerate, self.file.frames
        self.spare = DELAY if self.file.format in LOSSY else 0
        self.first = round(begin * self.rate)
        last = whole if end is None else min(round(end * self.rate), whole + self.spare)
        self.frames = min(last, whole) - self.first
        if whole < 1:
            raise UnreadableSound(f"{self.name}: it has no samples.")
        if self.frames < 1:
            stretch = f"from {begin:g} s" + (f" to {end:g} s" if end is not None else "")
            raise UnreadableSound(f"{self.name}: it lasts {whole / self.rate:g} s and has nothing {stretch}.")

    def read(self, start: int, count: int) -> Tensor:
        low, high = max(start, 0), min(start + count, self.frames)
        wave = torch.zeros(count)
        if low < high:
            wave[low - start : high - start] = torch.from_numpy(self._decode(low, high))
            if not bool(wave.any()) and self._silent():
                raise UnreadableSound(f"{self.name}: it is silent.")
        return wave

    def _decode(self, low: int, high: int) -> NDArray[np.float32]:
        note(self.name)
        try:
            frame = self.first + low
            # Near the end of an ogg file, libsndfile does not always seek to the requested frame
            # (its issue 885): seek to an earlier one, and decode from there.
            ahead = max(0, frame - max(0, self.file.frames - OGG_END * self.rate)) if self.file.format == "OGG" else 0
            if self.file.tell() != frame - ahead:
                self.file.seek(frame - ahead)
            samples = self.file.read(ahead + high - low, dtype="float32", always_2d=True)[ahead:]
            samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(1)
        except MemoryError:
            raise
        except Exception as error:
            raise UnreadableSound(f"{self.name}: {_reason(self.path, error)}.") from error
        missing = high - low - len(samples)
        if missing > self.spare:
            raise UnreadableSound(f"{self.name}: it ends {missing / self.rate:.3g} s before it should.")
        if not np.isfinite(samples).all():
            raise UnreadableSound(f"{self.name}: it contains NaN or infinity.")
        return np.pad(samples, (0, missing)) if missing else samples

    def _silent(self) -> bool:
        block = 60 * self.rate
        return not any(self._decode(low, min(low + block, self.frames)).any() for low in range(0, self.frames, block))


def _reason(path: str | Path, error: Exception) -> str:
    match error:
        case _ if not os.path.exists(path):
            return "there is no such file"
        case _ if os.path.isdir(path):
            return "it is a folder"
        case _ if not os.access(path, os.R_OK):
            return "this user may not read it"
        case _ if os.path.getsize(path) == 0:
            return "it is empty (0 bytes)"
        case soundfile.LibsndfileError():
            return "it is not a sound that can be read here: " + error.error_string.rstrip(".")
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
