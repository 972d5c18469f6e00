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
from .channels import mixed, sounds
from .mpeg import counted
from .ogg import is_joined

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
RESERVOIR = 16 * 1152
"""Samples before a part of an mp3 that are decoded with it: a frame's bits may lie in up to 9
frames before it (24 of half the samples at low rates), of which libsndfile decodes too few."""
RATES = (100, 4_000_000)
"""Sampling rates that recordings have, in Hz; others are errors of a header."""
LOUDEST = 32.0
"""The largest sample of a recording that can be meant: full scale is 1."""
MOST = 1 << 48
"""Samples; more stand for a length that is not known."""
PROBES, PROBE = 60, 10.0
"""In so many stretches of so many seconds a recording is looked at, to see whether it is silent."""


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
            UnreadableSound: the samples cannot be decoded, are not finite or far beyond full scale,
                or the whole recording is silent.
        """

    def checked(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns samples [count, ...], if they can be meant.

        Raises:
            UnreadableSound: they are not finite, or far beyond full scale.
        """
        loudest = float(np.abs(samples).max(initial=0.0))  # NaN, if there is any
        if not np.isfinite(loudest):
            raise UnreadableSound(f"{self.name}: it contains NaN or infinity.")
        if loudest > LOUDEST:
            raise UnreadableSound(
                f"{self.name}: its samples reach {loudest:.5g}, where full scale is 1. Divide them (those of 16 bits by"
                " 32768)."
            )
        return samples


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
            self.checked(wave.numpy())
        return wave


class SoundFile(Sound):
    """A sound file, or a stretch of one, whose header is read at once, and its samples when they
    are needed.

    Several channels become their mean; where they cancel each other, being out of phase, the first
    one stands for all. A file that ends before its header says so is an error; but a wav or mp3
    that was cut off is merely shorter. Silence is no error where the file sounds elsewhere; of one
    that is longer than ten minutes, ten minutes from all over it are looked at.

    Args:
        path: of the file.
        begin: of the stretch, in seconds.
        end: of the stretch, in seconds; None: the end of the file.

    Raises:
        UnreadableSound: the file is missing, is not a sound, consists of several, has a sampling
            rate that cannot be, does not tell its length, has no samples, or has none in the
            stretch.
    """

    def __init__(self, path: str | Path, begin: float = 0.0, end: float | None = None) -> None:
        self.path, self.name = path, printable(path)
        note(self.name)
        try:
            self.file = soundfile.SoundFile(path)
            joined = self.file.format == "OGG" and is_joined(path)
            if self.file.format == "MP3" and (whole_file := counted(path, self.file.frames, DELAY)) is not None:
                self.file = soundfile.SoundFile(whole_file)
        except MemoryError:
            raise
        except Exception as error:
            raise UnreadableSound(f"{self.name}: {_reason(path, error)}.") from error
        self.rate, whole = self.file.samplerate, self.file.frames
        if joined:
            raise UnreadableSound(
                f"{self.name}: it consists of several streams, of which only the first can be read. Convert it anew."
            )
        if not RATES[0] <= self.rate <= RATES[1]:
            raise UnreadableSound(f"{self.name}: its sampling rate is {self.rate:,} Hz, which cannot be.")
        if whole > MOST:
            raise UnreadableSound(f"{self.name}: its header does not tell its length. Convert it anew.")
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
            samples = self._decode(low, high)
            if not sounds(samples) and self._silent():
                raise UnreadableSound(f"{self.name}: it is silent.")
            wave[low - start : high - start] = torch.from_numpy(mixed(samples))
        return wave

    def _decode(self, low: int, high: int) -> NDArray[np.float32]:
        """Samples of all channels, [high - low, channels]."""
        note(self.name)
        try:
            frame = self.first + low
            ahead = self._ahead(frame)
            if self.file.tell() != frame - ahead:
                self.file.seek(frame - ahead)
            samples = self.file.read(ahead + high - low, dtype="float32", always_2d=True)[ahead:]
        except MemoryError:
            raise
        except Exception as error:
            raise UnreadableSound(f"{self.name}: {_reason(self.path, error)}.") from error
        missing = high - low - len(samples)
        if missing > self.spare:
            raise UnreadableSound(f"{self.name}: it ends {missing / self.rate:.3g} s before it should.")
        samples = self.checked(samples)
        return np.pad(samples, ((0, missing), (0, 0))) if missing else samples

    def _ahead(self, frame: int) -> int:
        """The number of samples before a frame from which on it is decoded right."""
        if self.file.format == "MP3":
            return 0 if self.file.tell() == frame else min(frame, RESERVOIR)
        # Near the end of an ogg file, libsndfile does not always seek to the requested frame (its
        # issue 885): seek to an earlier one, and decode from there.
        return max(0, frame - max(0, self.file.frames - OGG_END * self.rate)) if self.file.format == "OGG" else 0

    def _silent(self) -> bool:
        probe = round(PROBE * self.rate)
        step = max(probe, self.frames // PROBES)
        return not any(sounds(self._decode(low, min(low + probe, self.frames))) for low in range(0, self.frames, step))


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
