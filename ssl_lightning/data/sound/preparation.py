"""Recordings are prepared as by a run, by soundfile, soxr and torch alone: the lines for other
libraries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..preparation import Preparation

READ = """import soundfile
import soxr
import torch

wave, rate = soundfile.read("a.wav", dtype="float32", always_2d=True)
wave = wave.mean(axis=1)  # [T]
wave = torch.from_numpy(wave if rate == {rate} else soxr.resample(wave, rate, {rate}))
"""
WAVE = "x = wave[None]  # [1, T]\n"
NORMALISED = "x = ((wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt())[None]  # [1, T]\n"
MASK = "mask = torch.ones(1, x.shape[1], dtype=torch.int64)\n"
PADDED = "wave = torch.nn.functional.pad(wave, (0, max(0, {samples} - len(wave))))\n"
LOG_MEL = """top = 2595 * torch.tensor(1 + {rate} / 1400, dtype=torch.float64).log10()
corners = 700 * (10 ** (torch.linspace(0, float(top), {mels} + 2, dtype=torch.float64) / 2595) - 1)
bins = torch.arange({size} // 2, dtype=torch.float64) * {rate} / {size}
left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
bank = torch.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)).clamp(min=0).float()
padded = torch.nn.functional.pad(wave, ({before}, {after}))
taper = torch.hann_window({window}, dtype=torch.float64).float()
frames = padded.unfold(0, {window}, {hop})[: len(wave) // {hop}] * taper
energy = torch.fft.rfft(frames, n={size}).abs().square()[:, :-1] @ bank.T
x = (energy.clamp(min=1e-6).log().T[None, None] - {mean}) / {std}  # [1, 1, {mels}, frames]
"""
LONGER = (
    "Of a recording longer than {seconds} s, a run's features are the mean over windows of {seconds} s that cover it."
)


def preparation_of(data: Any) -> Preparation:
    """Returns the preparation of recordings by the test transform of a `SoundDataModule`."""
    rate, mel = data.sample_rate, data.mel
    facts: dict[str, Any] = {"rate": rate, "features": data.features, "seconds": data.seconds}
    remark = "" if data.seconds is None else LONGER.format(seconds=data.seconds)
    read = READ.format(rate=rate)
    if data.features == "wave":
        made = NORMALISED if data.normalise else WAVE
        return Preparation(read + made + MASK, {**facts, "normalise": data.normalise}, remark)
    mean, std = data.normalisation
    facts |= {**data.of_log_mels, "mean": mean, "std": std}
    if data.of_log_mels["spectrogram"] != "plain":
        return Preparation("", facts, "Kaldi's log-mels are computed by ssl_lightning.augment.log_mel.LogMel.kaldi.")
    before = (mel.window - mel.hop) // 2
    sizes = {"mels": mel.mels, "size": mel.size, "window": mel.window, "hop": mel.hop, "mean": mean, "std": std}
    made = LOG_MEL.format(rate=rate, before=before, after=mel.window - mel.hop - before, **sizes)
    padded = "" if data.samples is None else PADDED.format(samples=data.samples)
    return Preparation(read + padded + made, facts, remark)


def made_up(count: int, rate: int, samples: int) -> list[tuple[Tensor, int]]:
    """Returns noisy tones that nobody recorded, of several lengths up to `samples`, with their
    rate."""
    generator, waves = torch.Generator().manual_seed(0), []
    for number in range(count):
        length = max(2, samples * (count - number // 2) // count)
        tone = (torch.arange(length) * (440.0 * (number + 1) / rate) * 2 * torch.pi).sin()
        waves.append((0.1 * tone + 0.02 * torch.randn(length, generator=generator), rate))
    return waves
