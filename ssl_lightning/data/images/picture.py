"""Views cut from one image file of any size, mode and depth."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from ...plugins.messages import printable
from ..files.reading import note
from ..files.source import Unreadable
from .planes import NUMPY, from_image, from_numpy, from_png
from .png import pixels_of
from .reading import Reading
from .stored import AVIF, DEEP, Box, EightBits, Stored, open_image
from .tiff import TIFF, from_tiff

KINDS = "jpg jpeg jpe jfif mpo png apng webp bmp dib gif tif tiff ppm pgm pbm pnm pfm jp2 j2k jpx npy" + " avif" * AVIF
SUFFIXES = frozenset("." + kind for kind in KINDS.split())
"""Suffixes of file names that count as images, in lower case, with the dot. The content decides
which format a file has."""
TURNS = {1: (0, 0, 0), 2: (0, 0, 1), 3: (0, 1, 1), 4: (0, 1, 0), 5: (1, 0, 0), 6: (1, 0, 1), 7: (1, 1, 1), 8: (1, 1, 0)}
"""EXIF orientation -> what turns the stored picture into the displayed one, in this order:
transpose, reverse rows, reverse columns."""


class UnreadablePicture(Unreadable):
    """An image file that cannot be read."""


class Picture:
    """One image file, whose header is decoded at once, and its pixels when views are cut.

    Transparency is composited onto white; CMYK and palettes become RGB; of an animation the first
    frame is used. A truncated file is an error, never a picture with a grey half: Pillow's
    `LOAD_TRUNCATED_IMAGES` is set to False. Its `MAX_IMAGE_PIXELS` is raised to
    `reading.max_pixels`, which applies instead.

    Args:
        file: a path, or the bytes of a file.
        reading: how its values become those of a view.
        name: the file's name in messages; None: the path.

    Attributes:
        height, width: in pixels, as displayed (EXIF orientation applied).

    Raises:
        UnreadablePicture: the file is missing, is not an image, is too large, or has another number
            of channels.
    """

    def __init__(self, file: str | Path | bytes, reading: Reading, name: str | None = None) -> None:
        self.reading = reading
        self.name = name or (f"an image of {len(file):,} bytes" if isinstance(file, bytes) else printable(file))
        with self._reasons():
            self._stored: Stored = open_stored(file, reading)
            height, width = self._stored.height, self._stored.width
            if not height or not width:
                raise ValueError(f"it has no pixels ({width} x {height})")
            if height * width > reading.max_pixels:
                raise ValueError(
                    f"its header declares {width} x {height} pixels, above the limit of {reading.max_pixels:,}"
                    " (max_pixels)"
                )
        self._transpose, self._reverse_rows, self._reverse_columns = TURNS[self._stored.orientation]
        self.height, self.width = (width, height) if self._transpose else (height, width)

    def cut(self, boxes: Sequence[Sequence[int]], sizes: Sequence[int]) -> list[np.ndarray]:
        """Cuts views out of the picture, bilinear with antialiasing.

        Args:
            boxes: top, left, height, width of each view, in displayed pixels.
            sizes: the views' side lengths, one for each box.

        Returns:
            For each box [C, size, size], contiguous: uint8, or float32 in [0, 1] where the file has
            more than 8 bits or a window or percentiles are set.

        Raises:
            UnreadablePicture: the file is damaged, or it is unknown which of its values become 0
                and 1.
            ValueError: a box is empty or reaches beyond the picture, or there are not as many sizes
                as boxes.
        """
        if len(boxes) != len(sizes):
            raise ValueError(f"There are {len(boxes)} boxes and {len(sizes)} sizes: each box needs one.")
        stored_boxes = [self._in_storage(box) for box in boxes]
        with self._reasons():
            views = self._stored.cut(stored_boxes, sizes)
        return [self._displayed(view).expand(self.reading.channels, -1, -1).contiguous().numpy() for view in views]

    def _in_storage(self, box: Sequence[int]) -> Box:
        top, left, height, width = map(int, box)
        if min(top, left) < 0 or min(height, width) < 1 or top + height > self.height or left + width > self.width:
            raise ValueError(
                f"The box {tuple(box)} (top, left, height, width) is not within {self.name}, {self.height} pixels high"
                f" and {self.width} wide."
            )
        if self._reverse_rows:
            top = self.height - top - height
        if self._reverse_columns:
            left = self.width - left - width
        return (left, top, width, height) if self._transpose else (top, left, height, width)

    def _displayed(self, view: Tensor) -> Tensor:
        if self._transpose:
            view = view.transpose(1, 2)
        reversed_ = [1] * self._reverse_rows + [2] * self._reverse_columns
        return view.flip(reversed_) if reversed_ else view

    @contextmanager
    def _reasons(self) -> Iterator[None]:
        """Turns whatever a damaged file makes a decoder raise into `UnreadablePicture`."""
        note(self.name)
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            raise UnreadablePicture(f"{self.name}: {_reason(error)}.") from error


def open_stored(file: str | Path | bytes, reading: Reading) -> Stored:
    """Reads the file and decodes its header, by the decoder that preserves all its values."""
    if isinstance(file, bytes):
        data = file
    else:
        with open(file, "rb", buffering=0) as stream:
            if stream.read(len(NUMPY)) == NUMPY:
                return from_numpy(file, reading)
            stream.seek(0)
            data = stream.read()
    if not data:
        raise ValueError("it is empty (0 bytes)")
    if data.startswith(NUMPY):
        return from_numpy(data, reading)
    if data.startswith(TIFF):
        return from_tiff(data, reading)
    data = pixels_of(data)
    if data[12:16] == b"IHDR" and data[24] == 16 and data[25]:
        return from_png(data, reading)
    image = open_image(data, reading)
    if image.mode in DEEP or reading.rescales:
        return from_image(data, image, reading)
    return EightBits(data, image, reading)


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "this user may not read it"
        case IsADirectoryError():
            return "it is a folder"
        case OSError(strerror=str(words)):
            return words
        case RuntimeError() if "torchvision" in str(error):  # "decode_jpeg, /a/b.cpp:1, Image is truncated"
            return str(error).split(", ", 2)[-1].rstrip(".")
        case struct.error() | IndexError() | KeyError() | EOFError():
            return f"its header is damaged ({type(error).__name__}: {error})"
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
