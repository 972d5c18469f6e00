"""Image files as stored, before EXIF orientation: what all formats have in common, and files of 8
bits."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageFile, ImagePalette, UnidentifiedImageError, features
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg

if TYPE_CHECKING:
    from .reading import Reading

Box = tuple[int, int, int, int]  # top, left, height, width

AVIF = bool(features.check("avif"))
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000"] + ["AVIF"] * AVIF
"""The formats that Pillow may try: each has its own signature, and none runs another program (as
EPS does)."""
DEEP = {"I": np.int32, "F": np.float32, "I;16": np.uint16, "I;16B": np.uint16, "I;16L": np.uint16, "I;16N": np.uint16}
"""Pillow's modes of more than 8 bits, all of one channel."""
STRAIGHT = {"La": "LA", "RGBa": "RGBA"}
"""Pillow's modes whose colours are multiplied by their opacity, and those in which they are not."""
ORIENTATION, COLOUR_MAP = 274, 320

warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata and about sizes; our own errors name the file


class Stored(Protocol):
    """An image file whose header has been read. Height and width are as stored; `orientation` is
    EXIF's, 1 to 8."""

    height: int
    width: int
    orientation: int

    def cut(self, boxes: Sequence[Box], sizes: Sequence[int]) -> list[Tensor]:
        """Cuts views [C, size, size] of boxes in stored pixels; C is 1 for grey pictures, whatever
        `channels` is."""
        ...


def open_image(data: bytes, reading: Reading) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if Image.MAX_IMAGE_PIXELS is not None and reading.max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = reading.max_pixels
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(
            f"its header declares more pixels than the limit of {reading.max_pixels:,} (max_pixels)"
        ) from None
    except UnidentifiedImageError:
        raise UnidentifiedImageError(
            f"it is not an image that can be read here: it begins with {data[:12]!r}"
        ) from None
    if image.format == "TIFF" and image.mode == "P":
        colours: Any = getattr(image, "tag_v2")[COLOUR_MAP]  # noqa: B009  # of a TIFF alone
        if max(colours) < 256:  # of 8 bits, as some programs write it; Pillow takes all of them for black
            image.palette = ImagePalette.raw("RGB;L", bytes(colours))
    return image


def orientation_of(image: Image.Image) -> int:
    """Returns EXIF's orientation; 1 where there is none or the EXIF data are damaged, in which case
    the picture is still usable."""
    if image.format == "TIFF":
        return 1  # Pillow applies it while decoding
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return 1  # Pillow would decode all pixels to look for it
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def check_channels(stored: int, channels: int) -> None:
    """Raises ValueError where a file has not the required number of channels and cannot be
    converted (as grey and RGB can).

    Args:
        stored: the number of channels in the file.
        channels: the number required.
    """
    if stored != channels and {stored, channels} != {1, 3}:
        raise ValueError(f"it has {stored} channel{'s' * (stored != 1)}, not the {channels} required (channels)")


def plain(image: Image.Image, channels: int) -> Image.Image:
    """Converts the image to mode L or RGB where 1 or 3 channels are required (grey stays L), with
    transparency composited onto white."""
    if image.mode in STRAIGHT:
        image = image.convert(STRAIGHT[image.mode])
    if channels not in (1, 3):
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return image.convert("L") if channels == 1 else image


def resize(region: Tensor, size: int) -> Tensor:
    """Resizes [C, h, w] to [C, size, size], bilinear with antialiasing, uint8 or float32."""
    return F.interpolate(region[None], (size, size), mode="bilinear", antialias=True)[0]


class EightBits:
    """A picture of 8 bits that Pillow can read."""

    def __init__(self, data: bytes, image: Image.Image, reading: Reading) -> None:
        self.data, self.reading = data, reading
        self.width, self.height = image.size
        self.orientation = orientation_of(image)
        self.mode, self.jpeg = image.mode, image.format in ("JPEG", "MPO")
        if reading.channels not in (1, 3):
            check_channels(len(image.getbands()), reading.channels)

    def cut(self, boxes: Sequence[Box], sizes: Sequence[int]) -> list[Tensor]:
        if self.jpeg and self.mode in ("L", "RGB") and self.reading.channels in (1, 3):
            fits = min(
                (min(height, width) // size for (_, _, height, width), size in zip(boxes, sizes, strict=True)),
                default=1,
            )
            return self._cut_whole(boxes, sizes) if fits < 2 else self._cut_reduced(boxes, sizes, fits)
        image = open_image(self.data, self.reading)
        image.load()
        return [
            resize(tensor(plain(image.crop((left, top, left + width, top + height)), self.reading.channels)), size)
            for (top, left, height, width), size in zip(boxes, sizes, strict=True)
        ]

    def _cut_whole(self, boxes: Sequence[Box], sizes: Sequence[int]) -> list[Tensor]:
        """Cuts views from a JPEG at full size: torchvision and torch take 0.6 of Pillow's time."""
        mode = ImageReadMode.GRAY if self.mode == "L" or self.reading.channels == 1 else ImageReadMode.RGB
        pixels = decode_jpeg(torch.frombuffer(bytearray(self.data), dtype=torch.uint8), mode)
        return [
            resize(pixels[:, top : top + height, left : left + width], size)
            for (top, left, height, width), size in zip(boxes, sizes, strict=True)
        ]

    def _cut_reduced(self, boxes: Sequence[Box], sizes: Sequence[int], fits: int) -> list[Tensor]:
        """Cuts views from a JPEG decoded at 1/2, 1/4 or 1/8 of its size, where every box still has
        as many pixels as its view."""
        image = open_image(self.data, self.reading)
        scale = max(s for s in (2, 4, 8) if s <= fits)
        image.draft("L" if self.reading.channels == 1 else None, (self.width // scale, self.height // scale))
        return [
            tensor(
                image.resize(
                    (size, size),
                    Image.Resampling.BILINEAR,
                    (left / scale, top / scale, (left + width) / scale, (top + height) / scale),
                )
            )
            for (top, left, height, width), size in zip(boxes, sizes, strict=True)
        ]


def tensor(image: Image.Image) -> Tensor:
    """Returns an image of 8-bit bands as uint8 [C, h, w]."""
    array: Any = np.array(image)
    return torch.from_numpy(array.reshape(image.height, image.width, -1)).permute(2, 0, 1)
