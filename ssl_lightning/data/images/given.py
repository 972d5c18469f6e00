"""Images that are handed over one by one: files, arrays, or Pillow's images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ...plugins.messages import printable
from ..given import Given, GivenFiles
from ..sources import Source
from ..splits import Split
from .datamodule import PictureDataModule
from .preparation import made_up
from .reading import Reading
from .source import PictureSource

ORIENTATION = 274
WHOLE = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
"""Pillow's modes that a PNG holds as they are."""


class GivenImages(Given, PictureDataModule):
    """The items that it is given are its training split: paths, the bytes of files, images of
    Pillow, arrays [H, W] or [H, W, C], or tensors [C, H, W]; floating-point values are in [0, 1],
    unless the run has a window of its own."""

    def made_up(self, count: int) -> list[Any]:
        return [*made_up(count, self.image_size, self.reading)]

    def source(self, split: Split) -> Source | None:
        return GivenPictures(self.items, self.reading) if split == "train" else None


class GivenPictures(GivenFiles, PictureSource):
    """A source of images that are handed over.

    Args:
        items: as of `GivenImages`.
        reading: how values become those of a view.
    """

    def __init__(self, items: Sequence[Any], reading: Reading) -> None:
        super().__init__(len(items), reading)
        self.items = items

    def file(self, number: int) -> str | Path | bytes:
        item = self.items[number]
        if isinstance(item, (str, Path, bytes)):
            return item
        return _of_pillow(item) if isinstance(item, Image.Image) else _of_array(item, self.name(number))

    def name(self, number: int) -> str:
        item = self.items[number]
        return printable(item) if isinstance(item, (str, Path)) else f"image {number}"


def _of_pillow(image: Image.Image) -> bytes:
    """The bytes of a file that holds an image, with its orientation."""
    if image.mode not in WHOLE:
        image = image.convert("RGB" if image.mode not in ("I", "F", "I;16B") else image.mode)
    if image.mode in ("I", "F", "I;16B"):
        return _of_array(np.asarray(image), "")
    exif = Image.Exif()
    exif[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=0, exif=exif)
    return buffer.getvalue()


def _of_array(item: Any, name: str) -> bytes:
    """The bytes of a NumPy file that holds an array [H, W, C] or [H, W], or a tensor [C, H, W].

    Raises:
        TypeError: the item is none.
    """
    if isinstance(item, Tensor):
        array = item.detach().cpu().float().numpy() if item.dtype.is_floating_point else item.detach().cpu().numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    elif isinstance(item, np.ndarray):
        array = item
    else:
        kind = type(item).__name__
        raise TypeError(
            f"{name} is a {kind}; give a path, an image of Pillow, an array [H, W, C] or a tensor [C, H, W]."
        )
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
