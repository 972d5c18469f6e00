"""The pictures: written whole or not at all, of the stated size, with ink in them, whatever the
numbers."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from ssl_lightning.data import figure as figures
from ssl_lightning.data import fonts
from ssl_lightning.data.figure import as_image, plot_pictures
from ssl_lightning.evaluation.closing import Closing
from ssl_lightning.evaluation.drawing import draw_map
from ssl_lightning.evaluation.label_free import nearest
from ssl_lightning.evaluation.overview import shown_samples
from ssl_lightning.evaluation.plots import closing as closing_plots
from ssl_lightning.evaluation.plots import curves, embedding
from ssl_lightning.evaluation.plots.closing import plot_closing
from ssl_lightning.evaluation.plots.curves import Lines, plot_curves
from ssl_lightning.evaluation.plots.embedding import plot_embedding
from ssl_lightning.evaluation.plots.points import write_points
from ssl_lightning.evaluation.table import ROWS
from ssl_lightning.testing import TinyImages, TinyText
from ssl_lightning.types import Alarm


def history(steps=40):
    return [
        {"step": step, "train/loss": 5 / step, "train/lr": 1e-3}
        | (
            {
                "probe/linear/top1": 0.5,
                "probe/knn/top1": 0.5,
                "probe/other/linear/top1": 0.2,
                "collapse/std": 0.8,
                "collapse/rank": 9.0,
            }
            if step % 5 == 0
            else {}
        )
        for step in range(1, steps)
    ]


def pixels(path):
    """[H, W, 3] in 0 to 1."""
    return imread(path)[..., :3]


def is_drawn(path, size):
    x = pixels(path)
    return x.shape[:2] == (size[1], size[0]) and (x != x[0, 0]).any(axis=2).mean() > 0.005


@pytest.fixture
def drawn(monkeypatch):
    """The figures behind the files, to ask what they show."""
    kept: list[Figure] = []
    save = figures.save_figure
    for module in (figures, curves, closing_plots, embedding):
        monkeypatch.setattr(module, "save_figure", lambda each, path: (kept.append(each), save(each, path))[1])
    return kept


@pytest.mark.parametrize("kind", ["loss", "probes", "collapse"])
def test_curves_are_drawn(kind, tmp_path):
    assert plot_curves(history(), tmp_path / "new" / "a.png", kind)
    assert is_drawn(tmp_path / "new" / "a.png", (960, 540))


@pytest.mark.by_default(5)
@pytest.mark.parametrize("kind", ["loss", "probes", "collapse"])
@pytest.mark.parametrize(("value", "steps"), [(0.0, 2), (1e30, 80), (math.nan, 80), (math.inf, 2)])
def test_curves_of_one_value_of_one_step_or_of_nan_are_drawn(kind, value, steps, tmp_path):
    rows = [{"step": step, **dict.fromkeys(list(history()[4])[1:], value)} for step in range(1, steps)]
    assert plot_curves(rows, tmp_path / "a.png", kind)
    assert is_drawn(tmp_path / "a.png", (960, 540))


def test_without_its_metrics_a_curve_is_not_written(tmp_path):
    rows = [{"step": 1, "train/loss": 1.0}]
    assert not plot_curves(rows, tmp_path / "probes.png", "probes")
    assert not plot_curves([], tmp_path / "loss.png", "loss")
    assert plot_curves(rows, tmp_path / "loss.png", "loss")  # no learning rate
    assert plot_curves([{"step": 1, "collapse/std": 1.0}], tmp_path / "collapse.png", "collapse")  # no rank
    assert sorted(file.name for file in tmp_path.iterdir()) == ["collapse.png", "loss.png"]
    with pytest.raises(ValueError, match="'los'; choose from loss, probes, validation, collapse, spectrum"):
        plot_curves(rows, tmp_path / "a.png", "los")


def test_scores_without_labels_have_a_panel_each_that_was_logged(tmp_path, drawn):
    rows = [{"step": step, "spectrum/rankme": 90.0 + step, "spectrum/alpha": 1.7} for step in range(1, 6)]
    assert plot_curves(rows, tmp_path / "a.png", "spectrum")
    panels = drawn[-1].axes
    assert [axes.get_ylabel() for axes in panels] == ["RankMe", "alpha-ReQ"]
    assert panels[0].lines[0].get_ydata().tolist() == [91.0, 92.0, 93.0, 94.0, 95.0]
    assert any("best near 1" in text.get_text() for text in panels[1].texts) and not panels[0].texts
    assert not plot_curves([{"step": 1, "train/loss": 1.0}], tmp_path / "b.png", "spectrum")


def test_probes_are_in_percent_with_labels_at_their_ends_that_do_not_overlap(tmp_path, drawn):
    plot_curves([*history(), {"step": 40, "probe/linear/loss": 7.0}], tmp_path / "a.png", "probes")
    (axes,) = drawn[0].axes
    assert sorted(line.get_ydata()[-1] for line in axes.lines) == [20, 50, 50]
    assert sorted(text.get_text() for text in axes.texts) == ["kNN 50.0", "linear 50.0", "other linear 20.0"]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_smoothed_loss_keeps_a_straight_line_and_steps_over_gaps():
    line = np.arange(20.0)
    assert np.allclose(curves._smooth(line, 2)[2:-2], line[2:-2])
    assert np.array_equal(curves._smooth(line, 0), line)
    gap = np.array([1.0, 1.0, np.nan, 1.0, 1.0])
    assert np.array_equal(curves._smooth(gap, 1), gap, equal_nan=True)


def test_where_a_loss_is_measured_against_a_baseline_that_is_drawn(tmp_path, drawn):
    rows = [{"step": step, "train/loss": 6.0 / step, "train/skill": 1 - 2.0 / step} for step in (1, 2, 4)]
    plot_curves([*rows, {"step": 5, "train/loss": 1.0}], tmp_path / "a.png", "loss")
    _, baseline = drawn[0].axes[0].lines
    assert np.allclose(baseline.get_ydata(), 3.0) and baseline.get_xdata().tolist() == [1, 2, 4]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["loss", "without learning"]
    plot_curves([{"step": 1, "train/loss": 0.0, "train/skill": 1.0}], tmp_path / "a.png", "loss")


def test_a_loss_that_is_not_finite_is_said_in_words(tmp_path, drawn):
    plot_curves([{"step": 1, "train/loss": 1.0}, {"step": 2, "train/loss": math.nan}], tmp_path / "a.png", "loss")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["1 values are not finite"]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_views_of_any_range_and_size_fill_their_grid(channels, tmp_path, drawn):
    views = [
        torch.randn(20, channels, 8, 8) * 50,
        torch.full((20, channels, 5, 5), 0.3),
        torch.full((20, channels, 8, 8), -2.0),
    ]
    plot_pictures(dict(zip(("view 1", "view 2", "clean"), views, strict=True)), tmp_path / "a.png")
    assert is_drawn(tmp_path / "a.png", (1212, 453))
    assert [axes.get_ylabel() for axes in drawn[0].axes[::8]] == ["view 1", "view 2", "clean"]
    images = [axes.images[0].get_array() for axes in drawn[0].axes]
    assert len(images) == 8 * 3
    assert images[0].shape == ((8, 8, 3) if channels == 3 else (8, 8))
    assert images[0].min() == 0 and images[0].max() == 1 and (images[16] == 0.5).all()
    assert np.allclose(images[8], 0.3), "what lies in [0, 1] is shown as it is"


def test_what_is_hidden_has_a_colour_of_its_own_and_does_not_change_the_rest(tmp_path, drawn):
    for channels in (1, 3):
        for x in (torch.rand(1, channels, 4, 4), 9 * torch.randn(1, channels, 4, 4), 5 + torch.rand(1, channels, 4, 4)):
            hidden = x.clone()
            hidden[..., :2, :] = math.nan
            shown, whole = figures.as_image(hidden[0]), figures.as_image(torch.cat([x[0, :, 2:]] * 2, dim=1))
            assert np.allclose(shown[:2], figures.HIDDEN)
            assert np.allclose(shown[2:], whole[2:] if channels == 3 else whole[2:, :, None])
    assert np.allclose(figures.as_image(torch.full((1, 2, 2), math.nan)), figures.HIDDEN)


def test_a_column_shows_the_views_of_one_sample_and_pixels_stay_square(tmp_path, drawn):
    first = torch.zeros(2, 1, 2, 2)
    first[0, 0, 0, 1] = first[1, 0, 1, 0] = 1
    plot_pictures({"view 1": first, "view 2": first.flip(3)}, tmp_path / "a.png")
    shown = [axes.images[0].get_array().tolist() for axes in drawn[0].axes]
    assert shown == [[[0, 1], [0, 0]], [[0, 0], [1, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]]
    assert {axes.images[0].get_interpolation() for axes in drawn[0].axes} == {"nearest"}


@pytest.mark.parametrize("views", [[], [torch.zeros(2, 100)], [torch.zeros(0, 1, 4, 4)]])
def test_views_that_are_no_images_are_refused(views, tmp_path):
    with pytest.raises(ValueError, match="batches of images"):
        plot_pictures(dict(enumerate(views)), tmp_path / "a.png")


def test_the_map_keeps_groups_together_the_same_way_each_time(tmp_path, drawn):
    x = torch.randn(90, 8, generator=torch.Generator().manual_seed(0)) + 8 * torch.eye(3, 8).repeat_interleave(30, 0)
    y = torch.arange(3).repeat_interleave(30)
    plot_embedding(x, y, tmp_path / "a.png", ["shirt", "coat", "bag"])
    plot_embedding(x.numpy(), y.numpy(), tmp_path / "b.png", ["shirt", "coat", "bag"])
    assert is_drawn(tmp_path / "a.png", (900, 780))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    (axes,) = drawn[0].axes
    assert "90 samples" in axes.get_title(loc="left") and "t-SNE" in axes.get_title(loc="left")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["shirt", "coat", "bag"]
    place = [np.asarray(group.get_offsets()) for group in axes.collections]
    spread = max(group.std(axis=0).max() for group in place)
    assert min(np.linalg.norm(place[i].mean(0) - place[i - 1].mean(0)) for i in range(3)) > 3 * spread


def test_rare_classes_are_drawn_on_top_the_field_is_filled_and_maps_stand_beside_each_other(tmp_path, drawn):
    x, y = torch.randn(60, 5), (torch.arange(60) % 10 == 0).long()  # 6 of class 1
    plot_embedding(
        {"untrained encoder": x, "pretrained encoder": 2 * x[:, :3]},
        y,
        tmp_path / "a.png",
        thumbnails=lambda numbers: [torch.rand(1, 8, 6) for _ in numbers],
    )
    before, after, pictures = drawn[0].axes
    assert before.get_title(loc="left").startswith("untrained encoder: 60 samples")
    for axes in (before, after):
        common, rare = axes.collections
        assert rare.get_zorder() > common.get_zorder() and len(rare.get_offsets()) == 6
        points = np.concatenate([common.get_offsets(), rare.get_offsets()])
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert np.all(np.ptp(points, axis=0) > 0.9 * np.array([right - left, top - bottom]))
    assert 10 < len(pictures.artists) <= 60


def test_the_map_of_a_labelled_set_has_untrained_beside_pretrained_and_pictures_where_there_are_any(tmp_path, drawn):
    labels, x = torch.arange(40) % 2, torch.randn(40, 4)
    maps = {"pretrained": x, "untrained": x[:, :2]}
    for data, panels in ((TinyImages(samples=60), 3), (TinyText(samples=60), 2)):
        source, index = data.split("test"), torch.arange(40) + 5
        fetched, fetch = [], source.fetch
        source.fetch = lambda numbers, fetch=fetch, fetched=fetched: fetched.extend(numbers.tolist()) or fetch(numbers)
        draw_map(Closing({}, "test", x, labels, maps=maps, samples=(source, index)), data, tmp_path / "a.png")
        titles = [axes.get_title(loc="left") for axes in drawn[-1].axes]
        assert len(titles) == panels and titles[0].startswith("untrained") and titles[1].startswith("pretrained")
        assert set(fetched) <= set(index.tolist()) and len(fetched) <= 81
        kept = json.loads((tmp_path / "a.json").read_text())
        assert kept["names"] == [source.name(int(each)) for each in index] and kept["labels"] == labels.tolist()
        assert [each["title"] for each in kept["maps"]] == ["untrained encoder", "pretrained encoder"]
        for each, features in zip(kept["maps"], (x[:, :2], x), strict=True):
            assert np.shape(each["points"]) == (40, 2) and (np.min(each["points"]), np.max(each["points"])) == (0, 1)
            assert each["neighbours"] == nearest(features.double(), torch.arange(40))[0].tolist()
        if panels == 3:
            sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(kept["tiles"]["jpeg"]))).convert("RGB"))
            height, width = kept["tiles"]["height"], kept["tiles"]["width"]
            last = sheet[height : 2 * height, 7 * width : 8 * width] / 255  # the 40th, in the second row of 32
            (tile,) = shown_samples(data, source, index[-1:])
            wanted = as_image(tile).reshape(*tile.shape[1:], -1)
            assert np.abs(last - wanted).mean() < 0.05
        else:
            assert kept["lines"] == shown_samples(data, source, index)
    draw_map(Closing({}, "test", x, labels), data, tmp_path / "a.png")
    assert [axes.get_title(loc="left").partition(":")[0] for axes in drawn[-1].axes] == ["Features"]
    kept = json.loads((tmp_path / "a.json").read_text())
    assert len(kept["maps"][0]["points"]) == 40 and not kept["names"] and not kept["lines"] and "tiles" not in kept


def test_names_that_are_not_text_are_kept(tmp_path, drawn):
    """Those of files on Linux, whose bytes need not be UTF-8."""
    names = [os.fsdecode(b"caf\xe9.png"), "日本.png"]
    drawn_map = plot_embedding(torch.randn(2, 3), None, tmp_path / "a.png")
    write_points(tmp_path / "a.json", drawn_map, names, ["a", "b"])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["names"] == names


@pytest.mark.slow
def test_the_largest_number_of_classes_with_long_names_fits_its_picture(tmp_path, drawn):
    names = [f"class {number} of the longest names there are" for number in range(100)]
    plot_embedding(torch.randn(300, 3), torch.arange(300) % 100, tmp_path / "a.png", names)
    box, (width, height) = drawn[0].legends[0].get_window_extent(), drawn[0].canvas.get_width_height()
    assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
    looks = {tuple(group.get_facecolor()[0]) for group in drawn[0].axes[0].collections}
    assert len(looks) == 100


def test_twenty_classes_without_numbers_look_different_each(tmp_path, drawn):
    plot_embedding(torch.randn(60, 3), torch.arange(60) % 20, tmp_path / "a.png")
    groups = drawn[0].axes[0].collections
    assert len({(tuple(group.get_facecolor()[0]), group.get_paths()[0].vertices.tobytes()) for group in groups}) == 20
    assert not drawn[0].axes[0].texts


def test_a_large_map_is_of_a_fixed_subsample(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(embedding, "MAP_SAMPLES", 40)
    plot_embedding(torch.randn(100, 3), torch.arange(100) % 50, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert sum(len(group.get_offsets()) for group in axes.collections) == 40
    looks = {(tuple(group.get_facecolor()[0]), group.get_paths()[0].vertices.tobytes()) for group in axes.collections}
    assert len(looks) == len(axes.collections)  # no two classes look the same
    assert len(drawn[0].legends[0].get_texts()) == len(axes.collections) == len(axes.texts)  # numbered on the map


@pytest.mark.parametrize(
    "x", [torch.ones(20, 4), torch.zeros(20, 4), torch.randn(3, 4), torch.randn(1, 4), torch.randn(20, 1)]
)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_map_of_collapsed_few_or_flat_features_is_drawn(x, labelled, tmp_path):
    plot_embedding(x, torch.arange(len(x)) % 3 if labelled else None, tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").shape == (780, 900, 3)


def test_a_map_leaves_out_what_is_not_finite_and_refuses_where_nothing_is(tmp_path, drawn):
    x = torch.randn(20, 4)
    x[3, 1] = math.nan
    plot_embedding(x, None, tmp_path / "a.png")
    assert "19 samples" in drawn[0].axes[0].get_title(loc="left")
    with pytest.raises(ValueError, match="none of them finite"):
        plot_embedding(x * math.nan, None, tmp_path / "b.png")
    with pytest.raises(ValueError, match="20 features and 3 labels"):
        plot_embedding(x, torch.arange(3), tmp_path / "b.png")


def closing(*rows):
    all_labels, few = {"mean": 0.97, "std": 0.0, "n": 1}, {"mean": 0.9, "std": 0.02, "n": 5}
    return {row: {"knn": all_labels, "knn_10": few, "linear": all_labels, "linear_10": few} for row in rows}


@pytest.mark.parametrize("rows", [("raw", "untrained", "pretrained"), ("untrained", "pretrained")])
def test_the_closing_bars_carry_their_values_and_deviations(rows, tmp_path, drawn):
    plot_closing(closing(*rows), tmp_path / "a.png")
    assert is_drawn(tmp_path / "a.png", (960, 540))
    (axes,) = drawn[0].axes
    assert [bar.get_height() for bar in axes.patches] == [97, 90] * 2 * len(rows)
    assert [text.get_text() for text in axes.texts] == ["97.0", "90.0"] * 2 * len(rows)
    errors = [np.ptp(segment[:, 1]) for lines in axes.collections for segment in lines.get_segments()]
    assert errors == pytest.approx([4, 4] * len(rows))  # twice the deviation, with few labels only
    above = [bar.get_height() + 2 * (number % 2) for number, bar in enumerate(axes.patches)]
    bottoms = [axes.transData.inverted().transform(text.get_window_extent().min)[1] for text in axes.texts]
    assert all(bottom > top for bottom, top in zip(bottoms, above, strict=True)), "numbers stand clear of error bars"


def test_a_cell_that_was_not_made_leaves_its_place_free(tmp_path, drawn):
    rows = closing("raw", "untrained", "labels_only", "pretrained")
    for column in ("knn", "knn_10", "linear"):
        del rows["labels_only"][column]
    plot_closing(rows, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [ROWS[row] for row in rows]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    raw, untrained, (labels_only,), pretrained = centres[:4], centres[4:8], centres[8:9], centres[9:]
    assert raw[3] < untrained[3] < labels_only < pretrained[3]
    assert pretrained[0] - untrained[0] == pytest.approx(2 * (untrained[0] - raw[0]))
    assert len({bar.get_facecolor() for bar in axes.patches}) == 4


def test_pictures_stand_in_rows_under_their_captions(tmp_path, drawn):
    x = torch.rand(9, 3, 6, 6)
    plot_pictures({"original": x, "reconstructed from a quarter": x[:5] / 2}, tmp_path / "a.png")
    grid = drawn[0].axes
    assert [axes.get_ylabel() for axes in grid[::5]] == ["original", "reconstructed\nfrom a quarter"]
    assert len(grid) == 10 and np.allclose(grid[5].images[0].get_array(), grid[0].images[0].get_array() / 2)
    with pytest.raises(ValueError, match="batches of images"):
        plot_pictures({"wave": torch.rand(2, 100)}, tmp_path / "a.png")


def test_an_interrupted_picture_leaves_the_old_one_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    plot_closing(closing("raw"), path)
    before = path.read_bytes()

    def half(canvas, file):
        (file if hasattr(file, "write") else path.open("wb")).write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FigureCanvasAgg, "print_png", half)
        plot_closing(closing("raw", "pretrained"), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]

    def full_disk(self, data):
        with open(self, "wb") as file:
            file.write(data[:100])
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(type(path), "write_bytes", full_disk)
        plot_closing(closing("raw", "pretrained"), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_picture_reads_it_to_its_end(tmp_path):
    path = tmp_path / "a.png"
    plot_closing(closing("raw"), path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        plot_closing(closing("raw", "pretrained"), path)
        assert reader.read() == before != path.read_bytes()


@pytest.mark.slow
def test_drawing_leaves_pyplot_alone(tmp_path):
    draw = f"plot_curves([{{'step': 1, 'train/loss': 1.0}}], {str(tmp_path / 'a.png')!r}, 'loss')"
    program = (
        f"import sys; from ssl_lightning.evaluation.plots.curves import plot_curves; {draw};"
        " sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("rows", [1, 6])
def test_chance_is_a_line_the_axis_fits_what_is_drawn_and_nothing_overlaps(rows, tmp_path, drawn):
    with figures.captioned("a method on data", "", "step 1,000"):
        plot_closing(
            closing(*[row for row in ROWS if row != "majority"][:rows]),
            tmp_path / "a.png",
            labels=torch.arange(100) % 4,
        )
    (axes,) = drawn[0].axes
    assert [line.get_ydata()[0] for line in axes.lines if line.get_label().startswith("chance")] == [25]
    assert "100 samples of 4 classes" in axes.get_title(loc="left")
    assert drawn[0].get_suptitle() == "a method on data \N{MIDDLE DOT} step 1,000"
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    legend = drawn[0].legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= drawn[0].canvas.get_width_height()[0]


def test_low_bars_fill_the_axis_and_high_ones_say_where_it_begins(tmp_path, drawn):
    plot_closing({"raw": {"knn": {"mean": 0.06, "std": 0.0, "n": 1}}}, tmp_path / "a.png")
    plot_closing(closing("raw", "pretrained"), tmp_path / "b.png")
    (low,), (high,) = (figure.axes for figure in drawn)
    assert low.get_ylim()[0] == 0 and 6 < low.get_ylim()[1] < 8
    assert high.get_ylim()[0] == 80 and high.get_ylabel().endswith("from 80")


def test_curves_stand_beside_what_nothing_learned_gives_and_end_with_the_run(tmp_path, drawn):
    lines = Lines(0.25, 5.5, [Alarm("rank", "", "", 2.5, None, "collapse")], 63)
    for kind in ("loss", "probes", "collapse"):
        plot_curves(history(), tmp_path / f"{kind}.png", kind, lines)
    (loss, _), (probes,), (std, rank) = (figure.axes for figure in drawn)
    assert 5.5 in [line.get_ydata()[0] for line in loss.lines]
    assert 25 in [line.get_ydata()[0] for line in probes.lines]
    assert {2.5, 63} <= {line.get_ydata()[0] for line in rank.lines} and rank.get_ylim()[1] > 63
    assert all(axes.get_xlim()[1] == pytest.approx(39, abs=1) for axes in (loss, probes, std, rank))


def test_the_curve_of_a_validation_stands_above_chance_and_its_legend_beside_it(tmp_path, drawn):
    rows = [{"step": step, "val/top1": 0.9, "val/balanced": 0.3} for step in (1000, 2000)]
    assert plot_curves(rows, tmp_path / "a.png", "validation", Lines(0.25))
    (axes,) = drawn[0].axes
    assert [line.get_ydata()[0] for line in axes.lines] == [90, 30, 25] and axes.get_xlim()[1] < 2100
    assert not drawn[0].legends[0].get_window_extent().overlaps(axes.get_window_extent())


def test_captions_break_between_their_parts(tmp_path, drawn):
    with figures.captioned(
        "a method of many words", "a place of three words, " * 4, "", "60,000 samples", "step 1,000"
    ):
        plot_curves(history(), tmp_path / "a.png", "loss")
    lines = drawn[0].get_suptitle().split("\n")
    assert lines[-1] in ("step 1,000", "60,000 samples \N{MIDDLE DOT} step 1,000")
    assert "\N{NO-BREAK SPACE}" not in drawn[0].get_suptitle()


def test_a_single_look_at_the_probes_is_drawn_as_bars(tmp_path, drawn):
    plot_curves([row for row in history() if row["step"] in (4, 5)], tmp_path / "a.png", "probes", Lines(0.25))
    (axes,) = drawn[0].axes
    assert sorted(bar.get_width() for bar in axes.patches) == [20, 50, 50] and "step 5" in axes.get_title(loc="left")


@pytest.mark.slow
def test_letters_that_no_font_has_are_written_as_their_code_and_not_as_boxes(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(
        fonts.fontManager, "ttflist", [font for font in fonts.fontManager.ttflist if font.name == fonts.SANS]
    )
    fonts.fallbacks.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_embedding(torch.randn(30, 3), torch.arange(30) % 2, tmp_path / "a.png", ["\u6b63\u5e38", "Gr\xf6\xdfe"])
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [r"\u6b63\u5e38", "Gr\xf6\xdfe"]
    assert "no installed font" in drawn[0].get_suptitle()
    fonts.fallbacks.cache_clear()
