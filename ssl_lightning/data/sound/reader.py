"""From sound files, or waves, to the view that an encoder reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ...augment.sound import SoundPolicy
from ...types import View
from .recording import Sound, SoundFile, Stored
from .settings import SOUND, log_mel, samples_of
from .source import SoundSource

Recording = str | Path | tuple[Tensor | NDArray[Any], int]
"""A file, or samples [T] in [-1, 1], of torch or NumPy, and their rate in Hz."""


class SoundReader:
    """Turns recordings into a view, as the run did: `encoder(read(["a.wav", "b.flac"]))` gives
    features [2, dim].

    A recording that is longer than the run's windows is cut to its middle.

    Args:
        path: the run folder, another folder that contains its `sound.json`, or this file.

    Raises:
        FileNotFoundError: there is no `sound.json`.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        file = path if path.is_file() else path / SOUND
        if not file.is_file():
            raise FileNotFoundError(
                f"There is no {SOUND} in {str(path)!r}. Give the folder of a run on sound, which contains it."
            )
        given = json.loads(file.read_text())
        rate, seconds, mel = given["sample_rate"], given["seconds"], None
        if given["features"] == "log_mel":
            mel = log_mel(rate, *(given[name] for name in ("mels", "window", "hop", "spectrogram")))
        step = (mel.hop if mel else round(0.01 * rate)) if given["varies"] else 0
        self.sample_rate: int = rate
        self.transform = SoundPolicy().build(
            "none",
            None if seconds is None else samples_of(rate, seconds),
            mel,
            tuple(given.get("statistics", (0.0, 1.0))),
            step=step,
            normalise=given.get("normalise", False),
        )

    def __call__(self, recordings: Sequence[Recording]) -> View:
        """Turns S recordings into waves [S, T], or log-mels [S, 1, M, F].

        Raises:
            UnreadableSound: a file cannot be read.
            TypeError, ValueError: a recording is neither a file nor samples [T] in [-1, 1].
        """
        if isinstance(recordings, (str, Path)):
            raise TypeError("This is one recording, not a list of them; give [recording].")
        source = _Given(recordings, self.sample_rate)
        (raw,) = source.fetch(torch.arange(len(recordings))).cut(
            [self.transform], [torch.zeros(len(recordings), dtype=torch.int64)]
        )
        view: View = self.transform(raw, torch.zeros(len(recordings), dtype=torch.int64))
        return view


class _Given(SoundSource):
    def __init__(self, recordings: Sequence[Recording], sample_rate: int) -> None:
        super().__init__(len(recordings), sample_rate)
        self.recordings = recordings

    def open(self, number: int) -> Sound:
        recording = self.recordings[number]
        if isinstance(recording, (str, Path)):
            return SoundFile(recording)
        return Stored(self.name(number), *_samples(recording, self.name(number)))

    def name(self, number: int) -> str:
        recording = self.recordings[number]
        return str(recording) if isinstance(recording, (str, Path)) else f"recording {number}"


def _samples(recording: Recording, name: str) -> tuple[Tensor, int]:
    """A recording's samples [T] and its rate, where they are so.

    Raises:
        TypeError, ValueError: they are not; the message says what is given, and the remedy.
    """
    if not (isinstance(recording, tuple) and len(recording) == 2):
        raise TypeError(f"{name} is a {type(recording).__name__}; give a file's path, or samples [T] with their rate.")
    samples, rate = torch.as_tensor(recording[0]), recording[1]
    if samples.ndim != 1:
        shape = list(samples.shape)
        raise ValueError(f"{name} has the shape {shape}; give the samples [T] of one channel, or the channels' mean.")
    if not samples.is_floating_point():
        kind = str(samples.dtype).removeprefix("torch.")
        raise ValueError(f"{name} holds {kind}; give floating-point samples in [-1, 1], such as int16 / 32768.")
    return samples.float(), rate
