"""The pictures of a run folder, and its sounds. Each file is written whole or not at all; nothing touches pyplot."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from .data.files.atomic import _swap_in
from .evaluate import ROWS, Cell, column_titles

Curves = Literal["loss", "probes", "collapse"]
Row = Mapping[str, Any]
Points = NDArray[np.float64]

# Ten colours that stay apart for colour-blind readers and in grey (Petroff 2021, arXiv 2107.02270).
COLOURS = ("#3f90da", "#e76300", "#832db6", "#ffa90e", "#717581", "#bd1f01", "#92dadd", "#a96b59", "#b9ac70", "#94a4a2")
MARKERS = "os^Dv"
ROW_COLOURS = {
    "raw": "#b4b9c1",
    "untrained": "#ffa90e",
    "untrained_layers": "#ffd28a",
    "labels_only": "#832db6",
    "pretrained": "#3f90da",
    "pretrained_layers": "#1b4f86",
}
INK, FAINT = "#333842", "#dfe2e7"
MAP_SAMPLES = 2_000


def plot_curves(rows: Sequence[Row], path: str | Path, kind: Curves) -> bool:
    """The course of a run over its steps.

    Args:
        rows: metrics by name, with `step`; a row need not hold every metric. `collapse/std` in units of 1 / sqrt(d).
        path: the PNG to write.
        kind: `loss` (`train/loss`, `train/lr`), `probes` (every `probe/...` accuracy) or `collapse` (`collapse/std`, `collapse/rank`).

    Returns:
        Whether the rows hold any such metric; if not, nothing is written.

    Raises:
        ValueError: the kind is unknown.
    """
    kinds = {"loss": (_draw_loss, "train/loss"), "probes": (_draw_probes, "probe/"), "collapse": (_draw_collapse, "collapse/")}
    if kind not in kinds:
        raise ValueError(f"plot_curves knows no kind {kind!r}; choose from {', '.join(kinds)}.")
    draw, prefix = kinds[kind]
    if not any(name.startswith(prefix) for row in rows for name in row):
        return False
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    draw(figure, rows)
    save_figure(figure, path)
    return True


def plot_views(views: Sequence[Tensor], path: str | Path, clean: bool = False) -> None:
    """A grid of what the method sees: one column a sample (the first 8), one row a view.

    Args:
        views: images [S, C, H, W], one tensor a view; the sizes may differ. An image beyond [0, 1] is stretched to its own range.
        path: the PNG to write.
        clean: whether the last view is made by the test transform (`ViewSpec.clean`).

    Raises:
        ValueError: there is no view, or one is no batch of images.
    """
    captions = [f"view {number}" for number in range(1, len(views) + 1 - clean)] + ["clean"] * clean
    plot_pictures(dict(zip(captions, views, strict=True)), path)


def plot_pictures(pictures: Mapping[str, Tensor], path: str | Path) -> None:
    """A grid of images: one column a sample (the first 8), one row a caption.

    Args:
        pictures: by caption, images [S, C, H, W]; the sizes may differ. An image beyond [0, 1] is stretched to its own range.
        path: the PNG to write.

    Raises:
        ValueError: there is nothing to draw, or something is no batch of images.
    """
    shapes = [tuple(images.shape) for images in pictures.values()]
    if not shapes or any(len(shape) != 4 or shape[0] == 0 for shape in shapes):
        raise ValueError(f"Pictures are batches of images [S, C, H, W], got shapes {shapes}.")
    samples = min(8, *(shape[0] for shape in shapes))
    heights = [min(1.2, max(0.4, 1.2 * shape[2] / shape[3])) + 0.06 for shape in shapes]  # inches; a spectrogram is wider than high
    figure = Figure(
        figsize=(1.2 * samples + 0.5, sum(heights)),
        dpi=120,
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0),
    )
    grid = figure.subplots(len(shapes), samples, squeeze=False, height_ratios=heights)
    for row, (caption, images) in enumerate(pictures.items()):
        for column in range(samples):
            grid[row, column].imshow(_image(images[column]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            grid[row, column].set(xticks=[], yticks=[])
            grid[row, column].spines[:].set_visible(False)
        grid[row, 0].set_ylabel(textwrap.fill(caption, 15), fontsize=10, color=INK)
    save_figure(figure, path)


def plot_embedding(
    features: Tensor | Points, labels: Tensor | NDArray[np.int64] | None, path: str | Path, class_names: Sequence[str] | None = None
) -> None:
    """A 2-D map in which near means similar, coloured by class: t-SNE of the normalised features.

    Van der Maaten and Hinton 2008, "Visualizing Data using t-SNE"; started from the principal components, always the same
    way, for at most 2,000 samples drawn once. Fewer than 10 samples, or features that are all equal or of length
    1, are drawn by their principal components. Distances between far groups mean little.

    Args:
        features: [N, D]; a sample with a value that is not finite is left out.
        labels: [N] classes, or None.
        path: the PNG to write.
        class_names: name of each class, for the legend.

    Raises:
        ValueError: no sample is finite, or the labels do not match.
    """
    x = torch.as_tensor(features).detach().cpu().double().flatten(1)
    y = None if labels is None else torch.as_tensor(labels).detach().cpu().numpy()
    if y is not None and len(y) != len(x):
        raise ValueError(f"plot_embedding got {len(x)} features and {len(y)} labels.")
    kept = np.flatnonzero(x.isfinite().all(dim=1).numpy())
    if len(kept) == 0:
        raise ValueError(f"plot_embedding got {len(x)} features, none of them finite; has the encoder diverged?")
    kept = np.sort(np.random.default_rng(0).permutation(kept)[:MAP_SAMPLES])
    place, how = _map(torch.nn.functional.normalize(x[kept], dim=1).numpy())
    figure = Figure(figsize=(7.5, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    dress(axes, f"{len(kept):,} features on a plane: {how}")
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axes.grid(False)
    style: dict[str, Any] = {"s": 14, "alpha": 0.85, "linewidths": 0}
    if y is None:
        axes.scatter(*place.T, color=COLOURS[0], **style)
    else:
        classes = np.unique(y[kept])
        for number, label in enumerate(classes):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // 5 % len(MARKERS)]  # like colours get unlike marks
            name = class_names[label] if class_names is not None and 0 <= label < len(class_names) else str(label)
            axes.scatter(*place[y[kept] == label].T, color=colour, marker=marker, label=name, **style)
        if len(classes) <= len(COLOURS) * 3:
            columns = 1 + (len(classes) - 1) // 15
            axes.legend(
                title="class", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9, markerscale=1.8, ncols=columns
            )
    save_figure(figure, path)


def plot_closing(final: dict[str, dict[str, Cell]], path: str | Path, split: str = "test") -> None:
    """The closing table as bars, with the deviation over the draws of labels.

    Args:
        final: rows of `closing_row` under the keys of `ROWS`; a row or a cell may be missing.
        path: the PNG to write.
        split: that they were judged on.
    """
    columns = column_titles(final)
    rows = [row for row in ROWS if row in final]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    dress(axes, f"What the features are worth: accuracy on the {split} split", y="accuracy (%)")
    width = 0.84 / len(rows)
    for number, row in enumerate(rows):
        cells = {group: final[row][column] for group, column in enumerate(columns) if column in final[row]}
        place = np.array(list(cells)) + (number - (len(rows) - 1) / 2) * width
        height = 100 * np.array([cell["mean"] for cell in cells.values()])
        spread = 100 * np.array([cell["std"] for cell in cells.values()])
        axes.bar(place, height, 0.92 * width, color=ROW_COLOURS[row], label=ROWS[row])
        drawn = spread > 0
        axes.errorbar(place[drawn], height[drawn], spread[drawn], fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        for left, value, above in zip(place, height, spread, strict=True):
            point = (left, value + above)
            axes.annotate(
                f"{value:.1f}",
                point,
                (0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8.5 if len(rows) < 4 else 7.5,
                color=INK,
            )
    axes.set_xticks(range(len(columns)), [title.replace(" all", " all labels").replace(" ", "\n", 1) for title in columns.values()])
    axes.grid(False, axis="x")
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.28), ncols=len(rows), frameon=False, fontsize=9.5)
    save_figure(figure, path)


def _draw_loss(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    dress(axes, "Training loss", "step", "loss")
    steps, loss = series(rows, "train/loss")
    reach = len(loss) // 30
    if reach:
        axes.plot(steps, loss, color=COLOURS[0], alpha=0.3, linewidth=1)
    label = f"loss, mean of {2 * reach + 1} points" if reach else "loss"
    lines = axes.plot(steps, _smooth(loss, reach), color=COLOURS[0], linewidth=2, label=label)
    broken = int((~np.isfinite(loss)).sum())
    if broken:
        axes.text(0.5, 0.95, f"{broken} values are not finite", transform=axes.transAxes, ha="center", va="top", color=COLOURS[5])
    steps, rate = series(rows, "train/lr")
    if np.isfinite(rate).any():
        other = axes.twinx()
        lines += other.plot(steps, rate, color=COLOURS[4], linewidth=1.2, linestyle=(0, (4, 2)), label="learning rate")
        dress(other, "", y="learning rate")
        other.grid(False)
        other.set_ylim(bottom=0)
    axes.legend(handles=lines, loc="upper right", frameon=False, fontsize=9)


def _draw_probes(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    dress(axes, "Probes of the frozen features during the run", "step", "accuracy (%)")
    ends: list[tuple[float, float, str, str]] = []
    names = {name for row in rows for name in row if name.startswith("probe/") and name.rpartition("/")[2].startswith("top")}
    for number, name in enumerate(sorted(names)):
        steps, accuracy = series(rows, name)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(steps, 100 * accuracy, color=colour, linewidth=2, marker="o", markersize=3.5)
        finite = np.flatnonzero(np.isfinite(accuracy))
        if len(finite):
            *kind, metric = name.split("/")[1:]
            title = " ".join("kNN" if part == "knn" else part for part in kind) + ("" if metric == "top1" else f" {metric}")
            last = finite[-1]
            ends.append((100 * accuracy[last], steps[last], f"{title} {100 * accuracy[last]:.1f}", colour))
    low, high = axes.get_ylim()
    gap, floor = 0.055 * (high - low), -math.inf
    for value, step, text, colour in sorted(ends):
        floor = max(value, floor + gap)  # labels never lie on each other
        point = (step, floor)
        axes.annotate(text, point, (7, 0), textcoords="offset points", va="center", color=colour, fontsize=9.5, annotation_clip=False)


def _draw_collapse(figure: Figure, rows: Sequence[Row]) -> None:
    std, rank = figure.subplots(2, 1, sharex=True)
    dress(std, "Are the embeddings collapsing?", "", "deviation · √d")
    dress(rank, "", "step", "effective rank")
    for axes, name, colour in ((std, "collapse/std", COLOURS[0]), (rank, "collapse/rank", COLOURS[1])):
        axes.plot(*series(rows, name), color=colour, linewidth=2)
    for value, text, colour in ((1.0, "spread evenly over the sphere", COLOURS[4]), (0.0, "collapsed to one point", COLOURS[5])):
        std.axhline(value, color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        std.annotate(
            text,
            (1, value),
            (-4, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=colour,
        )
    std.set_ylim(-0.08, max(1.25, std.get_ylim()[1]))
    rank.set_ylim(bottom=0)


def series(rows: Sequence[Row], name: str) -> tuple[Points, Points]:
    """Steps [n] and values [n] of one metric, NaN kept: a gap in the line."""
    pairs = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return steps, np.where(np.isfinite(values), values, np.nan)


def _smooth(values: Points, reach: int) -> Points:
    """Mean over each value and its `reach` neighbours on either side, of those that are finite; a gap stays a gap."""
    finite, window = np.isfinite(values), np.ones(2 * reach + 1)
    total = np.convolve(np.where(finite, values, 0.0), window, "full")[reach : reach + len(values)]
    count = np.convolve(finite, window, "full")[reach : reach + len(values)]
    return np.where(finite, total / np.maximum(count, 1), np.nan)


def _image(image: Tensor) -> NDArray[np.float32]:
    """[C, H, W] of any range -> [H, W, 3], or [H, W] where C is not 3, in 0 to 1; only what goes beyond that is stretched."""
    x = image.detach().float().cpu()
    x = x if len(x) == 3 else x.mean(dim=0, keepdim=True)
    x = x.nan_to_num()
    low, high = x.min(), x.max()
    if low < 0 or high > 1:
        x = (x - low) / (high - low) if high > low else torch.full_like(x, 0.5)
    return x.permute(1, 2, 0).squeeze(2).numpy()


def _map(x: Points) -> tuple[Points, str]:
    """Normalised features [N, D] -> places [N, 2], and how they were found."""
    from sklearn.manifold import TSNE  # here: it takes a second to import

    centred = x - x.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:50]  # [<= 50, D]
    components = centred @ axes.T  # [N, <= 50]
    equal = np.abs(centred).max() < 1e-6
    if equal or len(x) < 10 or components.shape[1] < 2:
        flat = np.zeros((len(x), 2))
        flat[:, : components.shape[1]] = components[:, :2]
        return flat, "all are equal (collapsed)" if equal else "principal components"
    components /= components[:, 0].std()
    perplexity = min(30, (len(x) - 1) // 3)
    place = TSNE(perplexity=perplexity, init=1e-4 * components[:, :2], random_state=0).fit_transform(components)
    return place, f"t-SNE (cosine, perplexity {perplexity})"


def dress(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=10)
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=0)
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Draws into memory, then swaps the file in: a reader sees the old picture or the new one."""
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    _swap_in(Path(path), picture.getvalue())


def save_sounds(sounds: Mapping[str, Tensor], rate: int, folder: str | Path) -> None:
    """One WAV file for each caption, `<caption>.wav`: its samples one after the other, half a second apart, each as loud under all
    captions.

    Args:
        sounds: by caption, waves [S, T] of the same samples.
        rate: of the waves, in Hz.
        folder: to write to.
    """
    import soundfile

    waves = torch.stack([wave.detach().float().cpu().nan_to_num() for wave in sounds.values()])  # [captions, S, T]
    waves = torch.nn.functional.pad(0.9 * waves / waves.abs().amax(dim=(0, 2), keepdim=True).clamp(min=1e-5), (0, rate // 2))
    for caption, wave in zip(sounds, waves, strict=True):
        file = io.BytesIO()
        soundfile.write(file, wave.flatten().numpy(), rate, format="WAV")
        _swap_in(Path(folder) / f"{caption}.wav", file.getvalue())
