"""A small convolutional encoder, for small images and for quick experiments."""

from __future__ import annotations

from math import gcd
from typing import Literal

import torch
from torch import Tensor, nn

from ..plugins.arguments import require
from ..types import View
from .base import Encoder
from .checks import images_of


class ConvEncoder(Encoder):
    """A plain stack of 3x3 convolutions, whose width doubles while its resolution halves.

    Each stage is convolution, norm, ReLU (Simonyan and Zisserman 2014, arXiv 1409.1556, with a
    norm); the last one is averaged over its pixels. The defaults cost 15 million multiply-adds for
    an image of 32x32 pixels.

    Args:
        channels: C of the images: 1 for grey, 3 for colour.
        width: feature maps of the first stage; stage k of 0, 1, ... has `width * 2**k`.
        depth: number of stages; all but the first halve the resolution.
        norm: "batch", or "group" (Wu and He 2018, arXiv 1803.08494; up to 8 groups), which
            normalises each sample by itself and so gives the same features in any batch and on any
            number of processes.

    Raises:
        ValueError: an argument is out of range; in `forward`, the images have other channels or
            fewer than `2**(depth - 1)` pixels a side.
    """

    def __init__(
        self, *, channels: int = 3, width: int = 32, depth: int = 4, norm: Literal["batch", "group"] = "batch"
    ) -> None:
        super().__init__()
        require(self, at_least=1, channels=channels, width=width)
        require(self, at_least=1, at_most=20, depth=depth)  # each halves the sides
        if norm not in ("batch", "group"):
            raise ValueError(f"ConvEncoder(norm={norm!r}) is unknown; choose batch or group.")
        self.channels = channels
        self.smallest = 2 ** (depth - 1)
        self.dim = width * 2 ** (depth - 1)
        widths = [channels, *(width * 2**k for k in range(depth))]
        self.stages = nn.Sequential(*(_stage(widths[k], widths[k + 1], 1 if k == 0 else 2, norm) for k in range(depth)))
        self.to(memory_format=torch.channels_last)

    def forward(self, view: View) -> Tensor:
        """Images [S, C, H, W] -> features [S, dim]."""
        return self.stages(images_of(view, self.channels, self.smallest)).mean((2, 3))


def _stage(channels: int, width: int, stride: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(gcd(8, width), width),
        nn.ReLU(inplace=True),
    )
