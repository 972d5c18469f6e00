"""What a TIFF's tags say of its values holds at every depth: each combination against tifffile's
values."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest

from ssl_lightning.data.images.picture import Picture, UnreadablePicture
from ssl_lightning.data.images.reading import Reading

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
COLOURS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4}
EXTRAS = ((), ("unassalpha",), ("assocalpha",), ("unspecified",), ("unassalpha", "unspecified"))
SIDE = 24


def stored(photometric: str, extra: tuple[str, ...], planar: str, dtype: Any) -> tuple[np.ndarray, bytes]:
    """Random values [H, W, C] and the file that holds them."""
    count = COLOURS[photometric]
    values = np.random.default_rng(0).random((SIDE, SIDE, count + len(extra)))
    if extra[:1] == ("assocalpha",):
        values[..., :count] *= values[..., count : count + 1]
    kind = np.dtype(dtype)
    values = (values if kind.kind == "f" else np.rint(values * np.iinfo(kind).max)).astype(kind)
    arranged, options = values[..., 0], {}
    if values.shape[-1] > 1:
        arranged, options = (values if planar == "contig" else np.moveaxis(values, -1, 0)), {"planarconfig": planar}
    stream = io.BytesIO()
    tifffile.imwrite(stream, arranged, photometric=photometric, extrasamples=list(extra) or None, **options)
    return values, stream.getvalue()


def on_white(values: np.ndarray, photometric: str, extra: tuple[str, ...]) -> np.ndarray:
    """Grey or RGB [H, W, 1 or 3], in float64: what the tags mean, written out."""
    top = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    exact, count = values / top, COLOURS[photometric]
    colours, opacity = exact[..., :count], np.ones((SIDE, SIDE, 1))
    if extra[:1] in (("assocalpha",), ("unassalpha",)):
        opacity = exact[..., count : count + 1]
    if extra[:1] == ("assocalpha",):
        colours = (colours / np.maximum(opacity, 1e-9)).clip(0, 1)
    if photometric == "miniswhite":
        colours = 1 - colours
    if photometric == "separated":
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    return colours * opacity + 1 - opacity


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("photometric", COLOURS)
def test_tags_mean_the_same_at_every_depth(photometric: str, dtype: Any) -> None:
    for extra, planar in itertools.product(EXTRAS, ("contig", "separate")):
        if photometric == "miniswhite" and (dtype == np.float32 or extra[:1] == ("assocalpha",)):
            continue
        if COLOURS[photometric] + len(extra) == 1 and planar == "separate":
            continue
        values, data = stored(photometric, extra, planar, dtype)
        (view,) = Picture(data, Reading(3)).cut([(0, 0, SIDE, SIDE)], [SIDE])
        exact = np.broadcast_to(on_white(values, photometric, extra), (SIDE, SIDE, 3)).transpose(2, 0, 1)
        shown = view / 255 if view.dtype == np.uint8 else view
        assert abs(shown - exact).max() < (0.012 if dtype == np.uint8 else 1e-3), (extra, planar)


@pytest.mark.parametrize("scale", [1, 257])
def test_a_palette_may_be_of_8_or_of_16_bits(scale: int) -> None:
    """https://github.com/python-pillow/Pillow/issues/2157"""
    colours = np.random.default_rng(0).integers(0, 256, (3, 256))
    values, stream = np.arange(256, dtype=np.uint8).reshape(16, 16), io.BytesIO()
    tifffile.imwrite(stream, values, photometric="palette", colormap=(colours * scale).astype(np.uint16))
    (view,) = Picture(stream.getvalue(), Reading(3)).cut([(0, 0, 16, 16)], [16])
    assert np.array_equal(view, colours[:, values])


@pytest.mark.parametrize(
    ("photometric", "dtype", "reason"),
    [
        ("minisblack", np.int8, "int8 values, and it is unknown which become 0 and 1"),
        ("minisblack", np.int16, "values, and it is unknown which become 0 and 1"),
        ("rgb", np.int8, "int8 values, and it is unknown which become 0 and 1"),
        ("miniswhite", np.float32, r"its 0 is white .* unknown which float32 value is black"),
        ("miniswhite", np.int8, r"its 0 is white .* unknown which int8 value is black"),
    ],
)
def test_values_of_an_unknown_range_are_refused_at_the_header(photometric: str, dtype: Any, reason: str) -> None:
    with pytest.raises(UnreadablePicture, match=reason):
        Picture(stored(photometric, (), "contig", dtype)[1], Reading(3))


def test_a_window_turns_signed_values_into_those_of_a_view() -> None:
    values, data = stored("minisblack", (), "contig", np.int8)
    (view,) = Picture(data, Reading(3, window=(-128, 127))).cut([(0, 0, SIDE, SIDE)], [SIDE])
    assert abs(view[0] - (values[..., 0].astype(np.float64) + 128) / 255).max() < 1e-5
