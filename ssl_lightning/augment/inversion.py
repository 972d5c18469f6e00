"""From log-mels back to a wave.

Notation for shapes: S samples; T samples of a wave; F frames; W samples of a window; M mel bands; K
bins of the spectrum.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..plugins.arguments import require
from .log_mel import LogMel
from .random import fold, uniform

PHASE = 0x7068617365
"""Folded into the keys of the first phases, so that they differ from what augmentations draw."""

BAND_STEPS = 300
"""Multiplicative steps from energies in bands to a spectrum, whose energies then differ by about
1 %."""


class Inversion:
    """This computes waves whose log-mels are close to given ones, a batch at a time.

    A frame's spectrum is non-negative and has the given energies in the bands; multiplicative steps
    lead to it (Lee and Seung 2000, Algorithms for Non-negative Matrix Factorization, Equation 4).
    Going back and forth between waves and spectra leads to its phases (Griffin and Lim 1984, doi
    10.1109/TASSP.1984.1164317, Equation 6), each time a little further in the direction of the last
    step (Perraudin, Balazs and Sondergaard 2013, A fast Griffin-Lim algorithm, Algorithm 2).

    librosa's `mel_to_stft` and `griffinlim` come as near, in 25 times the time, and know neither
    pre-emphasis nor these edges.

    Args:
        mel: the module that computed the log-mels.
        steps: of the search for phases.
        momentum: of these steps; 0 is the plain algorithm.

    Raises:
        ValueError: the steps or the momentum are negative, or the momentum exceeds 1.
    """

    def __init__(self, mel: LogMel, *, steps: int = 32, momentum: float = 0.99) -> None:
        require(self, at_least=0, steps=steps)
        require(self, at_least=0, at_most=1, momentum=momentum)
        self.mel, self.steps, self.momentum = mel, steps, momentum
        self.before = (mel.window - mel.hop) // 2 if mel.edges == "pad" else 0

    def __call__(self, log_mels: Tensor) -> Tensor:
        """Logarithms of energies [S, M, F] -> waves [S, T]."""
        if not log_mels.numel():  # an FFT of no samples fails on some builds
            return log_mels.new_zeros(len(log_mels), self.samples(log_mels.shape[2]), dtype=torch.float32)
        size = self.spectrum(log_mels.float().exp().mT).sqrt()  # [S, F, K + 1]
        key = fold(torch.zeros(len(size), dtype=torch.int64, device=size.device), PHASE)
        ahead = torch.polar(size, uniform(key, size[0].numel(), 0.0, 2 * math.pi).view_as(size))
        spectra = torch.zeros_like(ahead)
        for _ in range(self.steps):
            before, spectra = spectra, self.analysed(self.wave(torch.polar(size, ahead.angle())))
            ahead = spectra + self.momentum * (spectra - before)
        return self.wave(torch.polar(size, ahead.angle()))

    def samples(self, frames: int) -> int:
        """T for log-mels of F frames."""
        mel = self.mel
        return frames * mel.hop if mel.edges == "pad" else (frames - 1) * mel.hop + mel.window

    def spectrum(self, energy: Tensor) -> Tensor:
        """Energies in the bands [S, F, M] -> power of each bin [S, F, K + 1] before any
        pre-emphasis; that of the highest bin is 0."""
        bank = self.mel.bank.to(energy.device)  # [K, M]
        power = (energy @ bank.T).clamp(min=1e-10)
        for _ in range(BAND_STEPS):
            power = power * (energy @ bank.T) / (power @ bank @ bank.T).clamp(min=1e-20)
        frequency = torch.arange(len(bank), device=energy.device) * (math.pi / len(bank))
        # |1 - a exp(-i w)| squared
        emphasis = 1 - 2 * self.mel.pre_emphasis * frequency.cos() + self.mel.pre_emphasis**2
        return F.pad(power / emphasis, (0, 1))

    def analysed(self, wave: Tensor) -> Tensor:
        """Waves [S, T] -> spectra [S, F, K + 1]."""
        mel = self.mel
        behind = mel.window - mel.hop - self.before if mel.edges == "pad" else 0
        frames = F.pad(wave, (self.before, behind)).unfold(1, mel.window, mel.hop)
        return torch.fft.rfft(F.pad(frames * mel.taper.to(wave.device), (0, mel.size - mel.window)))

    def wave(self, spectra: Tensor) -> Tensor:
        """Spectra [S, F, K + 1] -> the waves [S, T] whose spectra are nearest to them."""
        mel, taper = self.mel, self.mel.taper.to(spectra.device)
        frames = torch.fft.irfft(spectra, mel.size)[:, :, : mel.window] * taper
        count = frames.shape[1]
        length = (count - 1) * mel.hop + mel.window
        weight = self.added(taper.square().expand(1, count, -1), length)
        # At the ends there is next to no weight.
        added = self.added(frames, length) / weight.clamp(min=0.1 * float(weight.max()))
        return added[:, self.before : self.before + self.samples(count)]

    def added(self, frames: Tensor, length: int) -> Tensor:
        """Frames [S, F, W] one hop apart, added up: [S, length]."""
        return F.fold(frames.mT, (1, length), (1, self.mel.window), stride=(1, self.mel.hop))[:, 0, 0]
