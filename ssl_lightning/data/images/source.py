"""A source of encoded images of any size: each is read once, where it is fetched, and cut for every
view."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...augment.geometry import Crop
from ...augment.operation import as_float
from ..files.source import FileSource, in_threads
from ..sources import Uncut
from .picture import Picture, UnreadablePicture
from .reading import Reading

OPEN = 32
"""The number of files that are open at the same time."""

Cuts = list[NDArray[Any]]


class PictureSource(FileSource):
    """A source of images in files, or in encoded bytes, of any size.

    Args:
        count: N, the number of images.
        reading: how the values of a file become those of a view.
        labels: [N], or None.
        unreadable: `raise` stops at an image that cannot be read; `skip` replaces it by the next
            one of the same label.
        max_unreadable: the fraction of the images that may be skipped, rounded up; more stop the
            run.
    """

    samples, error = "images", UnreadablePicture

    def __init__(
        self,
        count: int,
        reading: Reading,
        labels: Tensor | None = None,
        unreadable: Literal["raise", "skip"] = "raise",
        max_unreadable: float = 0.01,
    ) -> None:
        super().__init__(count, labels, unreadable, max_unreadable)
        self.reading = reading

    @abstractmethod
    def file(self, number: int) -> str | Path | bytes:
        """Returns an image's file, or its bytes."""

    def fetch(self, index: Tensor) -> Pictures:
        return Pictures(self, index.tolist())

    def open(self, number: int) -> Picture:
        return Picture(self.file(number), self.reading, self.name(number))


class Pictures(Uncut):
    """Images fetched from a source; nothing is read before they are cut.

    Args:
        source: the images' source.
        numbers: [S] the images' indices in the source.
    """

    def __init__(self, source: PictureSource, numbers: Sequence[int]) -> None:
        self.source, self.numbers = source, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def cut(self, transforms: Sequence[Any], keys: Sequence[Tensor]) -> list[Tensor]:
        """Returns for each view the images [S, C, size, size] within the boxes of its transform's
        `cut`: uint8, or float32 in [0, 1] where an image has more than 8 bits.

        Raises:
            UnreadablePicture: an image cannot be read, and the source does not skip it.
        """
        crops: list[Crop] = [transform.cut for transform in transforms]
        images: list[Cuts] = []
        for start in range(0, len(self.numbers), OPEN):
            part = slice(start, start + OPEN)
            images += self._cut(self.numbers[part], crops, [key[part] for key in keys])
        if not images:
            return [torch.empty(0, self.source.reading.channels, crop.size, crop.size) for crop in crops]
        return [_stack([views[number] for views in images]) for number in range(len(crops))]

    def _cut(self, numbers: Sequence[int], crops: Sequence[Crop], keys: Sequence[Tensor]) -> list[Cuts]:
        pictures = in_threads(self._open, numbers)
        heights = torch.tensor([picture.height if picture else 1 for picture in pictures])
        widths = torch.tensor([picture.width if picture else 1 for picture in pictures])
        boxes = [crop.boxes(key, heights, widths).tolist() for crop, key in zip(crops, keys, strict=True)]
        sizes = [crop.size for crop in crops]

        def read(row: int) -> Cuts:
            picture, number = pictures[row], numbers[row]
            try:
                if picture is not None:
                    return picture.cut([view_boxes[row] for view_boxes in boxes], sizes)
            except UnreadablePicture as error:
                self.source.skip(number, error)
            return self._substitute(number, crops, [key[row : row + 1] for key in keys])

        return in_threads(read, range(len(numbers)))

    def _open(self, number: int) -> Picture | None:
        try:
            return self.source.open(number)
        except UnreadablePicture as error:
            self.source.skip(number, error)
            return None

    def _substitute(self, number: int, crops: Sequence[Crop], keys: Sequence[Tensor]) -> Cuts:
        def read(other: int) -> Cuts:
            picture = self.source.open(other)
            boxes = [
                crop.boxes(key, picture.height, picture.width)[0].tolist()
                for crop, key in zip(crops, keys, strict=True)
            ]
            return picture.cut(boxes, [crop.size for crop in crops])

        return self.source.substitute(number, read)


def _stack(images: Cuts) -> Tensor:
    """Stacks images [C, H, W] into one tensor, float32 where any of them is."""
    if len({image.dtype for image in images}) == 1:
        return torch.from_numpy(np.stack(images))
    return torch.cat([as_float(torch.from_numpy(image)[None]) for image in images])
