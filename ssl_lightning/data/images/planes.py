"""Image files whose values need a scale: more than 8 bits, a window or percentiles, any number of
channels."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_png

from .stored import DEEP, Box, check_channels, open_image, orientation_of, plain, resize

if TYPE_CHECKING:
    from .reading import Reading

NUMPY = b"\x93NUMPY"
SAMPLE = 1_000_000
"""Percentiles are computed from at least this many pixels, where a picture has more."""
LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


class Planes:
    """A picture that is decoded to an array.

    Args:
        read: returns the values [H, W, C], the last channel being alpha where `alpha`.
        shape: H, W, C.
        dtype: of the values.
        reading: how values become those of a view.
        top: the value that becomes 1 unless the reading sets another; None: unknown.
        alpha: whether the last channel is transparency.
        orientation: EXIF's, 1 to 8.
    """

    def __init__(
        self,
        read: Callable[[], np.ndarray],
        shape: tuple[int, ...],
        dtype: Any,
        reading: Reading,
        top: float | None,
        alpha: bool = False,
        orientation: int = 1,
    ) -> None:
        self.read, self.reading, self.top, self.alpha, self.orientation = read, reading, top, alpha, orientation
        self.height, self.width, channels = shape
        self.dtype = np.dtype(dtype)
        check_channels(channels - alpha, reading.channels)
        if self.dtype.kind not in "uif":
            raise ValueError(f"it holds values of type {self.dtype}, which are not those of an image")
        if top is None and self.dtype.kind != "f" and not reading.rescales:
            raise ValueError(
                f"it holds {self.dtype} values, and it is unknown which become 0 and 1: give window or percentiles"
            )

    def cut(self, boxes: Sequence[Box], sizes: Sequence[int]) -> list[Tensor]:
        values = self.read()
        low, high = self._limits(values[..., : values.shape[-1] - self.alpha])
        views = []
        for (top, left, height, width), size in zip(boxes, sizes, strict=True):
            region = values[top : top + height, left : left + width]
            if self.dtype == np.uint8 and not self.alpha and not self.reading.rescales:
                pixels = torch.from_numpy(np.array(region)).permute(2, 0, 1)
            else:
                pixels = torch.from_numpy(region.astype(np.float32)).permute(2, 0, 1)
                pixels = self._scaled(pixels, low, high)
            views.append(resize(self._channels(pixels), size))
        return [view if view.dtype == torch.uint8 else view.clamp_(0, 1) for view in views]

    def _limits(self, colours: np.ndarray) -> tuple[float, float]:
        """Returns the values that become 0 and 1."""
        if self.reading.window:
            return self.reading.window
        if self.reading.percentiles:
            step = isqrt(max(1, self.height * self.width // SAMPLE))
            low, high = np.percentile(colours[::step, ::step], self.reading.percentiles)
            return float(low), float(high)
        if self.top is not None:
            return 0.0, self.top
        low, high = colours.min(), colours.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"it holds {self.dtype} values from {low:g} to {high:g}, and it is unknown which become 0 and 1: give"
                " window or percentiles"
            )
        return 0.0, 1.0

    def _scaled(self, pixels: Tensor, low: float, high: float) -> Tensor:
        colours = ((pixels[: len(pixels) - self.alpha] - low) / max(high - low, 1e-30)).clamp_(0, 1)
        if self.dtype.kind == "f" and bool(colours.isnan().any()):
            raise ValueError("it holds values that are not numbers (NaN)")
        if self.alpha:
            opacity = pixels[-1:] / (self.top or 1.0)
            colours = colours * opacity + (1 - opacity)
        return colours

    def _channels(self, pixels: Tensor) -> Tensor:
        if self.reading.channels != 1 or len(pixels) != 3:
            return pixels
        luma = (pixels * LUMA).sum(0, keepdim=True)
        return luma.round_().to(torch.uint8) if pixels.dtype == torch.uint8 else luma


def deepest(dtype: np.dtype[Any]) -> float | None:
    """Returns the greatest value of an unsigned type of up to 16 bits; None for other types, whose
    range in use is unknown."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def mirror(values: np.ndarray, top: float | None) -> np.ndarray:
    """Returns values whose 0 is white and whose `top` is black as others are: black is 0.

    Raises:
        ValueError: it is unknown which value is black.
    """
    if top is None:
        raise ValueError(
            f"its 0 is white (WhiteIsZero), and it is unknown which {values.dtype} value is black: convert it, so that"
            " its 0 is black"
        )
    return np.asarray(top, values.dtype) - values


def from_numpy(file: str | Path | bytes, reading: Reading) -> Planes:
    """Opens a `.npy` file [H, W] or [H, W, C], of which only the boxes are read."""

    def load() -> np.ndarray:
        source: Any = io.BytesIO(file) if isinstance(file, bytes) else file
        values = np.load(source, mmap_mode=None if isinstance(file, bytes) else "r", allow_pickle=False)
        if values.ndim not in (2, 3):
            raise ValueError(
                f"it holds an array of shape {list(values.shape)}, not [height, width] or [height, width, channels]"
            )
        if values.dtype == bool:
            values = values.astype(np.uint8) * np.uint8(255)
        return values[..., None] if values.ndim == 2 else values

    values = load()
    return Planes(load, values.shape, values.dtype, reading, deepest(values.dtype))


def from_png(data: bytes, reading: Reading) -> Planes:
    """Opens a colour PNG of 16 bits, which Pillow would reduce to 8."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    colour, alpha = bool(data[25] & 2), bool(data[25] & 4)

    def read() -> np.ndarray:
        pixels = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.UNCHANGED)
        return pixels.permute(1, 2, 0).numpy()

    image = open_image(data, reading)
    shape = height, width, (3 if colour else 1) + alpha
    if reading.channels == shape[-1]:
        alpha = False
    return Planes(read, shape, np.uint16, reading, 65535.0, alpha, orientation_of(image))


def from_image(
    data: bytes, image: Image.Image, reading: Reading, top: float | None = 65535.0, mirrored: bool = False
) -> Planes:
    """Opens a picture that Pillow decodes to values of more than 8 bits, or to 8-bit values that
    the reading scales.

    Args:
        top: the value that becomes 1 in a picture of more than 8 bits; None: unknown.
        mirrored: whether 0 is white and `top` black, as Pillow knows of 8 bits alone.
    """
    channels = 1 if image.mode in DEEP else len(plain(Image.new(image.mode, (1, 1)), reading.channels).getbands())
    if image.mode not in DEEP:
        top = 255.0
    elif image.mode == "F":
        top = None

    def read() -> np.ndarray:
        decoded = open_image(data, reading)
        values = np.asarray(decoded if decoded.mode in DEEP else plain(decoded, reading.channels))
        values = mirror(values, top) if mirrored else values
        return values.reshape(*values.shape[:2], -1)

    dtype = DEEP.get(image.mode, np.uint8)
    return Planes(read, (image.height, image.width, channels), dtype, reading, top, orientation=orientation_of(image))
