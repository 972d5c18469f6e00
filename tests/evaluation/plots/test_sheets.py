"""The contact sheet shows each sample with the neighbours it was given; the confusion matrix counts
what was taken for what; captions and lines are those of the run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor

from ssl_lightning.data import figure as figures
from ssl_lightning.data.figure import THUMBNAIL, plot_waves
from ssl_lightning.evaluation.drawing import caption_of, lines_of
from ssl_lightning.evaluation.plots import confusion, neighbours
from ssl_lightning.evaluation.plots.confusion import plot_confusion
from ssl_lightning.evaluation.plots.neighbours import LETTERS, plot_neighbours
from ssl_lightning.evaluation.shown import originals_of
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import Alarm, ViewSpec


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    kept: list[Figure] = []
    save = figures.save_figure
    for module in (figures, neighbours, confusion):
        monkeypatch.setattr(module, "save_figure", lambda each, path: (kept.append(each), save(each, path)))
    return kept


def tile(grey: float, height: int = 8, width: int = 8) -> Tensor:
    return torch.full((1, height, width), grey)


def greys(sheet: Any, row: int = 0) -> list[float]:
    """The greys of a row of a sheet, from left to right, without the white around them."""
    middle = np.round(sheet.images[0].get_array()[row * THUMBNAIL + THUMBNAIL // 2, :, 0], 3)
    steps = middle[np.flatnonzero(np.diff(middle, prepend=1.0))]
    return [round(float(each), 3) for each in steps if each < 1]


def test_each_sample_stands_before_its_neighbours_by_each_network_the_nearest_first(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    first = [[tile(0.2), tile(0.3)], [tile(0.4), tile(0.5)]]
    second = [[tile(0.25)], [tile(0.35)]]
    others = {
        "pairs": [[tile(0.6), tile(0.65)], [tile(0.7), tile(0.75)], [tile(0.9), tile(0.95)]],
        "none": [[]],
        "far": [[tile(0.8)]],
    }
    plot_neighbours([tile(0.1), tile(0.15, width=4)], {"pretrained": first, "raw": second}, others, tmp_path / "a.png")
    sheet, pairs, far = drawn[0].axes
    assert greys(sheet) == [0.1, 0.2, 0.3, 0.25] and greys(sheet, 1) == [0.15, 0.4, 0.5, 0.35]
    assert greys(pairs) == [0.6, 0.65, 0.7, 0.75], "the third pair would not fit"
    assert greys(far) == [0.8] and [axes.get_title(loc="left") for axes in (pairs, far)] == ["pairs", "far"]
    assert [text.get_text() for text in sheet.texts] == ["sample", "pretrained", "raw"]
    narrow = sheet.images[0].get_array()[THUMBNAIL:, :THUMBNAIL, 0]
    assert (narrow == np.float32(0.15)).any(axis=0).sum() < 0.6 * (narrow == np.float32(0.15)).any(axis=1).sum()


def test_texts_are_lines_cut_to_the_width_of_the_sheet(tmp_path: Path, drawn: list[Figure]) -> None:
    long = "word " * 100
    plot_neighbours(
        ["a sample", "\u65e5\u672c\u8a9e\u306e\u6587" * 40],
        {"pretrained": [["near", "far"], [long, "$x$"]], "raw": [["other"], ["another"]]},
        {"A heading that is longer than the captions": [["one", "two"], ["three", "four"]], "none": []},
        tmp_path / "a.png",
    )
    shown = [text.get_text() for text in drawn[0].texts if text.get_text()]
    assert shown[1:5] == ["sample", "a sample", "pretrained", "near"]
    assert shown[-5:] == ["A heading that is longer than the captions", "one", "two", "three", "four"]
    assert shown.index("near") < shown.index("other") < shown.index("$x$") < shown.index("another")
    assert max(map(len, shown)) <= LETTERS and shown.count("pretrained") == shown.count("raw") == 2
    boxes = [text.get_window_extent() for text in drawn[0].texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x1 <= drawn[0].canvas.get_width_height()[0] for box in boxes)


def test_a_confusion_matrix_counts_by_true_class_in_rows(tmp_path: Path, drawn: list[Figure]) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    predicted = torch.tensor([0, 2, 2, 2, 1, 0])
    plot_confusion(predicted, labels, tmp_path / "a.png", ["cat", "dog " * 9, r"$\frac$"], "val")
    axes, _ = drawn[0].axes
    assert axes.images[0].get_array().tolist() == [[25, 0, 75], [50, 50, 0], [0, 0, 0]]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "1", (2, 0): "3", (0, 1): "1", (1, 1): "1",
    }  # fmt: skip
    assert axes.get_title() == "6 samples of the val split, 33.3 % right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog dog dog dog dog ...", r"$\frac$"]


def test_a_hidden_stretch_of_a_wave_is_a_gap_in_its_line(tmp_path: Path, drawn: list[Figure]) -> None:
    wave = torch.randn(2, 40)
    hidden = wave.masked_fill(torch.arange(40) < 10, torch.nan)
    spectrograms = {caption: torch.rand(2, 1, 4, 5) for caption in ("view", "masked")}
    plot_waves({"view": wave, "masked": hidden}, spectrograms, 10, tmp_path / "a.png")
    above, _, masked, _ = drawn[0].axes[::2]
    assert np.allclose(above.lines[0].get_ydata(), wave[0]) and above.get_ylabel() == "view"
    y = masked.lines[0].get_ydata()
    assert np.isnan(y[:10]).all() and np.allclose(y[10:], wave[0, 10:]) and masked.get_ylabel() == "masked"
    first, second = (axes.images[0].get_array() for axes in drawn[0].axes[2:4])
    assert all(np.allclose(x, spectrograms["view"][n, 0]) for n, x in enumerate((first, second)))
    assert above.get_xlim() == masked.get_xlim() == (0, 4)
    assert above.get_ylim() == masked.get_ylim() and above.get_ylim()[1] > float(wave[0].abs().max())


def test_originals_stand_above_views_that_differ_from_them() -> None:
    data = TinyImages(samples=60)
    batch: Any = {"index": torch.arange(12)}
    shown = originals_of(data, batch, ViewSpec(strength="weak"))
    assert list(shown) == ["original"] and len(shown["original"].x) == 8
    for spec in (ViewSpec(full=1, strength="none"), ViewSpec(full=1, clean=True)):
        assert originals_of(data, batch, spec) == {}
    assert originals_of(None, batch, ViewSpec()) == {}


def test_pictures_say_what_they_are_of_and_stand_beside_the_lines_of_the_run(tmp_path: Path) -> None:
    data, method = TinyImages(samples=60), SimCLR(TinyEncoder())
    data.root = "/" + "long/" * 30 + "photos"  # type: ignore[attr-defined]
    alarm = Alarm("rank", "", "", 2.5, None, "collapse")
    watched = SimpleNamespace(alarms=[alarm], most_rank=7)
    trainer = SimpleNamespace(datamodule=data, global_step=1234, callbacks=[watched, SimpleNamespace(most_rank=None)])
    name, place, count, step = caption_of(trainer, method)
    assert (name, count, step) == ("SimCLR on TinyImages", "60 samples", "step 1,234")
    assert place.startswith("...") and place.endswith("/long/photos") and len(place) == 63
    lines = lines_of(trainer, method)
    assert lines.chance == 0.25 and list(lines.alarms) == [alarm] and lines.most_rank == 7
    assert lines.nothing_learned == method.loss_of_chance(data.batch_size)
