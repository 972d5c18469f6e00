"""TIFF files: Pillow reads those of 8 bits, grey ones of any depth, and several pages as channels;
tifffile reads the others."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .planes import Planes, deepest, from_image
from .stored import DEEP, ORIENTATION, EightBits, Stored, open_image

if TYPE_CHECKING:
    from .reading import Reading

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL = 258, 277


def from_tiff(data: bytes, reading: Reading) -> Stored:
    """Opens the picture in a TIFF file: its first page, or all its grey pages as channels where
    there are as many as required."""
    try:
        image: Any = open_image(data, reading)
    except UnidentifiedImageError:
        return _by_tifffile(data, reading)
    bits, samples = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))), image.tag_v2.get(SAMPLES_PER_PIXEL, 1)
    if samples > 1 and bits > 8:
        return _by_tifffile(data, reading)
    top = float(2**bits - 1) if bits <= 16 and DEEP.get(image.mode, np.uint16) == np.uint16 else None
    if samples == 1 and reading.channels > 1 and image.n_frames > 1:
        if image.n_frames == reading.channels:
            return _pages(data, image, reading, top)
        if reading.channels != 3:
            raise ValueError(f"it has {image.n_frames} pages, not the {reading.channels} that channels requires")
    if image.mode in DEEP or reading.rescales:
        return from_image(data, image, reading, top)
    return EightBits(data, image, reading)


def _pages(data: bytes, image: Image.Image, reading: Reading, top: float | None) -> Planes:
    def read() -> np.ndarray:
        pages: Any = open_image(data, reading)
        planes = []
        for page in range(reading.channels):
            pages.seek(page)
            planes.append(np.asarray(pages if pages.mode in DEEP else pages.convert("L")))
        return np.stack(planes, axis=-1)

    dtype = DEEP.get(image.mode, np.uint8)
    return Planes(
        read, (image.height, image.width, reading.channels), dtype, reading, 255.0 if dtype == np.uint8 else top
    )


def _by_tifffile(data: bytes, reading: Reading) -> Planes:
    try:
        from tifffile import TiffFile
    except ImportError:
        raise ValueError(
            "only tifffile can read such a TIFF (more than 4 channels, or more than 8 bits in colour): pip install"
            " 'ssl-lightning[tiff]'"
        ) from None

    def read() -> np.ndarray:
        with TiffFile(io.BytesIO(data)) as tiff:
            series = tiff.series[0]
            values = np.moveaxis(series.asarray(), (series.axes.index("Y"), series.axes.index("X")), (0, 1))
        return values.reshape(*values.shape[:2], -1)

    with TiffFile(io.BytesIO(data)) as tiff:
        series = tiff.series[0]
        page: Any = series.keyframe
        height, width = (series.shape[series.axes.index(axis)] for axis in "YX")
        planes = int(np.prod(series.shape)) // max(1, height * width)
        alpha = planes == 4 and reading.channels in (1, 3) and len(page.extrasamples) == 1
        orientation = page.tags.valueof(ORIENTATION, 1)
        dtype, bits = np.dtype(series.dtype), page.bitspersample
    top = float(2**bits - 1) if deepest(dtype) else None
    return Planes(
        read, (height, width, planes), dtype, reading, top, alpha, orientation if orientation in range(1, 9) else 1
    )
