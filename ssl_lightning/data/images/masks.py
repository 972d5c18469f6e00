"""Masks of images: files of class ids, cut as the images are by the test transform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...augment.geometry import CentralCrop
from ...plugins.messages import printable
from ..sources import Source
from .source import PictureSource

SUFFIX = ".png"
MODES = ("1", "L", "P", "I", "I;16")
"""Pillow's modes whose pixels are numbers: of a palette, its indices."""
LARGEST = 255
LISTED = 3
"""Names that a line holds."""


class Masks(Sequence[Tensor]):
    """A sequence of masks [size, size] uint8, each read when it is asked for: the class of each
    pixel of a view under the test transform, by the nearest pixel of the file.

    Args:
        files: of the masks.
        boxes: top, left, height and width of the part of each that a view shows.
        size: side of a view.
    """

    def __init__(self, files: Sequence[Path], boxes: Sequence[Sequence[int]], size: int) -> None:
        self.files, self.boxes, self.size = list(files), list(boxes), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: Any) -> Any:
        top, left, height, width = self.boxes[number]
        whole = _read(self.files[number])[top : top + height, left : left + width]
        rows, columns = ((np.arange(self.size) + 0.5) * side // self.size for side in (height, width))
        return torch.from_numpy(whole[rows.astype(int)][:, columns.astype(int)])


def masks_of(source: Source, index: Tensor, folder: Path, root: str, size: int) -> Masks:
    """Finds the masks of images, and checks that each is there and as large as its image.

    Args:
        source: the images, none of another source.
        index: [M] which of them.
        folder: with a `.png` for each under its relative path.
        root: the folder of the images; empty: they are found by their names.
        size: side of a view.

    Raises:
        ValueError: masks are missing, of another size, or no class ids.
    """
    if not folder.is_dir():
        raise ValueError(f"--masks {printable(folder)} is no folder; give one with a .png for each image.")
    numbers = index.tolist()
    files = [folder / _relative(source.name(number), root).with_suffix(SUFFIX) for number in numbers]
    if absent := [file for file in files if not file.is_file()]:
        shown = ", ".join(printable(each.relative_to(folder)) for each in absent[:LISTED])
        raise ValueError(
            f"--masks {printable(folder)} lacks {len(absent):,} of {len(files):,} masks: {shown}"
            f"{', ...' * (len(absent) > LISTED)}; give one for each image, under the same relative path."
        )
    boxes = []
    for number, file in zip(numbers, files, strict=True):
        height, width = _size_of(source, number)
        with _opened(file) as mask:
            if mask.size != (width, height):
                raise ValueError(
                    f"The mask {printable(file)} has {mask.size[0]} x {mask.size[1]} pixels, its image {width} x"
                    f" {height}; give masks of the images' size."
                )
        boxes.append(CentralCrop(size).boxes(torch.zeros(1, dtype=torch.int64), height, width)[0].tolist())
    return Masks(files, boxes, size)


def _relative(name: str, root: str) -> Path:
    """The path of an image below the folder of the images."""
    path = Path(name)
    base = Path(root).expanduser() if root else Path()
    for folder in (base, base.resolve()):
        if root and path.is_relative_to(folder):
            return path.relative_to(folder)
    return Path(*path.parts[1:]) if path.is_absolute() else path


def _size_of(source: Source, number: int) -> tuple[int, int]:
    """The height and width of an image, as it is seen."""
    if isinstance(source, PictureSource):
        picture = source.open(number)
        return picture.height, picture.width
    height, width = source.fetch(torch.tensor([number])).shape[-2:]
    return int(height), int(width)


def _opened(file: Path) -> Image.Image:
    try:
        image = Image.open(file)
    except OSError as error:
        raise ValueError(f"The mask {printable(file)} cannot be read; write it anew as .png.") from error
    if image.mode not in MODES:
        raise ValueError(
            f"The mask {printable(file)} has colours (mode {image.mode}); write class ids, one channel of 0 to"
            f" {LARGEST}."
        )
    return image


def _read(file: Path) -> np.ndarray:
    with _opened(file) as image:
        try:
            pixels = np.array(image)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"The mask {printable(file)} cannot be read; write it anew as .png.") from error
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > LARGEST:
        raise ValueError(f"The mask {printable(file)} holds {pixels.max()}; write class ids of 0 to {LARGEST}.")
    return pixels.astype(np.uint8)
