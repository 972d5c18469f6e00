"""Images as the mean of their patches' features, and the ResNet with layer norms that reads such
patches: CPC v2 (Hénaff et al. 2019, arXiv 1905.09272) as lightning-bolts has it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..plugins.arguments import require
from ..types import View
from .base import Encoder
from .checks import images_of


class PatchwiseEncoder(Encoder):
    """An encoder that reads overlapping patches of an image one by one; features are their mean,
    [S, dim].

    Args:
        encoder: of a patch.
        patch_size: side of a patch, in pixels.
        step: pixels from a patch to the next.
        channels: C of the images.
    """

    reads = "images"

    def __init__(self, encoder: Encoder, *, patch_size: int, step: int, channels: int = 3) -> None:
        super().__init__()
        require(self, at_least=1, at_most=10_000, patch_size=patch_size, step=step, channels=channels)
        self.encoder, self.patch_size, self.step, self.channels = encoder, patch_size, step, channels
        self.dim = encoder.dim

    def forward(self, view: View) -> Tensor:
        """Images [S, C, H, W] -> features [S, dim]."""
        x = images_of(view, self.channels, smallest=self.patch_size)
        patches = F.unfold(x, self.patch_size, stride=self.step).transpose(1, 2)  # [S, N, C * P * P]
        each = patches.reshape(-1, self.channels, self.patch_size, self.patch_size)
        return self.encoder(View(each)).unflatten(0, patches.shape[:2]).mean(dim=1)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Those of the encoder of a patch."""
        return self.encoder.layer_groups()


class LayerNormResNet(Encoder):
    """A ResNet of bottlenecks in which every convolution is followed by a layer norm over channels,
    rows and columns, so that it takes images of one size: features [S, dim] are its last
    activations.

    Args:
        layers: number of blocks in each of the four stages.
        image_size: side of the images, in pixels; the last stage has to leave a single position.
        channels: C of the images.

    Raises:
        ValueError: there are not four stages, or the images are too large.
    """

    reads = "images"

    def __init__(self, layers: list[int], *, image_size: int = 8, channels: int = 3) -> None:
        super().__init__()
        if len(layers) != 4:
            raise ValueError(f"LayerNormResNet(layers={layers}): give four numbers of blocks.")
        require(self, at_least=1, at_most=200, fewest_blocks=min(layers), most_blocks=max(layers), channels=channels)
        require(self, at_least=1, at_most=32, image_size=image_size)
        self.image_size, self.channels = image_size, channels
        side = _halved(image_size)
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.ln1 = nn.LayerNorm([64, side, side])
        side, width = _halved(side), 64
        # Width of the 3x3 convolutions, of the outputs, and the first block's stride.
        for number, (inner, outer, stride) in enumerate(((64, 256, 1), (128, 512, 2), (512, 4096, 2), (512, 2048, 2))):
            blocks = nn.Sequential()
            for block in range(layers[number]):
                blocks.append(_Block(width, inner, outer, side, stride if block == 0 else 1))
                side, width = _halved(side) if block == 0 and stride == 2 else side, outer
            self.add_module(f"layer{number + 1}", blocks)
        self.dim = width

    def forward(self, view: View) -> Tensor:
        """Images [S, C, H, W] -> features [S, dim]."""
        x = images_of(view, self.channels)
        if x.shape[2:] != (self.image_size, self.image_size):
            height, width = x.shape[2:]
            raise ValueError(f"The encoder takes images of {self.image_size} pixels a side, got {height}x{width}.")
        x = F.max_pool2d(F.relu(self.ln1(self.conv1(x))), 3, 2, 1)
        for number in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x)
        return x.flatten(1)


class _Block(nn.Module):
    """A bottleneck, [S, width, side, side] -> [S, outer, side / stride, side / stride]."""

    def __init__(self, width: int, inner: int, outer: int, side: int, stride: int) -> None:
        super().__init__()
        after = _halved(side) if stride == 2 else side
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.conv3 = nn.Conv2d(inner, outer, 1, bias=False)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or width != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(width, outer, 1, stride, bias=False), nn.LayerNorm([outer, after, after])
            )
        self.ln1 = nn.LayerNorm([inner, side, side])
        self.ln2 = nn.LayerNorm([inner, after, after])
        self.ln3 = nn.LayerNorm([outer, after, after])

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.ln1(self.conv1(x)))
        y = F.relu(self.ln2(self.conv2(y)))
        return F.relu(self.ln3(self.conv3(y)) + self.downsample(x))


def _halved(side: int) -> int:
    """The side behind a convolution or pooling with stride 2."""
    return (side + 1) // 2
