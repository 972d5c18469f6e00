"""Views of recordings, and what a method makes of them, as pictures and as WAV files."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...augment.inversion import Inversion
from ...augment.log_mel import LogMel
from ...types import View
from ..datamodule import SSLDataModule
from ..figure import plot_waves, small
from ..files.atomic import write_bytes

SOUNDS = 4
"""Recordings in a WAV file."""


def save_sounds(sounds: Mapping[str, Tensor], rate: int, folder: str | Path) -> dict[str, Path]:
    """Writes one WAV file for each caption, `<caption>.wav`: its samples one after the other, half
    a second apart; each sample is scaled by one factor under all captions.

    Args:
        sounds: by caption, waves [S, T] of the same samples.
        rate: sampling rate of the waves, in Hz.
        folder: the folder to write to.

    Returns:
        The files by caption.
    """
    import soundfile

    files = {caption: Path(folder) / f"{caption}.wav" for caption in sounds}

    waves = torch.stack([wave.detach().float().cpu().nan_to_num() for wave in sounds.values()])  # [captions, S, T]
    waves = F.pad(0.9 * waves / waves.abs().amax(dim=(0, 2), keepdim=True).clamp(min=1e-5), (0, rate // 2))
    for caption, wave in zip(sounds, waves, strict=True):
        file = io.BytesIO()
        soundfile.write(file, wave.flatten().numpy(), rate, format="WAV")
        write_bytes(files[caption], file.getvalue())
    return files


class Listening(SSLDataModule):
    """A datamodule whose views can be looked at and listened to."""

    sample_rate: int
    mel: LogMel

    @property
    def normalisation(self) -> list[float]:
        """The mean and standard deviation by which log-mels are normalised."""
        raise NotImplementedError

    def as_pictures(self, x: Tensor) -> Tensor:
        """Returns log-mels [S, 1, M, F] as images to look at: low bands at the bottom, three
        standard deviations on each side of the mean in [0, 1]. Frames of zeros alone, which are
        padding, are white."""
        return (x.float().flip(2) / 6 + 0.5).clamp(0, 1).masked_fill((x == 0).all(2, keepdim=True), 1.0)

    def as_sounds(self, x: Tensor) -> tuple[Tensor, int]:
        """Returns views as sounds to listen to, waves [S, T] and their rate in Hz; for log-mels
        [S, 1, M, F], waves whose log-mels nearly equal them. Frames of zeros alone, which are
        padding, and what is hidden (NaN) are silent."""
        x = x.nan_to_num()
        if x.ndim == 2:
            return x.float(), self.sample_rate
        mean, deviation = self.normalisation
        log_mels = (x[:, 0].float() * deviation + mean).masked_fill(
            (x[:, 0] == 0).all(1, keepdim=True), math.log(self.mel.floor)
        )
        return Inversion(self.mel)(log_mels), self.sample_rate

    def show(self, captions: Mapping[str, View], path: Path, compare: bool = False) -> dict[str, Path]:
        """Draws log-mels, or waves over their log-mels; with `compare`, also writes the sounds as
        `<caption>.wav`, 4 samples each."""
        waves = {caption: view.x for caption, view in captions.items() if view.x.ndim == 2}
        if waves:
            plot_waves(
                waves, {caption: self._spectrograms(wave) for caption, wave in waves.items()}, self.sample_rate, path
            )
            pictures = {path.stem: path}
        else:
            pictures = super().show(captions, path, compare)
        if compare:
            sounds = {caption: self.as_sounds(view.x[:SOUNDS].float())[0] for caption, view in captions.items()}
            files = save_sounds(sounds, self.sample_rate, path.parent)
            pictures |= {f"{path.stem}/{caption}": file for caption, file in files.items()}
        return pictures

    def thumbnails(self, view: View) -> Tensor | None:
        return small(self._spectrograms(view.x)) if view.x.ndim == 2 else super().thumbnails(view)

    def _spectrograms(self, waves: Tensor) -> Tensor:
        """Waves [S, T] -> log-mels to look at [S, 1, M, F]; NaN where the wave is."""
        x = self.mel(waves.float().nan_to_num())[:, None]
        hidden = (F.interpolate(waves.isnan()[:, None].float(), x.shape[3]) > 0)[:, :, None].expand_as(x)
        heard = x[~hidden] if not hidden.all() else x
        return self.as_pictures((x - heard.mean()) / heard.std().clamp(min=1e-3)).masked_fill(hidden, torch.nan)
