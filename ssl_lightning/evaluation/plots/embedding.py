"""A map of the features: t-SNE, or principal components."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray
from torch import Tensor

from ...data.figure import INK, as_image, dress, save_figure
from .style import COLOURS, MARKERS, Points

MAP_SAMPLES = 1_000
NAMED = 100
"""Classes that a legend names; those of more are told in colour alone."""
APART = 20
"""Classes that colours and markers tell apart; more are numbered on the map."""
TITLE = 8
"""Font size of a map's title, with which it stands on a line."""
CELLS = 11
"""Thumbnails along each side of a map, at most."""

Features = Tensor | Points


class Drawn(NamedTuple):
    """The samples [M] of a map, by their numbers; and by title of each map its points [M, 2], a
    description of how they were computed, and the features [M, D]."""

    kept: NDArray[np.int64]
    maps: dict[str, tuple[Points, str, Tensor]]


def plot_embedding(
    features: Features | Mapping[str, Features],
    labels: Tensor | NDArray[np.int64] | None,
    path: str | Path,
    class_names: Sequence[str] | None = None,
    thumbnails: Callable[[Tensor], Sequence[Tensor]] | None = None,
) -> Drawn:
    """Draws 2-D maps of the normalised features by t-SNE, coloured by class: near means similar.

    Van der Maaten and Hinton 2008, "Visualizing Data using t-SNE"; initialized by the principal
    components, with a fixed seed, for at most 1,000 samples drawn once. Fewer than 10 samples, or
    features that are all equal or have a single dimension, are drawn by their principal components.
    Distances between far groups mean little. Rare classes are drawn on top.

    Args:
        features: [N, D], or those of the same samples by several networks, by title, which get a
            map each; a sample with a value that is not finite is left out.
        labels: [N] classes; None: the points share one colour.
        path: the PNG to write.
        class_names: name of each class, for the legend.
        thumbnails: gives pictures [C, h, w] in [0, 1] of samples by their numbers [M], of which
            some are shown in another map where those of the last features are; None: no such map.

    Returns:
        What was drawn.

    Raises:
        ValueError: no sample is finite, or the labels do not match.
    """
    named = features if isinstance(features, Mapping) else {"": features}
    each = {title: torch.as_tensor(x).detach().cpu().double().flatten(1) for title, x in named.items()}
    y = None if labels is None else torch.as_tensor(labels).detach().cpu().numpy()
    count = len(next(iter(each.values())))
    if y is not None and len(y) != count:
        raise ValueError(f"plot_embedding got {count} features and {len(y)} labels.")
    kept = np.flatnonzero(np.logical_and.reduce([x.isfinite().all(dim=1).numpy() for x in each.values()]))
    if len(kept) == 0:
        raise ValueError(f"plot_embedding got {count} features, none of them finite; has the encoder diverged?")
    kept = np.sort(np.random.default_rng(0).permutation(kept)[:MAP_SAMPLES])
    panels = len(each) + (thumbnails is not None)
    figure = Figure(figsize=(7.5, 6.5) if panels == 1 else (5 * panels, 5.6), dpi=120, layout="constrained")
    grid = figure.subplots(1, panels, squeeze=False)[0]
    drawn = Drawn(kept, {})
    for axes, (title, x) in zip(grid, each.items(), strict=False):
        points, how = _map(torch.nn.functional.normalize(x[kept], dim=1).numpy())
        drawn.maps[title] = points, how, x[kept]
        _prepare(axes, f"{title or 'Features'}: {len(kept):,} samples, {how}", points)
        if y is None:
            axes.scatter(*points.T, s=14, alpha=0.85, linewidths=0, color=COLOURS[0])
        else:
            _draw_classes(axes, points, y[kept], class_names)
    if y is not None:
        _legend(figure, grid[0], y[kept])
    if thumbnails is not None:
        _prepare(grid[-1], f"{list(each)[-1] or 'Features'}: some of the samples", points)
        _draw_thumbnails(grid[-1], points, kept, thumbnails)
    save_figure(figure, path)
    return drawn


def _prepare(axes: Axes, title: str, points: Points) -> None:
    """Empty axes that the points fill."""
    dress(axes, "")
    axes.set_title(textwrap.fill(title, 72), loc="left", fontsize=TITLE, color=INK)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.04 * np.maximum(high - low, 1e-9)
    (left, bottom), (right, top) = low - margin, high + margin
    axes.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top))
    axes.grid(False)
    axes.set_facecolor("#f6f7f9")


def _draw_classes(axes: Axes, points: Points, y: NDArray[np.int64], class_names: Sequence[str] | None) -> None:
    classes, counts = np.unique(y, return_counts=True)
    size = 16 if len(y) > 300 else 26
    for number, (label, count) in enumerate(zip(classes, counts, strict=True)):
        look = _look(number, len(classes))
        name = class_names[label] if class_names is not None and 0 <= label < len(class_names) else str(label)
        name = textwrap.shorten(name, 28, placeholder="...") if " " in name else name[:28]
        prefix = f"{number + 1} " if len(classes) > APART else ""
        members = points[y == label]
        across, up = members.T
        axes.scatter(
            across, up, label=prefix + name, s=size, alpha=0.85, linewidths=0, zorder=2 + 1 / (1 + count), **look
        )
        if prefix and len(classes) <= NAMED:
            middle = members[np.linalg.norm(members - np.median(members, axis=0), axis=1).argmin()]
            left, top = map(float, middle)
            axes.text(left, top, prefix.strip(), fontsize=7, color=INK, ha="center", va="center", zorder=4)


def _look(number: int, classes: int) -> dict[str, Any]:
    """Colour and marker of a class, different for each of 100."""
    marker = MARKERS[number // 5 % len(MARKERS)]
    if classes <= APART:
        return {"color": COLOURS[number % len(COLOURS)], "marker": marker}
    dark = number % 2
    return {"color": hsv_to_rgb((number / classes, 0.55 + 0.3 * dark, 0.9 - 0.2 * dark)), "marker": marker}


def _legend(figure: Figure, axes: Axes, y: NDArray[np.int64]) -> None:
    handles, names = axes.get_legend_handles_labels()
    if len(names) > NAMED:
        axes.set_title(f"{axes.get_title(loc='left')}, {len(names):,} classes", loc="left", fontsize=TITLE, color=INK)
        return
    few = len(names) <= APART
    size, letters = (9, 13.0) if few else (7.5, 15.5)  # letters an inch
    columns = max(1, min(len(names), int(figure.get_figwidth() * letters / (max(map(len, names)) + 6))))
    figure.legend(
        handles,
        names,
        loc="outside lower left",
        frameon=False,
        fontsize=size,
        markerscale=1.5,
        ncols=columns,
        columnspacing=1.0,
        handletextpad=0.2,
    )
    rows = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + max(0, rows - 2) * size * 1.55 / 72)


def _draw_thumbnails(
    axes: Axes, points: Points, numbers: NDArray[np.int64], thumbnails: Callable[[Tensor], Sequence[Tensor]]
) -> None:
    """One thumbnail in each cell of a grid, of the sample that is nearest to its centre."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    scaled = (points - (left, bottom)) / (right - left, top - bottom) * CELLS  # [N, 2], cells of size 1
    cells = np.clip(np.floor(scaled), 0, CELLS - 1)
    distance = np.abs(scaled - cells - 0.5).max(axis=1)
    filled = np.unique(cells, axis=0)
    inside = [np.flatnonzero((cells == cell).all(axis=1)) for cell in filled]
    chosen = [each[distance[each].argmin()] for each in inside]
    for cell, thumbnail in zip(filled, thumbnails(torch.from_numpy(numbers[chosen])), strict=True):
        image = as_image(thumbnail)
        zoom = 26 / max(image.shape[:2])  # points
        box = OffsetImage(image, zoom=zoom, cmap="gray", interpolation="nearest")
        box.image.set_clim(0, 1)
        where = (cell + 0.5) / CELLS
        axes.add_artist(AnnotationBbox(box, where, xycoords="axes fraction", frameon=False, pad=0))


def _map(x: Points) -> tuple[Points, str]:
    """Normalised features [N, D] -> points [N, 2], and a description of how they were computed."""
    from sklearn.manifold import TSNE  # imported here: it takes a second

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
    points = TSNE(perplexity=perplexity, init=1e-4 * components[:, :2], random_state=0).fit_transform(components)
    return points, f"t-SNE (cosine, perplexity {perplexity})"
