"""A contact sheet of single samples, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ...data.figure import INK, as_image, save_figure
from ...data.fonts import drawable

ACROSS = 8
LETTERS = 24
"""Letters of a line of a caption."""
LINE = 110
"""Letters of a text."""


def plot_captioned(
    samples: Sequence[Any], captions: Sequence[str], title: str, path: str | Path, across: int = ACROSS
) -> None:
    """Draws samples with captions: thumbnails in a grid, or texts one below the other.

    Args:
        samples: S thumbnails [C, h, w] in [0, 1], or S texts.
        captions: of the samples; of a thumbnail, of one or more lines.
        title: of the sheet.
        path: the PNG to write.
        across: thumbnails on a line.
    """
    if len(samples) and isinstance(samples[0], str):
        height = 0.4 * len(samples) + 0.7
        figure = Figure(figsize=(11.4, height), dpi=110)
        figure.text(0.01, 1 - 0.3 / height, title, fontsize=12, color=INK, va="center")
        for row, (text, caption) in enumerate(zip(samples, captions, strict=True)):
            y = 1 - (0.75 + 0.4 * row) / height
            figure.text(0.01, y, drawable(" ".join(caption.split())), fontsize=9, color="tab:red", va="center")
            line = drawable(" ".join(str(text).split()))
            shown = line if len(line) <= LINE else f"{line[:LINE]} ..."
            figure.text(0.01, y - 0.17 / height, shown, fontsize=8.5, color=INK, va="center", parse_math=False)
        save_figure(figure, path)
        return
    across = min(across, max(1, len(samples)))
    down = -(-len(samples) // across)
    figure = Figure(figsize=(max(6.0, 1.45 * across + 0.2), 1.95 * down + 0.5), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left")
    for number, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        axes.axis("off")
        if number < len(samples):
            image = as_image(samples[number])
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            lines = [
                line if len(line) <= LETTERS else f"{line[: LETTERS - 1]}…" for line in captions[number].split("\n")
            ]
            axes.set_title(drawable("\n".join(lines)), fontsize=8, color=INK, parse_math=False)
    save_figure(figure, path)
