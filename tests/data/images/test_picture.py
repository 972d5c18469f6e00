"""Pictures of 8 bits: views as a full decode would give them, whatever the format, mode,
orientation and reduction; and what is refused."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from torch._utils import ExceptionWrapper

from ssl_lightning.data.images.picture import SUFFIXES, Picture, UnreadablePicture
from ssl_lightning.data.images.reading import Reading

RGB = Reading()


def photo(height, width, seed=0):
    """An image [height, width, 3] with coarse and fine structure, and no symmetry."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return Image.fromarray((np.asarray(coarse) + random.normal(0, 5, (height, width, 1))).clip(0, 255).astype(np.uint8))


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reference(image, box, size):
    """The view [C, size, size] by Pillow: the box cropped, then resized with antialiasing."""
    top, left, height, width = box
    view = np.asarray(
        image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)
    )
    return view.reshape(size, size, -1).transpose(2, 0, 1).astype(int)


def far(view, expected):
    return np.abs(view.astype(int) - expected).max()


@pytest.mark.parametrize(
    "kind, options", [("PNG", {}), ("JPEG", {"quality": 95}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})]
)
def test_a_view_is_what_a_full_decode_a_crop_and_a_resize_give(kind, options):
    data = encoded(photo(90, 130), kind, **options)
    boxes, sizes = [(0, 0, 90, 130), (11, 7, 60, 81), (3, 100, 5, 9), (50, 60, 33, 20)], [64, 48, 16, 32]
    picture = Picture(data, RGB)
    views = picture.cut(boxes, sizes)
    assert (picture.height, picture.width) == (90, 130)
    for view, box, size in zip(views, boxes, sizes, strict=True):
        assert view.shape == (3, size, size) and view.dtype == np.uint8 and view.flags.c_contiguous
        assert far(view, reference(Image.open(io.BytesIO(data)), box, size)) <= 2


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_decoded_at_a_reduced_size_gives_the_same_views(monkeypatch, mode, channels):
    image = photo(1003, 1501).convert(mode)
    data = encoded(image, "JPEG", quality=95)
    draft, reductions = JpegImageFile.draft, []
    monkeypatch.setattr(JpegImageFile, "draft", lambda self, mode, size: reductions.append(draft(self, mode, size)[1]))
    for size, scale in ((224, 2), (100, 8), (125, 4)):
        # The last box ends at the picture's edge, which no reduced size meets exactly.
        boxes = (
            [(17, 33, 801, 901), (501, 303, 502, 1198)] if size == 224 else [(101, 55, 800, 1000), (2, 500, 1001, 1001)]
        )
        views = Picture(data, Reading(channels)).cut(boxes, [size, size])
        assert reductions.pop() == (0, 0, 1501 / scale, 1003 / scale)
        for view, box in zip(views, boxes, strict=True):
            expected = reference(image.convert("L" if channels == 1 else "RGB"), box, size)
            difference = view - expected
            assert np.abs(difference).mean() < 2 and abs(difference.mean()) < 0.3
            # A shift of half a reduced pixel would show: the views differ from their neighbours by
            # more than from the truth.
            shifted = reference(
                image.convert("L" if channels == 1 else "RGB"), (box[0], box[1] - scale // 2, *box[2:]), size
            )
            assert np.abs(difference).mean() < np.abs(view - shifted).mean()


def test_a_jpeg_is_never_reduced_below_the_pixels_of_a_view(monkeypatch):
    sizes = []
    monkeypatch.setattr(JpegImageFile, "draft", lambda self, mode, size: sizes.append(size))
    data = encoded(photo(400, 600), "JPEG")
    Picture(data, RGB).cut([(0, 0, 400, 600), (0, 0, 199, 600)], [100, 100])
    assert sizes == []
    Picture(data, RGB).cut([(0, 0, 400, 600), (0, 0, 200, 600)], [100, 100])
    Picture(data, RGB).cut([(0, 0, 400, 600), (0, 0, 200, 600)], [50, 100])
    Picture(data, RGB).cut([(0, 0, 399, 600)], [100])
    Picture(data, RGB).cut([(0, 0, 400, 600)], [100])
    assert sizes == [(300, 200), (300, 200), (300, 200), (150, 100)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "reduced JPEG", "PNG", "WEBP", "TIFF", "compressed TIFF", "16-bit PNG"])
def test_boxes_and_views_are_those_of_the_displayed_picture(orientation, kind):
    image, size = photo(203, 301), 40 if kind == "reduced JPEG" else 100
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "16-bit PNG":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    options = {"WEBP": {"lossless": True}, "compressed TIFF": {"compression": "tiff_deflate"}}.get(kind, {})
    data = encoded(image, kind.split()[-1], exif=exif, **options)
    displayed = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (displayed.size == image.size) == (orientation < 5)
    picture = Picture(data, RGB)
    assert (picture.width, picture.height) == displayed.size
    box = (picture.height - 140, 25, 131, 150)
    (view,) = picture.cut([box], [size])
    if kind == "16-bit PNG":
        view, displayed = view * 255, Image.fromarray((np.asarray(displayed) // 257).astype(np.uint8)).convert("RGB")
    assert np.abs(view - reference(displayed, box, size)).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "GIF", "JPEG"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb_or_luma_on_white(mode, kind):
    image = photo(40, 50)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 50).astype(np.uint8), (40, 1))))
    try:
        data = encoded(image.convert(mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no mode {mode}")
    seen = Image.open(io.BytesIO(data)).convert("RGBA")
    seen = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    box = (3, 5, 32, 40)
    rgb, luma = (Picture(data, Reading(channels)).cut([box], [32])[0] for channels in (3, 1))
    assert rgb.shape == (3, 32, 32) and luma.shape == (1, 32, 32) and rgb.dtype == luma.dtype == np.uint8
    assert far(rgb, reference(seen, box, 32)) <= 2
    assert far(luma, reference(seen.convert("L"), box, 32)) <= 2


def test_a_transparent_colour_of_a_palette_or_of_rgb_is_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    for picture in (encoded(image, transparency=1), encoded(image, "GIF", transparency=1)):
        assert (Picture(picture, RGB).cut([(0, 0, 8, 8)], [4])[0] == 255).all()
    solid = encoded(Image.new("RGB", (8, 8), (10, 20, 30)), transparency=(10, 20, 30))
    assert (Picture(solid, RGB).cut([(0, 0, 8, 8)], [4])[0] == 255).all()
    assert Picture(encoded(image), RGB).cut([(0, 0, 8, 8)], [4])[0][:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (20, 16), colour) for colour in ((200, 10, 10), (10, 200, 10))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    (view,) = Picture(data, RGB).cut([(0, 0, 16, 20)], [8])
    assert far(view, np.array([200, 10, 10])[:, None, None]) <= 4


def test_other_numbers_of_channels_are_taken_as_they_are_stored():
    image = photo(20, 20)
    image.putalpha(77)
    (view,) = Picture(encoded(image), Reading(4)).cut([(0, 0, 20, 20)], [20])
    assert np.array_equal(view, np.asarray(image).transpose(2, 0, 1))
    with pytest.raises(UnreadablePicture, match=r"x\.png: it has 3 channels, not the 4 required"):
        Picture(encoded(photo(20, 20)), Reading(4), name="x.png")


def test_a_window_and_percentiles_rescale_8_bits_to_floats():
    grey = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10))
    (view,) = Picture(encoded(grey), Reading(1, window=(20, 70))).cut([(0, 0, 10, 10)], [10])
    assert view.dtype == np.float32
    np.testing.assert_allclose(view.ravel(), ((np.arange(100) - 20) / 50).clip(0, 1), atol=1e-6)
    (view,) = Picture(encoded(grey), Reading(3, percentiles=(0, 50))).cut([(0, 0, 10, 10)], [10])
    np.testing.assert_allclose(view[2].ravel(), (np.arange(100) / 49.5).clip(0, 1), atol=1e-6)


def test_the_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(photo(20, 30), "JPEG"))
    assert Picture(path, RGB).width == 30
    assert path.suffix in SUFFIXES and ".txt" not in SUFFIXES and ".jpg" in SUFFIXES


def test_a_file_name_that_is_no_utf_8_is_read_and_named(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    with open(path, "wb") as file:
        file.write(encoded(photo(20, 30)))
    assert Picture(path, RGB).height == 20
    with open(path, "wb") as file:
        file.write(b"no")
    with pytest.raises(UnreadablePicture) as caught:
        Picture(path, RGB)
    assert r"caf\xe9.png" in str(caught.value).encode().decode()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "kind", ["JPEG", "progressive JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "compressed TIFF", "PPM", "JPEG2000"]
)
@pytest.mark.parametrize("lenient", [False, True])
def test_half_a_file_is_refused_whatever_the_process_set(monkeypatch, kind, lenient, tmp_path):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    options = (
        {"compression": "tiff_lzw"}
        if kind.startswith("compressed")
        else {"progressive": True}
        if kind.startswith("prog")
        else {}
    )
    data = encoded(photo(300, 400), kind.split()[-1], **options)
    path = tmp_path / "half.jpg"
    for part in (0.5, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        for size in (100, 200):
            with pytest.raises(UnreadablePicture, match=r"half\.jpg: \w"):
                Picture(path, RGB).cut([(0, 0, 300, 400)], [size])


@pytest.mark.parametrize("lenient", [False, True])
def test_a_damaged_middle_of_a_png_is_refused(monkeypatch, lenient):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = bytearray(encoded(photo(300, 400)))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    with pytest.raises(UnreadablePicture):
        Picture(bytes(data), RGB).cut([(0, 0, 300, 400)], [100])


def test_what_is_no_picture_is_named_with_the_reason(tmp_path):
    (tmp_path / "text.jpg").write_text("<html>404 Not Found</html>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "runs_ghostscript.jpg").write_bytes(encoded(photo(8, 8), "EPS"))
    for name, reason in {
        "text.jpg": "not an image that can be read here: it begins with b'<html>404 No'",
        "empty.jpg": "it is empty",
        "folder.jpg": "it is a folder",
        "missing.jpg": "there is no such file",
        "runs_ghostscript.jpg": "not an image that can be read here",
    }.items():
        with pytest.raises(UnreadablePicture) as caught:
            Picture(tmp_path / name, RGB)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and reason in str(caught.value)
    with pytest.raises(UnreadablePicture, match=r"^row 7: it is not an image"):
        Picture(b"nothing", RGB, name="row 7")


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = tmp_path / "locked.png"
    path.write_bytes(encoded(photo(8, 8)))
    path.chmod(0)
    user = os.geteuid()
    if not user:
        os.seteuid(65534)
    try:
        with pytest.raises(UnreadablePicture, match=r"locked\.png: this user may not read it"):
            Picture(path, RGB)
    finally:
        os.seteuid(user)


def png_of(width, height):
    """A PNG of a few bytes whose header says what it likes."""

    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (15_000, 15_000)])
def test_a_decompression_bomb_is_refused_by_its_header(size):
    with pytest.raises(UnreadablePicture, match=r"200,000,000 \(max_pixels\)"):
        Picture(png_of(*size), RGB)


@pytest.mark.slow
def test_what_pillow_would_warn_of_is_left_unsaid(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(15_000, 15_000))
    palette = photo(20, 30).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(8)))
    photo(20, 30).save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    script = f"""
from pathlib import Path
from ssl_lightning.data.images.picture import Picture, Reading, UnreadablePicture
for name in ("palette.png", "exif.jpg", "bomb.png"):
    try:
        Picture(Path({str(tmp_path)!r}) / name, Reading()).cut([(0, 0, 20, 30)], [8])
    except UnreadablePicture:
        print("refused", name)
"""
    done = subprocess.run([sys.executable, "-W", "default", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["refused", "bomb.png"] and "PIL" not in done.stderr and "Warning" not in done.stderr


def test_an_error_that_comes_from_a_worker_is_the_same_line():
    error = UnreadablePicture("a.jpg: it is empty.")
    try:
        raise error
    except UnreadablePicture:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(UnreadablePicture) as caught:
        wrapped.reraise()
    assert str(caught.value) == str(error) == "a.jpg: it is empty."


def test_our_limit_of_pixels_rules_not_pillows(monkeypatch):
    image = encoded(photo(50, 60))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for limit in (10, 2000, None):
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            assert Picture(image, Reading(max_pixels=3000)).cut([(0, 0, 50, 60)], [8])[0].shape == (3, 8, 8)
    with pytest.raises(UnreadablePicture, match="60 x 50 pixels, above the limit of 2,999"):
        Picture(image, Reading(max_pixels=2999))


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(UnreadablePicture):
        Picture(png_of(0, 5), RGB)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"no header", b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 9, b"II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_data_do_not_cost_the_picture(kind, exif):
    data = encoded(photo(20, 30), kind, exif=b"Exif\0\0" + exif)
    assert Picture(data, RGB).cut([(0, 0, 20, 30)], [8])[0].shape == (3, 8, 8)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 21, 5), (0, 26, 5, 5), (0, 0, 0, 5)])
def test_a_box_beyond_the_picture_is_the_callers_mistake(box):
    with pytest.raises(ValueError, match="not within") as caught:
        Picture(encoded(photo(20, 30)), RGB).cut([box], [8])
    assert not isinstance(caught.value, UnreadablePicture)


def test_each_box_needs_a_size():
    picture = Picture(encoded(photo(20, 30), "JPEG"), RGB)
    assert picture.cut([], []) == []
    with pytest.raises(ValueError, match="There are 2 boxes and 1 sizes") as caught:
        picture.cut([(0, 0, 5, 5)] * 2, [8])
    assert not isinstance(caught.value, UnreadablePicture)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"channels": 0}, "channels=0 is too small"),
        ({"window": (1, 1)}, "window=.* is not increasing"),
        ({"percentiles": (50, 101)}, "percentiles=.* does not fit"),
        ({"window": (0, 1), "percentiles": (1, 99)}, "Both window=.* and percentiles=.* are set"),
        ({"max_pixels": 0}, "max_pixels=0 is too small"),
    ],
)
def test_a_reading_that_makes_no_sense_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Reading(**arguments)


def test_no_file_stays_open(tmp_path):
    good, bad, array = tmp_path / "good.jpg", tmp_path / "bad.png", tmp_path / "array.npy"
    good.write_bytes(encoded(photo(300, 400), "JPEG"))
    bad.write_bytes(encoded(photo(300, 400))[:2000])
    np.save(array, np.zeros((30, 40), np.uint8))
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("no /proc")
        kept = []
        for path in (good, bad, array) * 5:
            picture = Picture(path, RGB)
            kept.append(picture)
            for size in (10, 30):
                try:
                    picture.cut([(0, 0, 30, 40)], [size])
                except UnreadablePicture:
                    assert path == bad
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_threads_may_share_a_picture():
    picture = Picture(encoded(photo(400, 600), "JPEG"), RGB)
    jobs = [(size, box) for size in (40, 150) for box in ((0, 0, 400, 600), (13, 7, 200, 300))] * 5
    expected = [picture.cut([box], [size])[0] for size, box in jobs]
    with ThreadPoolExecutor(4) as pool:
        views = list(pool.map(lambda job: picture.cut([job[1]], [job[0]])[0], jobs))
    assert all(np.array_equal(view, other) for view, other in zip(views, expected, strict=True))
