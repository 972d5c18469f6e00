"""The pixels of a PNG count, whatever lies beside them."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ssl_lightning.data.images.picture import Picture
from ssl_lightning.data.images.png import pixels_of
from ssl_lightning.data.images.reading import Reading

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def png(pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def with_chunk(data: bytes, kind: bytes, content: bytes, at: int = 33, checksum: int | None = None) -> bytes:
    """A PNG with one more chunk, by default right behind its header; -12: at its end."""
    crc = zlib.crc32(kind + content) if checksum is None else checksum
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return data[:at] + chunk + data[at:]


def text(key: str, letters: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, "x" * letters, zip=True)
    return info


EXTRAS: dict[str, Callable[[], bytes]] = {
    "2 MB of compressed text": lambda: png(pnginfo=text("workflow", 2_000_000)),
    "2 MB of EXIF as text": lambda: png(pnginfo=text("Raw profile type exif", 2_000_000)),
    "a large profile": lambda: png(icc_profile=b"\0" * 1_500_000),
    "a text behind the pixels": lambda: with_chunk(png(), b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000)), at=-12),
    "a text with a wrong checksum": lambda: with_chunk(png(), b"tEXt", b"key\0text", checksum=1),
    "a profile that is damaged": lambda: with_chunk(png(), b"iCCP", b"name\0\0no deflate"),
    "an unknown chunk": lambda: with_chunk(png(), b"caBX", bytes(100_000)),
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_metadata_never_keep_a_good_picture_from_being_read(extra: str) -> None:
    data = EXTRAS[extra]()
    (view,) = Picture(data, Reading(3)).cut([(0, 0, 20, 20)], [20])
    assert np.array_equal(view, PIXELS[:, :20].transpose(2, 0, 1))


def test_sixteen_bits_are_read_beside_them_too() -> None:
    deep = png(PIXELS[..., 0].astype(np.uint16) * 257)
    data = with_chunk(deep, b"zTXt", b"k\0\0" + zlib.compress(bytes(20_000_000)))
    (view,) = Picture(data, Reading(1)).cut([(0, 0, 20, 20)], [20])
    assert np.allclose(view[0], PIXELS[:, :20, 0] / 255)


def test_a_bomb_of_text_costs_no_memory() -> None:
    data = with_chunk(png(), b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(200_000_000), 9))
    tracemalloc.start()
    Picture(data, Reading(3)).cut([(0, 0, 20, 20)], [20])
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


def test_what_tells_how_a_picture_looks_is_kept() -> None:
    turned, clear = Image.Exif(), Image.fromarray(PIXELS).convert("P")
    turned[274] = 6
    assert (Picture(png(exif=turned), Reading(3)).height, Picture(png(exif=turned), Reading(3)).width) == (30, 20)
    stream = io.BytesIO()
    clear.save(stream, "PNG", transparency=bytes(256))
    assert Picture(stream.getvalue(), Reading(3)).cut([(0, 0, 20, 20)], [20])[0].min() == 255
    hexed = b"\nexif\n%8d\n" % len(turned.tobytes()) + turned.tobytes().hex().encode() + b"\n"
    by_text = with_chunk(png(), b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexed))
    assert Picture(by_text, Reading(3)).height == 30


def test_a_file_without_metadata_is_the_same_object() -> None:
    data = png()
    assert pixels_of(data) is data and pixels_of(b"GIF89a") == b"GIF89a" and pixels_of(data[:50]) == data[:50]
