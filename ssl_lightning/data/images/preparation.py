"""Images are prepared as by a run, by Pillow and torch alone: the lines for other libraries."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...augment.image import ImagePolicy
from ..preparation import Preparation
from .reading import Reading

OPENED = {
    1: 'ImageOps.exif_transpose(Image.open("a.png")).convert("L")',
    3: 'ImageOps.exif_transpose(Image.open("a.png")).convert("RGB")',
}
LINES = """import numpy as np
import torch
from PIL import Image, ImageOps

image = {opened}
side = min(image.size)  # of the largest central square
left, top = (image.width - side) // 2, (image.height - side) // 2
square = np.array(image.crop((left, top, left + side, top + side))).reshape(side, side, -1)
pixels = torch.from_numpy(square).permute(2, 0, 1)[None]
pixels = torch.nn.functional.interpolate(pixels, size=({size}, {size}), mode="bilinear", antialias=True)
mean, std = (torch.tensor(values).view(-1, 1, 1) for values in ({mean}, {std}))
x = (pixels / 255 - mean) / std  # [1, {channels}, {size}, {size}]
"""
SCALED = "The run scales pixel values by window={window}, percentiles={percentiles}, which no line here does."
DIFFERS = (
    "A run lays transparent images on white, and decodes a JPEG of twice the size or more at a reduced size, so that"
    " its values differ slightly."
)


class Describes(Protocol):
    """The part of an `ImageDataModule` that is told."""

    image_size: int
    channels: int
    recipe: ImagePolicy


def preparation_of(data: Describes) -> Preparation:
    """Returns the preparation of images by the test transform of a datamodule."""
    reading: Reading | None = getattr(data, "reading", None)
    mean, std = list(data.recipe.mean), list(data.recipe.std)
    facts = {"size": data.image_size, "channels": data.channels, "mean": mean, "std": std}
    if reading is not None and reading.rescales:
        given = {"window": reading.window, "percentiles": reading.percentiles}
        return Preparation("", {**facts, **given}, SCALED.format(**given))
    if data.channels not in OPENED:
        return Preparation("", facts, f"Images of {data.channels} channels are read from arrays, [0, 1] or uint8.")
    size, channels = data.image_size, data.channels
    lines = LINES.format(opened=OPENED[channels], size=size, channels=channels, mean=mean, std=std)
    return Preparation(lines, facts, DIFFERS)


def made_up(count: int, size: int, reading: Reading) -> list[np.ndarray]:
    """Returns images that nobody took, smooth and noisy ones, as uint8 arrays [H, W, C]; as
    floating-point ones within the window, where the reading has one."""
    random, images = np.random.default_rng(0), []
    low, high = reading.window or (0.0, 1.0)
    for number in range(count):
        blocks = random.random((4, 5 + number % 2, reading.channels))
        picture = np.kron(blocks, np.ones((-(-size // 4), -(-size // 4), 1)))
        picture = np.clip(picture + 0.2 * random.standard_normal(picture.shape), 0, 1)
        whole = reading.window is None
        images.append((255 * picture).astype(np.uint8) if whole else (low + picture * (high - low)).astype(np.float32))
    return images
