"""Sounds that a method has to show, as WAV files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..files.atomic import write_bytes


def save_sounds(sounds: Mapping[str, Tensor], rate: int, folder: str | Path) -> None:
    """One WAV file for each caption, `<caption>.wav`: its samples one after the other, half a
    second apart, each as loud under all captions.

    Args:
        sounds: by caption, waves [S, T] of the same samples.
        rate: of the waves, in Hz.
        folder: to write to.
    """
    import soundfile

    waves = torch.stack([wave.detach().float().cpu().nan_to_num() for wave in sounds.values()])  # [captions, S, T]
    waves = torch.nn.functional.pad(
        0.9 * waves / waves.abs().amax(dim=(0, 2), keepdim=True).clamp(min=1e-5), (0, rate // 2)
    )
    for caption, wave in zip(sounds, waves, strict=True):
        file = io.BytesIO()
        soundfile.write(file, wave.flatten().numpy(), rate, format="WAV")
        write_bytes(Path(folder) / f"{caption}.wav", file.getvalue())
