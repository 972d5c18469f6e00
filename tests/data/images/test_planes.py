"""Pictures of more than 8 bits or other channels than RGB: no bit is lost, and nothing is scaled by
a guess."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from ssl_lightning.data.images.picture import Picture, UnreadablePicture
from ssl_lightning.data.images.reading import Reading


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def png16(array, colour):
    """A 16-bit PNG [H, W, C], which Pillow cannot write."""

    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    height, width = array.shape[:2]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep(*shape, top=65535, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, top + 1, shape).astype(dtype)


def whole(data, *reading, **options):
    """Both quarters of the picture [20, 30] that are 10 x 10 at their own size: no pixel is
    interpolated."""
    picture = Picture(data, Reading(*reading, **options))
    assert (picture.height, picture.width) == (20, 30)
    views = picture.cut([(5, 3, 10, 10), (10, 20, 10, 10)], [10, 10])
    assert all(view.flags.c_contiguous for view in views)
    return views


def expect(views, values, **tolerance):
    """The views are the values [20, 30, C] at their places."""
    for view, (top, left) in zip(views, ((5, 3), (10, 20)), strict=True):
        assert view.dtype == values.dtype
        np.testing.assert_allclose(
            view, values[top : top + 10, left : left + 10].transpose(2, 0, 1), **(tolerance or {"atol": 1e-6})
        )


def float32(values):
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "compressed TIFF", "big-endian TIFF", "PPM", "JPEG2000", "npy"])
def test_grey_of_16_bits_keeps_them(kind):
    values = deep(20, 30)
    options = {"compression": "tiff_lzw"} if kind.startswith("compressed") else {}
    image = Image.fromarray(values)
    if kind.startswith("big-endian"):
        image = Image.frombytes("I;16B", (30, 20), values.astype(">u2").tobytes())
    data = npy(values) if kind == "npy" else encoded(image, kind.split()[-1], **options)
    scaled = float32(values / 65535)[..., None]
    expect(whole(data, 1), scaled)
    expect(whole(data, 3), scaled.repeat(3, axis=2))


def test_a_window_of_16_bits_is_clamped_before_the_resize():
    values = np.full((20, 30), 1000, np.uint16)
    values[::2] = (
        60000  # after a resize to half the mean would be far above the window; clamped first, it is its middle
    )
    data = encoded(Image.fromarray(values))
    (view,) = Picture(data, Reading(1, window=(1000, 2000))).cut([(0, 0, 20, 20)], [5])
    assert abs(view.mean() - 0.5) < 0.01


def test_each_picture_has_percentiles_of_its_own():
    values = deep(20, 30, top=3000)
    low, high = np.percentile(values, (5, 90))
    expect(
        whole(encoded(Image.fromarray(values)), 1, percentiles=(5, 90)),
        float32((values - low) / (high - low)).clip(0, 1)[..., None],
    )
    flat = whole(npy(np.full((20, 30), 700, np.uint16)), 1, percentiles=(1, 99))
    assert all((view == 0).all() for view in flat)


def test_percentiles_of_a_large_picture_come_from_evenly_spaced_pixels():
    values = np.tile(np.arange(4000, dtype=np.uint16), (2000, 1))
    (view,) = Picture(npy(values), Reading(1, percentiles=(10, 90))).cut([(0, 0, 1, 1)], [1])
    (top,) = Picture(npy(values), Reading(1, percentiles=(10, 90))).cut([(0, 1999, 1, 1)], [1])
    assert view.item() == 0 and abs(top.item() - 0.5) < 2e-3


@pytest.mark.parametrize("colour, channels", [(2, 3), (4, 2), (6, 4)])
def test_colour_png_of_16_bits_keeps_them_and_lies_on_white(colour, channels):
    values = deep(20, 30, channels)
    scaled = values / 65535
    rgb = scaled[..., : channels - 1 + channels % 2]
    if channels % 2 == 0:
        rgb = rgb * scaled[..., -1:] + 1 - scaled[..., -1:]
    data = png16(values, colour)
    expect(whole(data, 3), float32(np.broadcast_to(rgb, (20, 30, 3))))
    luma = rgb @ np.array([0.299, 0.587, 0.114])[:, None] if rgb.shape[-1] == 3 else rgb
    expect(whole(data, 1), float32(luma))
    expect(whole(data, channels), float32(scaled if channels % 2 == 0 else rgb))
    windowed = whole(data, 1, window=(0, 1000))
    assert windowed[0].dtype == np.float32 and (windowed[0] >= 0).all() and (windowed[0] <= 1).all()


def test_percentiles_leave_transparency_out():
    values = deep(20, 30, 2, top=3000)
    values[..., 1] = 65535
    low, high = values[..., 0].min(), values[..., 0].max()
    expect(whole(png16(values, 4), 1, percentiles=(0, 100)), float32((values[..., :1] - low) / (high - low)))


def test_a_colour_png_of_16_bits_cut_short_is_refused():
    data = png16(deep(20, 30, 3), 2)
    with pytest.raises(UnreadablePicture, match=r"x: \w"):
        Picture(data[: len(data) // 2], Reading(), name="x").cut([(0, 0, 20, 20)], [10])


def test_arrays_of_8_bits_stay_so():
    values = deep(20, 30, 5, top=255, dtype=np.uint8)
    expect(whole(npy(values), 5), values)
    expect(whole(npy(values[..., :3]), 3), values[..., :3])
    expect(whole(npy(np.asfortranarray(values[..., 0])), 3), values[..., :1].repeat(3, axis=2))
    luma = np.asarray(Image.fromarray(np.ascontiguousarray(values[..., :3])).convert("L"))[..., None]
    expect(whole(npy(values[..., :3]), 1), luma, atol=1)
    expect(whole(npy(values[..., 0] > 100), 1), ((values[..., :1] > 100) * 255).astype(np.uint8))


def test_an_array_file_is_mapped_and_reduced(tmp_path):
    values = deep(20, 30, 2)
    np.save(tmp_path / "x.npy", values)
    expect(whole(tmp_path / "x.npy", 2), float32(values / 65535))
    (view,) = Picture(tmp_path / "x.npy", Reading(2)).cut([(0, 0, 20, 20)], [1])
    # A triangle over all the pixels: heavier in the middle.
    weight = np.bartlett(22)[1:-1]
    np.testing.assert_allclose(
        view[:, 0, 0], np.average(np.average(values[:20, :20] / 65535, 0, weight), 0, weight), atol=0.02
    )


def test_floats_within_0_to_1_need_no_window_and_others_do():
    values = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    for data in (npy(values), npy(values.astype(np.float64)), encoded(Image.fromarray(values), "TIFF")):
        expect(whole(data, 1), values[..., None])
    for data in (npy(values * 2), encoded(Image.fromarray(values * 2), "TIFF")):
        with pytest.raises(UnreadablePicture, match=r"float32 values from .* to .*: give window or percentiles"):
            whole(data, 1)
        expect(whole(data, 1, window=(0, 2)), values[..., None])
    values[7, 7] = np.nan
    for window in (None, (0, 1)):
        with pytest.raises(UnreadablePicture, match=r"NaN|nan"):
            whole(npy(values), 1, window=window)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32])
def test_whole_numbers_of_unknown_range_need_a_window(dtype):
    values = deep(20, 30, top=3000, dtype=np.int16).astype(dtype)
    images = [npy(values)] + [encoded(Image.fromarray(values), "TIFF")] * (dtype == np.int32)
    for data in images:
        with pytest.raises(UnreadablePicture, match="it is unknown which become 0 and 1: give window or percentiles"):
            whole(data, 1)
        expect(whole(data, 1, window=(0, 3000)), float32(values / 3000)[..., None])
    if dtype == np.int16:
        expect(whole(npy(values - 1024), 3, window=(-1024, 1976)), float32(values / 3000)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(
    "array, words",
    [
        (np.zeros((2, 3, 4, 5), np.uint8), r"shape \[2, 3, 4, 5\]"),
        (np.zeros((4, 5, 7), np.uint8), "7 channels, not the 3"),
        (np.zeros((4, 5), np.complex64), "complex64"),
        (np.zeros((0, 5), np.uint8), "no pixels|empty"),
        (np.array([[object()]]), "[Oo]bject"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    for file in (tmp_path / "x.npy", (tmp_path / "x.npy").read_bytes()):
        with pytest.raises(UnreadablePicture, match=words):
            Picture(file, Reading())


def test_an_array_file_cut_short_is_refused(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy(deep(20, 30))[:700])
    for file in (tmp_path / "x.npy", (tmp_path / "x.npy").read_bytes()):
        with pytest.raises(UnreadablePicture):
            Picture(file, Reading(1)).cut([(0, 0, 20, 20)], [8])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_grey_pages_of_a_tiff_are_channels(dtype, count):
    values = deep(20, 30, count, top=np.iinfo(dtype).max, dtype=dtype)
    pages = [Image.fromarray(np.ascontiguousarray(values[..., page])) for page in range(count)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    expect(whole(data, count), values if dtype == np.uint8 else float32(values / 65535))
    first = values[..., :1] if dtype == np.uint8 else float32(values / 65535)[..., :1]
    expect(whole(data, 1), first)
    with pytest.raises(UnreadablePicture, match=f"it has {count} pages, not the 9"):
        Picture(data, Reading(9))


def tiff(values, **options):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_a_tiff_of_many_channels(dtype, layout):
    values = (
        np.random.default_rng(0).random((20, 30, 7)).astype(np.float32)
        if dtype == np.float32
        else deep(20, 30, 7, top=np.iinfo(dtype).max, dtype=dtype)
    )
    stored = values if layout == "contig" else values.transpose(2, 0, 1)
    data = tiff(
        np.ascontiguousarray(stored), photometric="minisblack", planarconfig=layout, extratags=[(274, "H", 1, 6, False)]
    )
    displayed = np.rot90(values, -1)
    picture = Picture(data, Reading(7))
    assert (picture.height, picture.width) == (30, 20)
    (view,) = picture.cut([(12, 4, 10, 10)], [10])
    expected = displayed[12:22, 4:14].transpose(2, 0, 1)
    np.testing.assert_allclose(view, expected / 65535 if dtype == np.uint16 else expected, atol=1e-6)
    with pytest.raises(UnreadablePicture, match="7 channels, not the 3"):
        Picture(data, Reading())


def test_colour_tiff_of_16_bits_keeps_them_and_lies_on_white():
    values = deep(20, 30, 4)
    scaled = values / 65535
    expect(whole(tiff(values[..., :3], photometric="rgb"), 3), float32(scaled[..., :3]))
    data = tiff(values, photometric="rgb", extrasamples=["unassalpha"])
    expect(whole(data, 3), float32(scaled[..., :3] * scaled[..., 3:] + 1 - scaled[..., 3:]))
    expect(whole(data, 4), float32(scaled))


def test_12_bits_span_the_range():
    values = deep(20, 30, top=4095)
    even, odd = values[:, ::2], values[:, 1::2]
    rows = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=2).astype(np.uint8).tobytes()
    tags = {256: 30, 257: 20, 258: 12, 259: 1, 262: 1, 273: 200, 277: 1, 278: 20, 279: len(rows)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = (struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries).ljust(200, b"\0") + rows
    expect(whole(data, 1), float32(values / 4095)[..., None])


def test_without_tifffile_the_message_says_what_to_install(monkeypatch):
    data = tiff(deep(20, 30, 7), photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UnreadablePicture, match=r"pip install 'ssl-lightning\[tiff\]'"):
        Picture(data, Reading(7))
