"""Figures in the project's style, and sheets of images, which datamodules and reports draw."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..types import View
from .files.atomic import write_bytes
from .fonts import drawable, use_fonts

INK, QUIET, FAINT = "#333842", "#717581", "#dfe2e7"
HIDDEN = (0.72, 0.80, 0.93)
"""The colour of what a method hides, which no grey picture has."""


def dress(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Gives axes their title, labels and the project's style."""
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=10)
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=0)
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


CAPTION: ContextVar[str] = ContextVar("CAPTION", default="")
"""The line above each picture that is drawn now."""
JOINED = "\N{NO-BREAK SPACE}"
"""Between words of a caption that stay on one line."""
NO_FONT = "codes: letters that no installed font draws (fonts-noto-cjk has Chinese, Japanese, Korean)"


@contextmanager
def captioned(*parts: str) -> Iterator[None]:
    """Pictures drawn within say what they are of: these parts, such as method, data and step, on a
    small line at their top."""
    token = CAPTION.set(" \N{MIDDLE DOT} ".join(part.replace(" ", JOINED) for part in parts if part))
    try:
        yield
    finally:
        CAPTION.reset(token)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Draws into memory, then swaps the file in: a reader sees the old picture or the new one. The
    caption of `captioned` stands on top; a letter that no font has is written as its code."""
    escaped = use_fonts(figure)
    if line := drawable(" \N{MIDDLE DOT} ".join(filter(None, (CAPTION.get(), NO_FONT * escaped)))):
        room = max(20, int(figure.get_figwidth() * 17))  # letters that fit
        lines = [each.replace(JOINED, " ") for each in textwrap.wrap(line, room)[:3]]
        title = figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=QUIET)
        if figure.get_layout_engine() is None:
            title.set_y(0.995)
        else:  # which makes room for it
            figure.set_figheight(figure.get_figheight() + 0.17 * len(lines))
        use_fonts(figure)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_bytes(path, picture.getvalue())


def plot_views(captions: Mapping[str, View], path: Path, as_pictures: Callable[[Tensor], Tensor]) -> dict[str, Path]:
    """Draws those views that are images, [S, C, H, W], if there are any.

    Args:
        captions: views by caption.
        path: the PNG to write.
        as_pictures: turns images into those to look at, in [0, 1].

    Returns:
        The picture's path by its name without the suffix; empty if nothing was drawn.
    """
    pictures = {caption: as_pictures(view.x.float()) for caption, view in captions.items() if view.x.ndim == 4}
    if not pictures:
        return {}
    plot_pictures(pictures, path)
    return {path.stem: path}


def plot_pictures(pictures: Mapping[str, Tensor], path: str | Path) -> None:
    """Draws a grid of images: one column per sample (the first 8), one row per caption.

    Args:
        pictures: by caption, images [S, C, H, W]; the sizes may differ. An image that exceeds
            [0, 1] is rescaled from its own range.
        path: the PNG to write.

    Raises:
        ValueError: there is nothing to draw, or a value is not a batch of images.
    """
    shapes = [tuple(images.shape) for images in pictures.values()]
    if not shapes or any(len(shape) != 4 or shape[0] == 0 for shape in shapes):
        raise ValueError(f"The pictures have shapes {shapes}; give batches of images, [S, C, H, W].")
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
            grid[row, column].imshow(as_image(images[column]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            grid[row, column].set(xticks=[], yticks=[])
            grid[row, column].spines[:].set_visible(False)
        label = textwrap.fill(caption, 15)
        grid[row, 0].set_ylabel(label, fontsize=10, color=INK, rotation=0, ha="right", va="center")
    save_figure(figure, path)


def plot_waves(waves: Mapping[str, Tensor], spectrograms: Mapping[str, Tensor], rate: int, path: str | Path) -> None:
    """Draws a grid of sounds: one column per sample (the first 4), for each caption the wave over
    its spectrogram.

    Args:
        waves: by caption, waves [S, T].
        spectrograms: by caption, [S, 1, M, F] in [0, 1], low bands at the bottom.
        rate: of the waves, in Hz.
        path: the PNG to write.
    """
    samples = min(4, *map(len, waves.values()))
    figure = Figure(figsize=(2.6 * samples, 1.8 * len(waves)), dpi=120, layout="constrained")
    grid = figure.subplots(2 * len(waves), samples, squeeze=False)
    shown = {caption: wave[:samples].float().cpu().nan_to_num(nan=torch.nan) for caption, wave in waves.items()}
    loudest = torch.stack([wave.nan_to_num().abs().amax(dim=1) for wave in shown.values()]).amax(dim=0)
    for row, (caption, wave) in enumerate(shown.items()):
        for column in range(samples):
            above, below = grid[2 * row, column], grid[2 * row + 1, column]
            time, bound = torch.arange(wave.shape[1]).numpy() / rate, 1.05 * float(loudest[column]) or 1.0
            above.plot(time, wave[column].numpy(), color=INK, linewidth=0.4)  # a gap where it is NaN
            above.set(xlim=(0, wave.shape[1] / rate), ylim=(-bound, bound), xticks=[], yticks=[])
            below.imshow(as_image(spectrograms[caption][column]), cmap="gray", vmin=0, vmax=1, aspect="auto")
            below.set(xticks=[], yticks=[])
            for axes in (above, below):
                axes.spines[:].set_visible(False)
        grid[2 * row, 0].set_ylabel(textwrap.fill(caption, 15), fontsize=10, color=INK)
    save_figure(figure, path)


THUMBNAIL = 64
"""The longest side of a thumbnail, in pixels."""


def small(images: Tensor) -> Tensor:
    """Images [S, C, H, W], reduced to thumbnails where they are larger."""
    scale = THUMBNAIL / max(images.shape[2:])
    if scale >= 1:
        return images
    height, width = (max(1, round(scale * side)) for side in images.shape[2:])
    return functional.adaptive_avg_pool2d(images, (height, width))


def as_image(image: Tensor) -> NDArray[np.float32]:
    """Turns [C, H, W] of any range into [H, W, 3], or [H, W] where C is not 3, in [0, 1]; only an
    image that exceeds this range is rescaled. Where a value is NaN, which stands for what a method
    hides, it has the colour `HIDDEN`."""
    x = image.detach().float().cpu()
    x = x if len(x) == 3 else x.mean(dim=0, keepdim=True)
    hidden = x.isnan().any(dim=0)  # [H, W]
    x = x.nan_to_num()
    shown = x[:, ~hidden]
    low, high = (shown.min(), shown.max()) if shown.numel() else (0.0, 1.0)
    if low < 0 or high > 1:
        x = (x - low) / (high - low) if high > low else torch.full_like(x, 0.5)
    if hidden.any():
        x = torch.where(hidden, torch.tensor(HIDDEN)[:, None, None], x)
    return x.permute(1, 2, 0).squeeze(2).numpy()
