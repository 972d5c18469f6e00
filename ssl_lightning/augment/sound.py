"""The recipe of augmentation for sound: of waves, and of log-mels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..types import Strength, View
from .colour import Normalize
from .image import Augmentation
from .log_mel import LogMel
from .operation import Operation
from .spectrograms import LinearFader, Mixup, RandomResizeCrop, SpecAugment
from .waves import Gain, Noise, Polarity, TimeShift
from .window import Waves, Window, within


class WaveAugmentation(Augmentation):
    """Operations on waves. They are not compiled: what torch 2.14 makes of a shift in time that is
    followed by noise reads beyond its memory on a CPU."""

    entries = ()


class SoundAugmentation(nn.Module):
    """Turns windows of recordings into a view: waves [S, T], or log-mels [S, 1, M, F].

    Args:
        window: the part of a recording that the view shows.
        waves: augments waves.
        mel: computes log-mels of them; None: the view is waves, with their padding marked.
        log_mels: augments log-mels. Where rows are as long as a batch needs, their padding is
            marked too: a frame is real if its hop of samples is.
        normalise: whether waves of a view are normalised to mean 0 and variance 1.
    """

    def __init__(
        self,
        window: Window,
        waves: WaveAugmentation,
        mel: LogMel | None,
        log_mels: Augmentation,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.waves, self.mel, self.log_mels, self.normalise = window, waves, mel, log_mels, normalise

    def forward(self, raw: Waves, key: Tensor) -> View:
        """Windows and their keys [S] -> the view."""
        x = self.waves(raw.x[:, None, None], key)[:, 0, 0]  # [S, T]
        if self.mel is not None and not self.window.step:
            return View(self.log_mels(self.mel(x)[:, None], key))
        lengths = torch.full((len(x),), x.shape[1], device=x.device) if raw.lengths is None else raw.lengths
        real = within(lengths, x.shape[1])  # [S, T]
        x = normalised(x, real) if self.normalise and self.mel is None else x * real
        if self.mel is not None:
            real = within((lengths // self.mel.hop).clamp(min=1), x.shape[1] // self.mel.hop)  # [S, F]
            x = self.log_mels(self.mel(x)[:, None], key) * real[:, None, None]  # [S, 1, M, F]
        if raw.lengths is None:
            return View(x)
        sample = torch.arange(1, len(x) + 1, device=x.device)[:, None]
        return View(x, real * sample, torch.arange(real.shape[1], device=x.device).expand(real.shape), len(x))


def normalised(x: Tensor, real: Tensor) -> Tensor:
    """Normalises each wave of [S, T] to mean 0 and variance 1; padding does not count, and is 0
    (Baevski et al. 2020, wav2vec 2.0, arXiv 2006.11477, Section 2).

    Args:
        x: the waves.
        real: [S, T] bool, what is not padding.
    """
    count = real.sum(1, keepdim=True).clamp(min=1)
    centred = (x - (x * real).sum(1, keepdim=True) / count) * real
    return centred / (centred.square().sum(1, keepdim=True) / count + 1e-7).sqrt()


@dataclass(frozen=True)
class SoundPolicy:
    """The settings of sound augmentation; BYOL-A's recipe for log-mels by default, with noise.

    Niizumi, Takeuchi, Ohishi, Harada and Kashino 2021, arXiv 2103.06695, Table 1, and 2022, arXiv
    2204.07402, Table II. Log-mels that are cropped, faded and masked are normalised by then: 0 is
    the mean of the data. Views that are waves get gain, polarity and noise alone.

    Args:
        gain: range of the gain, in decibels.
        shift: range of the shift in time, as a part of the window; what leaves it is lost.
        polarity_p: probability that a wave changes its sign.
        noise_p: probability of white noise.
        noise: range of the ratio of signal to noise, in decibels.
        mix: the largest energy of another recording, as a part of the mixture's.
        crop_frequency: height of a crop, as a part of the spectrogram's.
        crop_time: width of a crop, as a part of the spectrogram's.
        crop_canvas: height and width of the canvas around the spectrogram that the crop is cut
            from, as parts of the spectrogram's.
        fade: the largest value that is added to an end, in standard deviations of the data.
        masks: number of bands, and of stretches of time, that are masked.
        mask_size: the largest height of a band, and width of a stretch, as parts of the
            spectrogram's.
    """

    gain: tuple[float, float] = (-6.0, 6.0)
    shift: tuple[float, float] = (-0.1, 0.1)
    polarity_p: float = 0.5
    noise_p: float = 0.5
    noise: tuple[float, float] = (10.0, 40.0)
    mix: float = 0.4
    crop_frequency: tuple[float, float] = (0.6, 1.5)
    crop_time: tuple[float, float] = (0.6, 1.5)
    crop_canvas: tuple[float, float] = (1.0, 1.5)
    fade: float = 1.0
    masks: tuple[int, int] = (0, 0)
    mask_size: tuple[float, float] = (0.2, 0.2)

    def build(
        self,
        strength: Strength,
        samples: int | None,
        mel: LogMel | None = None,
        normalisation: tuple[float, float] = (0.0, 1.0),
        bank: Tensor | None = None,
        *,
        step: int = 0,
        normalise: bool = False,
    ) -> SoundAugmentation:
        """Builds the augmentation of one view.

        Args:
            strength: `none` takes the middle of a recording; `weak` a random window, shifted and
                with a random gain; all others are the whole recipe.
            samples: T, of a window; None: whole recordings.
            mel: computes log-mels; None: the view is waves.
            normalisation: mean and standard deviation of the log-mels.
            bank: [N, M, F] log-mels to mix with; None: no mixture.
            step: as in `Window`. Where it is not 0, nothing is shifted in time, and there is no
                strong augmentation of log-mels.
            normalise: whether waves are normalised to mean 0 and variance 1.
        """
        strong = strength not in ("none", "weak")
        waves: list[Operation] = []
        if strength != "none":
            waves += [Gain(self.gain)] if any(self.gain) else []
            waves += [TimeShift(self.shift)] if mel is not None and not step and any(self.shift) else []
        if strong:
            waves += [Polarity(self.polarity_p)] if self.polarity_p else []
            waves += [Noise(self.noise, self.noise_p)] if self.noise_p else []
        log_mels: list[Operation] = []
        if mel is not None:
            mean, deviation = normalisation
            log_mels += [Mixup(bank, self.mix)] if strong and bank is not None and self.mix else []
            log_mels.append(Normalize((mean,), (deviation,)))
            log_mels += self._after_normalisation() if strong else []
        window = Window(samples, strength != "none", step)
        return SoundAugmentation(window, WaveAugmentation(*waves), mel, Augmentation(*log_mels), normalise)

    def _after_normalisation(self) -> list[Operation]:
        operations: list[Operation] = []
        if self.crop_frequency != (1.0, 1.0) or self.crop_time != (1.0, 1.0):
            operations.append(RandomResizeCrop(self.crop_frequency, self.crop_time, self.crop_canvas))
        if self.fade:
            operations.append(LinearFader(self.fade))
        if any(self.masks):
            operations.append(SpecAugment(self.masks, self.mask_size))
        return operations
