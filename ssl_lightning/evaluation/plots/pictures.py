"""Sheets of images: views, and what a method makes of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from .style import INK, save_figure


def plot_views(views: Sequence[Tensor], path: str | Path, clean: bool = False) -> None:
    """A grid of what the method sees: one column a sample (the first 8), one row a view.

    Args:
        views: images [S, C, H, W], one tensor a view; the sizes may differ. An image beyond [0, 1]
            is stretched to its own range.
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
        pictures: by caption, images [S, C, H, W]; the sizes may differ. An image beyond [0, 1] is
            stretched to its own range.
        path: the PNG to write.

    Raises:
        ValueError: there is nothing to draw, or something is no batch of images.
    """
    shapes = [tuple(images.shape) for images in pictures.values()]
    if not shapes or any(len(shape) != 4 or shape[0] == 0 for shape in shapes):
        raise ValueError(f"Pictures are batches of images [S, C, H, W], got shapes {shapes}.")
    samples = min(8, *(shape[0] for shape in shapes))
    heights = [
        min(1.2, max(0.4, 1.2 * shape[2] / shape[3])) + 0.06 for shape in shapes
    ]  # inches; a spectrogram is wider than high
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


def _image(image: Tensor) -> NDArray[np.float32]:
    """[C, H, W] of any range -> [H, W, 3], or [H, W] where C is not 3, in 0 to 1; only what goes
    beyond that is stretched."""
    x = image.detach().float().cpu()
    x = x if len(x) == 3 else x.mean(dim=0, keepdim=True)
    x = x.nan_to_num()
    low, high = x.min(), x.max()
    if low < 0 or high > 1:
        x = (x - low) / (high - low) if high > low else torch.full_like(x, 0.5)
    return x.permute(1, 2, 0).squeeze(2).numpy()
