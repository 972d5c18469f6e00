"""Log-mel spectrograms of waves are computed for a whole batch on its device.

Notation for shapes: S samples in a batch; T samples of a wave; F frames; W samples of a window; M
mel bands; K bins of the spectrum.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1.1920928955078125e-07
"""Kaldi's floor, the spacing of float32 at 1."""

CHUNK_BYTES = 3 << 19
"""A CPU computes the spectra of this much at a time, so that they stay in its cache: 2.4 times as
fast as a batch of 64 s at once."""


class LogMel(nn.Module):
    """Log-mels are logarithms of the energy in frequency bands as wide as the ear's (Davis and
    Mermelstein 1980, doi 10.1109/TASSP.1980.1163420).

    The mel scale is HTK's, 2595 log10(1 + f / 700). A spectrum is that of a window, padded to a
    power of two; its power is summed in triangles, without normalisation by their width.

    Args:
        sample_rate: of the waves, in Hz.
        mels: M, number of bands.
        window: length of a window, in seconds.
        hop: time from one window to the next, in seconds.
        low: lower end of the lowest band, in Hz.
        high: upper end of the highest band, in Hz; None: half the sampling rate.
        shape: of the window: `hann`; or `povey`, Kaldi's, a Hann window to the power of 0.85 that
            ends in zeros.
        pre_emphasis: factor on the previous sample, which is subtracted from each within a window.
        centre: whether the mean of each window is subtracted from it.
        triangles: whether the bands are triangles over the frequency in `hz`, as librosa's, or over
            the `mel` scale, as Kaldi's.
        floor: the least energy; a smaller one is replaced by it.
        edges: `pad`: zeros on both sides, for one frame a hop, T // hop in all; `snip`: whole
            windows alone.

    Raises:
        ValueError: an argument is out of its range, or there are more bands than the window
            resolves.
    """

    taper: Tensor
    bank: Tensor

    def __init__(
        self,
        sample_rate: int,
        *,
        mels: int = 64,
        window: float = 0.025,
        hop: float = 0.01,
        low: float = 0.0,
        high: float | None = None,
        shape: Literal["hann", "povey"] = "hann",
        pre_emphasis: float = 0.0,
        centre: bool = False,
        triangles: Literal["hz", "mel"] = "hz",
        floor: float = 1e-6,
        edges: Literal["pad", "snip"] = "pad",
    ) -> None:
        super().__init__()
        self.window, self.hop = round(window * sample_rate), round(hop * sample_rate)
        high = sample_rate / 2 if high is None else high
        if not 1 <= self.hop <= self.window or mels < 1 or floor <= 0 or not 0 <= pre_emphasis < 1:
            raise ValueError(
                f"LogMel(window={window}, hop={hop}, mels={mels}, floor={floor}, pre_emphasis={pre_emphasis}): a hop is"
                f" at least a sample (1 / {sample_rate} s) and at most the window, there is at least a band, the floor"
                " is positive, and 0 <= pre_emphasis < 1."
            )
        if not 0 <= low < high <= sample_rate / 2:
            raise ValueError(
                f"LogMel(low={low}, high={high}): needs 0 <= low < high <= {sample_rate / 2:g} Hz, half the sampling"
                " rate."
            )
        if shape not in ("hann", "povey") or triangles not in ("hz", "mel") or edges not in ("pad", "snip"):
            raise ValueError(
                f"LogMel(shape={shape!r}, triangles={triangles!r}, edges={edges!r}): choose hann or povey, hz or mel,"
                " pad or snip."
            )
        self.mels, self.floor, self.edges = mels, floor, edges
        self.pre_emphasis, self.centre = pre_emphasis, centre
        self.size = 2 ** math.ceil(math.log2(self.window))
        bank = mel_bank(sample_rate, self.size, mels, low, high, triangles)
        if bool((bank.sum(1) == 0).any()):
            raise ValueError(
                f"LogMel(mels={mels}): the lowest bands are narrower than a bin of the spectrum,"
                f" {sample_rate / self.size:g} Hz, and would be empty. Take fewer, or a longer window than {window} s."
            )
        self.register_buffer("taper", taper(self.window, shape), persistent=False)
        self.register_buffer("bank", bank.float().T.contiguous(), persistent=False)  # [K, M]

    @classmethod
    def kaldi(
        cls, sample_rate: int, *, mels: int = 80, edges: Literal["pad", "snip"] = "snip", **changes: float
    ) -> LogMel:
        """Log-mels like those of Kaldi's `compute-fbank-feats` without dither (Povey et al. 2011,
        The Kaldi speech recognition toolkit): for waves in [-1, 1] its values are those of 16-bit
        integers less log(2^30), down to the floor."""
        return cls(
            sample_rate,
            mels=mels,
            low=20.0,
            shape="povey",
            pre_emphasis=0.97,
            centre=True,
            triangles="mel",
            floor=EPSILON,
            edges=edges,
            **changes,
        )

    def frames(self, samples: int) -> int:
        """F for waves of T samples."""
        return samples // self.hop if self.edges == "pad" else max(0, 1 + (samples - self.window) // self.hop)

    def forward(self, wave: Tensor) -> Tensor:
        """Waves [S, T] -> logarithms [S, M, F]."""
        return self.power(wave).clamp_(min=self.floor).log_()

    def power(self, wave: Tensor) -> Tensor:
        """Waves [S, T] -> the energies in the bands, [S, M, F]."""
        frames = self.frames(wave.shape[1])
        if len(wave) == 0 or frames == 0:  # which Fourier transforms refuse
            return wave.new_zeros(len(wave), self.mels, frames, dtype=torch.float32)
        chunk = max(1, CHUNK_BYTES // (4 * self.size * frames)) if wave.device.type == "cpu" else len(wave)
        with torch.autocast(wave.device.type, enabled=False):
            return torch.cat([self._spectrum(part) @ self.bank for part in wave.float().split(chunk)]).mT

    def _spectrum(self, wave: Tensor) -> Tensor:
        """Power of each bin except the highest, which no band reaches: [S, F, K]."""
        count = self.frames(wave.shape[1])
        if self.edges == "pad":
            before = (self.window - self.hop) // 2
            wave = F.pad(wave, (before, self.window - self.hop - before))
        frames = wave.unfold(1, self.window, self.hop)[:, :count]  # [S, F, W]
        if self.centre:
            frames = frames - frames.mean(-1, keepdim=True)
        if self.pre_emphasis:
            frames = frames - self.pre_emphasis * torch.cat([frames[..., :1], frames[..., :-1]], -1)
        # Padded here, since `rfft` with padding takes seven times as long; squared before real and
        # imaginary part are added, ten times as fast as `abs`.
        if frames.requires_grad:
            padded = F.pad(frames * self.taper, (0, self.size - self.window))
        else:  # without a copy, in a sixth of the time
            padded = frames.new_empty(*frames.shape[:-1], self.size)
            padded[..., self.window :].zero_()
            torch.mul(frames, self.taper, out=padded[..., : self.window])
        spectrum = torch.fft.rfft(padded)
        squares = torch.view_as_real(spectrum).square()[..., :-1, :]  # [S, F, K, 2]
        return squares[..., 0] + squares[..., 1]


def taper(length: int, shape: str) -> Tensor:
    """The window [W], periodic as for a Fourier transform of its length; Kaldi's is symmetric."""
    if shape == "povey":
        return torch.hann_window(length, periodic=False, dtype=torch.float64).pow(0.85).float()
    return torch.hann_window(length, dtype=torch.float64).float()


def mel_of(frequency: Tensor) -> Tensor:
    """Converts Hz to HTK's mel."""
    return 2595 * (1 + frequency / 700).log10()


def mel_bank(sample_rate: int, size: int, mels: int, low: float, high: float, triangles: str) -> Tensor:
    """Computes triangles [M, K], float64, over the bins of a spectrum of `size` samples except the
    highest. A triangle rises from the peak of the one before it to 1 at its peak, and falls to the
    peak of the next; the peaks are equally spaced in mel."""
    edges = torch.tensor([low, high], dtype=torch.float64)
    first, last = mel_of(edges).tolist()
    corners = torch.linspace(first, last, mels + 2, dtype=torch.float64)
    bins = torch.arange(size // 2, dtype=torch.float64) * sample_rate / size
    if triangles == "mel":
        bins = mel_of(bins)
    else:
        corners = 700 * (10 ** (corners / 2595) - 1)
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return torch.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)).clamp(min=0)
