"""TIFF files: Pillow reads those of 8 bits, grey ones of any depth, and several pages as channels;
tifffile reads the others."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .planes import Planes, deepest, from_image, mirror
from .stored import DEEP, ORIENTATION, EightBits, Stored, open_image

if TYPE_CHECKING:
    from .reading import Reading

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 262, 277, 284, 338, 339
WHITE_IS_ZERO, RGB, CMYK = 0, 2, 5
COLOURS = {WHITE_IS_ZERO: 1, 1: 1, RGB: 3, CMYK: 4}
"""Number of colours by photometric interpretation; pictures of another one are not read."""
SIGNED, SEPARATE = 2, 2
"""A sample format, and a planar configuration."""
MULTIPLIED, STRAIGHT = 1, 2
ALPHA = ([MULTIPLIED], [STRAIGHT])
"""Opacity by which colours are multiplied, and by which they are not, as the first of the extra
samples; whatever else lies beside the colours is none."""


def from_tiff(data: bytes, reading: Reading) -> Stored:
    """Opens the picture in a TIFF file: its first page, or all its grey pages as channels where
    there are as many as required."""
    try:
        image: Any = open_image(data, reading)
    except UnidentifiedImageError:
        return _by_tifffile(data, reading)
    tags = image.tag_v2
    bits, samples = max(tags.get(BITS_PER_SAMPLE, (1,))), tags.get(SAMPLES_PER_PIXEL, 1)
    parted = tags.get(PLANAR) == SEPARATE and EXTRA_SAMPLES in tags
    if (samples > 1 and (bits > 8 or parted)) or (bits == 8 and SIGNED in tags.get(SAMPLE_FORMAT, ())):
        return _by_tifffile(data, reading)
    if image.mode == "LAB":
        raise ValueError("its colours are CIE L*a*b*, which are not read here: convert it to RGB")
    top = float(2**bits - 1) if bits <= 16 and DEEP.get(image.mode, np.uint16) == np.uint16 else None
    mirrored = image.mode in DEEP and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if mirrored and top is None:
        mirror(np.empty(0, DEEP[image.mode]), top)  # says so before the run
    if samples == 1 and reading.channels > 1 and image.n_frames > 1:
        if image.n_frames == reading.channels:
            return _pages(data, image, reading, top, mirrored)
        if reading.channels != 3:
            raise ValueError(f"it has {image.n_frames} pages, not the {reading.channels} that channels requires")
    if image.mode in DEEP or reading.rescales:
        return from_image(data, image, reading, top, mirrored)
    return EightBits(data, image, reading)


def _pages(data: bytes, image: Image.Image, reading: Reading, top: float | None, mirrored: bool) -> Planes:
    def read() -> np.ndarray:
        pages: Any = open_image(data, reading)
        planes = []
        for page in range(reading.channels):
            pages.seek(page)
            planes.append(np.asarray(pages if pages.mode in DEEP else pages.convert("L")))
        values = np.stack(planes, axis=-1)
        return mirror(values, top) if mirrored else values

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

    def stored() -> np.ndarray:
        with TiffFile(io.BytesIO(data)) as tiff:
            series = tiff.series[0]
            values = np.moveaxis(series.asarray(), (series.axes.index("Y"), series.axes.index("X")), (0, 1))
        return values.reshape(*values.shape[:2], -1)

    with TiffFile(io.BytesIO(data)) as tiff:
        series = tiff.series[0]
        page: Any = series.keyframe
        height, width = (series.shape[series.axes.index(axis)] for axis in "YX")
        planes = int(np.prod(series.shape)) // max(1, height * width)
        orientation = page.tags.valueof(ORIENTATION, 1)
        dtype, bits = np.dtype(series.dtype), page.bitspersample
        photometric, extra = int(page.photometric), [int(each) for each in page.extrasamples]
    top = float(2**bits - 1) if deepest(dtype) else None
    colours = COLOURS.get(photometric)
    if colours is None:
        raise ValueError(f"its colours are of a kind that is not read here (photometric {photometric}): convert it")
    mirrored = photometric == WHITE_IS_ZERO
    if mirrored and top is None:
        mirror(np.empty(0, dtype), top)  # says so before the run
    converts = reading.channels in (1, 3) and planes == colours + len(extra)
    bands = colours == 1 and len(extra) > 1 and extra[:1] not in ALPHA
    converts &= not bands and (planes != reading.channels or extra[:1] in ALPHA)
    alpha = converts and extra[:1] in ALPHA

    def read() -> np.ndarray:
        values = stored()
        if mirrored:
            values[..., :colours] = mirror(values[..., :colours], top)
        return _plain(values, photometric, extra, top) if converts else values

    channels = {CMYK: 3}.get(photometric, colours) + alpha if converts else planes
    if top is None and dtype.kind != "f" and (alpha or (converts and photometric == CMYK)):
        raise ValueError(f"it is unknown which of its {dtype} values are opaque: convert it")
    return Planes(
        read, (height, width, channels), dtype, reading, top, alpha, orientation if orientation in range(1, 9) else 1
    )


def _plain(values: np.ndarray, photometric: int, extra: list[int], top: float | None) -> np.ndarray:
    """Returns values [H, W, C] as grey or RGB, with straight opacity behind them where there is
    opacity."""
    count, most = COLOURS[photometric], float(top or 1)
    colours, opacity = values[..., :count].astype(np.float64), values[..., count : count + 1]
    if extra[:1] == [MULTIPLIED]:
        colours *= most / np.where(opacity > 0, opacity, most)
    if photometric == CMYK:
        ink = colours.clip(0, most) / most
        colours = (1 - ink[..., :3]) * (1 - ink[..., 3:]) * most
    plain = (np.rint(colours.clip(0, most)) if top else colours).astype(values.dtype)
    return np.concatenate([plain, opacity], axis=-1) if extra[:1] in ALPHA else plain
