"""One contestant of `augment.py`, which calls it in the contestant's environment: augments made-up
images, at its parent's pace.

    # BLUR: 0 or 1; rounds as `paced.py` has them
    python augmenter.py ours|lightly|torchvision SIZE BLUR IMAGES
    # prints what it draws, as JSON
    python augmenter.py ours|lightly|torchvision SIZE BLUR --statistics

Up to 64 pixels: two views, from the crop to the normalised tensor. Above: one view, what follows
the crop. lightly and torchvision get one image at a time, as PIL images, which their loaders hand
them; this package gets a uint8 batch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = (0.8, 0.8, 0.8, 0.2)
CROPPED = 64
"""Up to this side the crop belongs to what is timed."""
DRAWS = {32: 1000, 224: 200}
"""By side: how often each statistic's image is augmented."""

Views = Callable[[Any], Tensor]
"""Prepared images -> one view of each, [S, 3, size, size]."""


def radius(size: int) -> int:
    """Pixels of a blur's filter to either side: three deviations of the widest at small sizes, a
    tenth of the image at large ones."""
    return max(6, int(0.1 * size) // 2)


def ours(size: int, crop: bool, colour: bool, blur: bool) -> Views:
    from ssl_lightning.augment import colour as colours
    from ssl_lightning.augment.geometry import HorizontalFlip, RandomResizedCrop
    from ssl_lightning.augment.image import Augmentation
    from ssl_lightning.augment.operation import Operation
    from ssl_lightning.augment.random import fold, sample_keys

    operations: list[Operation] = [RandomResizedCrop(size), HorizontalFlip()] if crop else [HorizontalFlip()]
    if colour:
        operations += [colours.ColorJitter(*JITTER, p=0.8), colours.Greyscale(0.2)]
    if blur:
        operations.append(colours.GaussianBlur(p=0.5, kernel=(2 * radius(size) + 1.5) / size))
    augmentation = Augmentation(*operations, colours.Normalize(MEAN, STD))
    calls = 0

    def view(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return augmentation(images, fold(sample_keys(0, 0, torch.arange(len(images))), calls))

    return view


def lightly(size: int, crop: bool, colour: bool, blur: bool) -> Views:
    from lightly.transforms import SimCLRTransform
    from torchvision.transforms import Compose

    shares = {"cj_prob": 0.8, "random_gray_scale": 0.2} if colour else {"cj_prob": 0.0, "random_gray_scale": 0.0}
    steps = (
        SimCLRTransform(input_size=size, gaussian_blur=0.5 if blur else 0.0, **shares)
        .transforms[0]
        .transform.transforms
    )
    assert type(steps[0]).__name__ == "RandomResizedCrop"
    transform = Compose(steps if crop else steps[1:])
    return lambda images: torch.stack([transform(image) for image in images])


def torchvision(size: int, crop: bool, colour: bool, blur: bool) -> Views:
    from torchvision.transforms import v2

    steps: list[Any] = [v2.ToImage()]
    if crop:
        steps.append(v2.RandomResizedCrop(size, antialias=True))
    steps.append(v2.RandomHorizontalFlip())
    if colour:
        steps += [v2.RandomApply([v2.ColorJitter(*JITTER)], p=0.8), v2.RandomGrayscale(0.2)]
    if blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(2 * radius(size) + 1, (0.1, 2.0))], p=0.5))
    transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(MEAN), list(STD))])
    return lambda images: torch.stack([transform(image) for image in images])


MAKERS = {"ours": ours, "lightly": lightly, "torchvision": torchvision}


def prepare(name: str, images: Tensor) -> Any:
    return images if name == "ours" else [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def statistics(name: str, size: int, blur: bool) -> dict[str, tuple[float, float]]:
    """What a contestant draws, seen from outside, from the views of images of one colour, of slopes
    and of noise: means of numbers, one a draw, with their standard errors."""
    crop, draws = size <= CROPPED, DRAWS[size]

    def views(image: Tensor, **parts: bool) -> Tensor:
        """[draws, 3, size, size] in [0, 1], of one image [3, size, size] in [0, 255]."""
        made = MAKERS[name](size, **parts)
        images = image.round().byte()
        some = [made(prepare(name, images.expand(50, -1, -1, -1))) for _ in range(draws // 50)]
        return torch.cat(some) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]

    slope = torch.linspace(0, 255, size).expand(size, size)
    columns, rows = views(torch.stack([slope, slope.T, slope]), crop=crop, colour=False, blur=False)[:, :2].unbind(1)
    width, height = columns[:, 0, -1] - columns[:, 0, 0], rows[:, -1, 0] - rows[:, 0, 0]
    area = width.abs() * height
    found = {"flipped": width < 0, "area of the crop": area, "deviation of the area": (area - area.mean()).abs()}

    grey = views(torch.full((3, size, size), 64.0), crop=crop, colour=True, blur=blur)[:, 0, 0, 0] * 255 / 64
    found |= {
        "brightness": grey,
        "deviation of the brightness": (grey - grey.mean()).abs(),
        "not jittered": (grey - 1).abs() < 0.008,
    }
    pixel = views(torch.tensor([90.0, 70, 60])[:, None, None].expand(3, size, size), crop=crop, colour=True, blur=blur)[
        ..., 0, 0
    ]
    chroma = pixel.amax(1) - pixel.amin(1)
    coloured = chroma > 0.012
    found |= {
        "grey": ~coloured,
        "chroma": chroma[coloured] * 255 / 30,
        "red is largest": pixel[coloured].argmax(1) == 0,
    }
    if blur:
        noise = torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(0)).float()
        left = views(noise, crop=False, colour=False, blur=True).std((1, 2, 3)) / (noise / 255).std()
        found |= {"blurred": left < 0.999, "noise that a blur leaves": left[left < 0.999]}
    return {key: (float(x.float().mean()), float(x.float().std()) / len(x) ** 0.5) for key, x in found.items()}


def main(name: str, size: int, blur: bool, images: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    if images == "--statistics":
        print(json.dumps(statistics(name, size, blur)))
        return
    from paced import Pace

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(int(images), 3, 8, 8, generator=generator)
    prepared = prepare(name, (torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") * 255).byte())
    crop = size <= CROPPED
    view, pace = MAKERS[name](size, crop=crop, colour=True, blur=blur), Pace()
    while True:
        made = [view(prepared) for _ in range(2 if crop else 1)]
        assert made[0].shape == (int(images), 3, size, size)
        pace.step_done()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4])
