"""Folders of made-up photographs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDES = ((500, 375), (375, 500), (500, 333), (500, 400), (640, 480), (400, 300))
"""Width and height; most of ImageNet's pictures are 500 pixels wide."""
SLOPE = 1.2
"""Of the amplitude spectrum, 1 / f^SLOPE."""
GRAIN = 4.0
"""Deviation of the noise of a sensor, in grey levels; with it and the slope a file of quality 90
has 0.5 bytes a pixel, about ImageNet's."""


def photograph(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """A random picture with a photograph's spectrum, a few objects with hard edges, and grain."""
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    f[0, 0] = np.inf
    noise = np.fft.rfft2(random.standard_normal((3, height, width)), axes=(1, 2)) / f**SLOPE
    fields = np.fft.irfft2(noise, (height, width), axes=(1, 2))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    y, x = np.mgrid[:height, :width]
    for _ in range(8):
        (cy, cx), (a, b) = random.uniform((0, 0), (height, width)), random.uniform(20, 120, 2)
        fields[:, ((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1] += random.normal(0, 0.7, 3)[:, None]
    luminance, blue, red = fields * np.array([50, 15, 15])[:, None, None]
    pixels = np.stack([luminance + red, luminance - (blue + red) / 3, luminance + blue], axis=-1) + 118
    pixels += random.normal(0, GRAIN, pixels.shape)
    return Image.fromarray(as_bytes(pixels))


def as_bytes(pixels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return pixels.clip(0, 255).astype(np.uint8)


def write_photographs(root: Path, n: int, classes: int = 4) -> tuple[float, float]:
    """JPEGs of quality 90 in `classes` folders; their mean size in kB, and bytes a pixel."""
    random = np.random.default_rng(0)
    size = pixels = 0
    for number in range(n):
        width, height = SIDES[number % len(SIDES)]
        path = root / f"class_{number % classes}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(random, width, height).save(path, quality=90)
        size += path.stat().st_size
        pixels += width * height
    return size / n / 1000, size / pixels


def write_many(root: Path, n: int, folders: int = 1_000) -> None:
    """`n` names for a few tiny JPEGs, hard links, in so many folders."""
    random = np.random.default_rng(0)
    originals = []
    for number in range(8):
        originals.append(root / f"original_{number}.jpg")
        photograph(random, 48, 40).save(originals[-1])
    for folder in range(folders):
        path = root / f"folder_{folder:04}"
        path.mkdir()
        for number in range(folder, n, folders):
            os.link(originals[number % len(originals)], path / f"{number:07}.jpg")
    for original in originals:
        original.unlink()
