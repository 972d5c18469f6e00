"""A small convolutional encoder for spectrograms, which does not average over frequency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..plugins.arguments import require
from ..types import View
from .base import Encoder
from .checks import images_of


class AudioConvEncoder(Encoder):
    """An encoder of log-mels: convolutions, a layer over all bands of a frame, then mean and
    maximum over time.

    Niizumi, Takeuchi, Ohishi, Harada and Kashino 2022, BYOL for Audio (BYOL-A), arXiv 2204.07402,
    Section IV: the convolutions' features of each band of a frame are concatenated with a layer's
    features of all bands; of each feature, mean and maximum over time are concatenated too (added
    in the paper). An average over bands would lose the frequency of a sound, by which most vowels
    and voices differ. Strides replace the paper's pooling, which costs twice as much here. With the
    defaults, 48 bands and 80 frames take 8 million multiply-adds.

    Args:
        mels: M, bands of the log-mels.
        width: feature maps of the first stage; later ones have twice as many.
        depth: number of stages, each of which halves bands and frames: convolution, norm, ReLU.
        frame_dim: D, features of a frame from the layer.

    Raises:
        ValueError: an argument is out of range; in `forward`, the log-mels have another number of
            bands.
    """

    def __init__(self, *, mels: int = 64, width: int = 32, depth: int = 3, frame_dim: int = 256) -> None:
        super().__init__()
        require(self, at_least=1, mels=mels, width=width, frame_dim=frame_dim)
        require(self, at_least=1, at_most=20, depth=depth)  # each halves the bands
        self.mels = mels
        widths = [1, width, *[2 * width] * (depth - 1)]
        stages = []
        for k in range(depth):
            stages += [
                nn.Conv2d(widths[k], widths[k + 1], 3, 2, padding=1, bias=False),
                nn.BatchNorm2d(widths[k + 1]),
                nn.ReLU(inplace=True),
            ]
        self.stages = nn.Sequential(*stages)
        local = widths[-1] * -(-mels // 2**depth)  # a stage rounds up
        self.frame = nn.Sequential(
            nn.Linear(local, frame_dim, bias=False), nn.BatchNorm1d(frame_dim), nn.ReLU(inplace=True)
        )
        self.dim = 2 * (local + frame_dim)
        self.to(memory_format=torch.channels_last)

    def forward(self, view: View) -> Tensor:
        """Log-mels [S, 1, M, F] -> features [S, dim]."""
        x = images_of(view, 1)
        if x.shape[2] != self.mels:
            raise ValueError(f"The encoder takes {self.mels} bands, got {x.shape[2]}: set mels={x.shape[2]}.")
        local = self.stages(x).permute(0, 3, 2, 1).flatten(2)  # [S, F', M' C]
        whole = self.frame(local.flatten(0, 1)).unflatten(0, local.shape[:2])  # [S, F', D]
        frames = torch.cat([local, whole], dim=2)
        return torch.cat([frames.mean(dim=1), frames.amax(dim=1)], dim=1)
