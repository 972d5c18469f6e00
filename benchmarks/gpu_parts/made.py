"""Data made on the spot: textures in ten classes, rows of packed texts, waves."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ssl_lightning import ImageDataModule, ImagePolicy, InMemory, SSLMethod
from ssl_lightning.augment.random import fold, sample_keys
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sources import Source
from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.types import Batch, View

from .clock import DEVICE

TEXTURES = ("stripes", "checks", "rings", "dots", "spiral", "rays", "grid", "hexagons", "waves", "blobs")
AT_ONCE = 5_000


class Textures(ImageDataModule):
    """Images [3, side, side] of ten kinds of texture, each in two colours, at an angle, a size and
    a position of its own, with noise: the class is in none of the pixels by itself.

    Args:
        count: number of training samples; a tenth as many are the test split.
        side: of the images, in pixels.
    """

    policy = ImagePolicy(jitter=(0.4, 0.4, 0.4, 0.1))
    class_names = TEXTURES

    def __init__(self, *, count: int = 50_000, side: int = 32, **kwargs: Any) -> None:
        super().__init__(image_size=side, **kwargs)
        self.count = count

    def source(self, split: Split) -> Source | None:
        if split == "val":
            return None
        first, last = (0, self.count) if split == "train" else (self.count, self.count + self.count // 10)
        index = torch.arange(first, last)
        return InMemory(torch.cat([textures(part, self.image_size) for part in index.split(AT_ONCE)]), index % 10)


def textures(index: Tensor, side: int) -> Tensor:
    """Images [S, 3, side, side], uint8 on the CPU, of the kinds index % 10."""
    generator = torch.Generator(DEVICE).manual_seed(int(index[0]))

    def uniform(*shape: int) -> Tensor:
        return torch.rand(len(index), *shape, generator=generator, device=DEVICE)

    angle, phase = 2 * math.pi * uniform(1, 1), 2 * math.pi * uniform(1, 1)
    pace = 2 * math.pi * (2 + 3 * uniform(1, 1))  # 2 to 5 periods in an image
    y, x = torch.meshgrid(*[torch.linspace(-0.5, 0.5, side, device=DEVICE)] * 2, indexing="ij")
    x, y = x + uniform(1, 1) - 0.5, y + uniform(1, 1) - 0.5  # [S, side, side]
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    radius, turn = (u.square() + v.square()).sqrt(), torch.atan2(v, u)
    a, b = (pace * u + phase).sin(), (pace * v + phase).sin()
    coarse = torch.nn.functional.interpolate(uniform(1, 8, 8) - 0.5, (side, side), mode="bicubic")[:, 0]
    kinds = (
        a, (4 * a * b).tanh(), (1.5 * pace * radius + phase).sin(), (6 * (a + b - 1)).tanh(),
        (pace * radius + 3 * turn + phase).sin(), (8 * turn + phase).sin(), (4 * (torch.maximum(a, b) - 0.8)).tanh(),
        sum((pace * (u * math.cos(each) + v * math.sin(each)) + phase).cos() for each in (0.0, 2.094, 4.189)) / 2,
        (pace * (v + 0.15 * (pace * u).sin()) + phase).sin(), 4 * coarse,
    )  # fmt: skip
    pattern = torch.stack(kinds, dim=1)  # [S, 10, side, side]
    pattern = pattern[torch.arange(len(index), device=DEVICE), (index % 10).to(DEVICE)][:, None]
    one, other = uniform(3, 1, 1), uniform(3, 1, 1)
    images = torch.lerp(one, other, (0.5 + 0.5 * pattern).clamp(0, 1)) + 0.1 * (uniform(3, side, side) - 0.5)
    return images.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def images(method: SSLMethod, samples: int, side: int) -> Batch:
    """A batch of the views that a method asks for, on the device."""
    data = Textures(count=10 * max(1, samples // 10 + 1), side=side, batch_size=samples)
    data.serve(method)
    return data.on_after_batch_transfer(
        data.transfer_batch_to_device(next(iter(data.train_dataloader())), DEVICE, 0), 0
    )


def texts(samples: int, row_length: int, vocabulary: int) -> list[Tensor]:
    """Token ids of texts, a quarter of a row long on average, between the tokens 2 and 3."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.empty(samples).log_normal_(math.log(row_length / 5), 0.7, generator=generator)
    sizes = lengths.long().clamp(4, row_length).tolist()
    ids = [torch.randint(5, vocabulary, (size,), generator=generator) for size in sizes]
    for each in ids:
        each[0], each[-1] = 2, 3
    return ids


def packed(ids: list[Tensor], row_length: int) -> Batch:
    """A batch of texts packed into rows of equal length, on the device."""
    ragged = Ragged(torch.cat(ids), torch.tensor([len(each) for each in ids]))
    view = pack(ragged, row_length).each(lambda part: part.to(DEVICE))
    return batch_of(view, len(ids))


def waves(samples: int, length: int) -> Batch:
    """A batch of noise [S, length] with the spectrum of no sound in particular, on the device."""
    generator = torch.Generator().manual_seed(0)
    return batch_of(View(torch.randn(samples, length, generator=generator).to(DEVICE)), samples)


def batch_of(view: View, samples: int) -> Batch:
    index = torch.arange(samples, device=DEVICE)
    return {"views": [view], "index": index, "key": fold(sample_keys(0, 0, index), 1)}
