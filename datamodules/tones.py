"""Generated sounds, for a first run and for tests; they need no download."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ssl_lightning.augment.random import fold, normal, sample_keys, uniform
from ssl_lightning.augment.sound import SoundPolicy
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sound.datamodule import SoundDataModule
from ssl_lightning.data.sound.recording import Sound, Stored
from ssl_lightning.data.sound.source import SoundSource
from ssl_lightning.data.sources import Source

CLASSES = ("tone", "chord", "rising", "falling", "tremolo", "vibrato", "beeps", "clicks", "bell", "noise")
RATE, SECONDS = 8000, 1.2
TRAIN, TEST = 2000, 500
BATCH = 500


class Tones(SoundDataModule):
    """Generated sounds of 1.2 s at 8 kHz: 2,000 train and 500 test samples, 10 classes, no
    download.

    They are steady tones, chords, chirps that rise or fall, amplitude and frequency modulation,
    beeps, clicks, bells, and noise in a band: of any pitch between 200 and 1,600 Hz and any
    loudness, with noise 5 to 30 dB below. The class depends on how a sound changes, not on its
    pitch.
    """

    default_epochs = 12
    class_names = CLASSES
    policy = SoundPolicy(noise_p=0.3, crop_frequency=(0.8, 1.2), crop_time=(0.8, 1.2), crop_canvas=(1.0, 1.2), mix=0.2)

    def __init__(
        self,
        *,
        sample_rate: int = RATE,
        mels: int = 32,
        window: float = 0.032,
        seconds: float | None = 0.96,
        **kwargs: Any,
    ) -> None:
        super().__init__(sample_rate=sample_rate, mels=mels, window=window, seconds=seconds, **kwargs)

    def source(self, split: Split) -> Source | None:
        if split == "val":
            return None
        first, count = (0, TRAIN) if split == "train" else (TRAIN, TEST)
        return Generated(first, count, self.sample_rate)


class Generated(SoundSource):
    """Generated sounds take turns in their classes.

    Args:
        first: index of the first sound, of all that can be generated.
        count: number of sounds.
        sample_rate: of what is read, in Hz.
    """

    in_memory = True

    def __init__(self, first: int, count: int, sample_rate: int) -> None:
        super().__init__(count, sample_rate, torch.arange(first, first + count) % len(CLASSES))
        self.waves = generated(first, count)
        self.fingerprint = "tones-1"

    def open(self, number: int) -> Sound:
        return Stored(self.name(number), self.waves[number], RATE)

    def name(self, number: int) -> str:
        return f"tone {number}"


@lru_cache(maxsize=2)
def generated(first: int, count: int) -> Tensor:
    """Sounds [S, T] of the indices from `first` on are generated once in a process."""
    return torch.cat([generate(part) for part in torch.arange(first, first + count).split(BATCH)])


def generate(index: Tensor) -> Tensor:
    """Sounds [S, T] are generated from indices [S]; a sound depends on its index alone."""
    key = sample_keys(0, 0, index)
    u = uniform(key, 7)
    sound = torch.empty(len(index), round(RATE * SECONDS))
    kinds = index % len(CLASSES)
    for kind in kinds.unique().tolist():  # only those that occur: an FFT of no samples fails on some builds
        same = kinds == kind
        sound[same] = _sound(CLASSES[kind], u[same], fold(key[same], 1))
    level = 0.3 * 10 ** (-(6 + 18 * u[:, 4:5]) / 20)
    noise = normal(fold(key, 2), sound.shape[1]) * 10 ** (-(5 + 25 * u[:, 5:6]) / 20)
    return ((sound / sound.square().mean(1, keepdim=True).sqrt() + noise) * level).clamp(-1, 1)


def _sound(kind: str, u: Tensor, key: Tensor) -> Tensor:
    """Sounds [S, T] of a class, of any loudness, follow from uniform values [S, 7] and keys [S]."""
    time = torch.arange(round(RATE * SECONDS)) / RATE  # [T]
    # In Hz; in beats a second; the part of a beat at which it begins. [S, 1] each
    pitch, pace, start = 200 * 8 ** u[:, :1], 3 * 3 ** u[:, 1:2], u[:, 2:3]
    swing = (2 * math.pi * (pace * time + start)).sin()  # [S, T]
    beat = (pace * time + start).frac()  # fraction of the beat that has passed
    octaves = (1 + u[:, 3:4]) * (time / SECONDS - 0.5)  # of a chirp, around its pitch
    bend = {"rising": octaves, "falling": -octaves, "vibrato": swing * (0.1 + 0.2 * u[:, 3:4])}.get(
        kind, torch.zeros_like(swing)
    )
    phase = 2 * math.pi * (pitch * 2**bend).double().cumsum(1) / RATE
    tone = (phase.sin() + 0.3 * (2 * phase).sin()).float()
    match kind:
        case "chord":
            return tone + (1.25 * phase).sin().float() + (1.5 * phase).sin().float()
        case "tremolo":
            return tone * (1 + 0.9 * swing)
        case "beeps":
            return tone * (beat < 0.4)
        case "bell":
            return tone * (-12 * beat / pace).exp()
        case "clicks":
            return normal(key, len(time)) * (-150 * beat / pace).exp()
        case "noise":
            return torch.fft.irfft(torch.fft.rfft(normal(key, len(time))) * _band(pitch, len(time)), len(time))
    return tone


def _band(pitch: Tensor, samples: int) -> Tensor:
    """The bins of a spectrum within a third of an octave on both sides of a pitch [S, 1] are 1."""
    bins = torch.fft.rfftfreq(samples, 1 / RATE)
    return ((bins > pitch / 1.26) & (bins < pitch * 1.26)).float()
