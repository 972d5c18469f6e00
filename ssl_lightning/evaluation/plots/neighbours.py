"""Contact sheets: samples with their nearest neighbours, near-duplicates and outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ...data.figure import INK, QUIET, THUMBNAIL, as_image, dress, save_figure
from ...data.fonts import columns, drawable

Shown = Sequence[Tensor] | Sequence[str]
"""Samples as thumbnails [C, h, w], or as lines of text."""
LETTERS = 118
"""Columns of a line of a sheet of texts, of which most letters take one."""


def plot_neighbours(
    samples: Shown, neighbours: Mapping[str, Sequence[Shown]], others: Mapping[str, Sequence[Shown]], path: str | Path
) -> None:
    """Draws samples with their nearest neighbours by several networks, and below them other groups
    of samples.

    Args:
        samples: Q samples.
        neighbours: for each network by title, the neighbours of each sample, the nearest first.
        others: further groups of samples, by title of the line that they stand on; empty ones are
            left out.
        path: the PNG to write.
    """
    lines = {title: groups for title, groups in others.items() if any(len(group) for group in groups)}
    if samples and isinstance(samples[0], str):
        _plot_lines(samples, neighbours, lines, path)
    else:
        _plot_tiles(samples, neighbours, lines, path)


def _plot_tiles(
    samples: Shown, neighbours: Mapping[str, Sequence[Shown]], others: Mapping[str, Sequence[Shown]], path: str | Path
) -> None:
    gap = 0.35  # of a tile
    places: list[tuple[float, str]] = [(0.0, "sample")]
    width = 1.0
    for title, groups in neighbours.items():
        places.append((width + gap, title))
        width += gap + max(map(len, groups))
    sheets = {"Nearest neighbours, the nearest on the left": _canvas(len(samples), width)}
    sheet = next(iter(sheets.values()))
    for row, sample in enumerate(samples):
        _put(sheet, sample, row, 0.0)
        for (left, _), rows in zip(places[1:], neighbours.values(), strict=True):
            for number, each in enumerate(rows[row]):
                _put(sheet, each, row, left + number)
    for title, groups in others.items():
        sheets[title] = sheet = _canvas(1, width)
        left = 0.0
        for group in groups:
            if left + len(group) > width:
                break
            for each in group:
                _put(sheet, each, 0, left)
                left += 1
            left += gap * (len(groups) > 1)
    heights = [sheet.shape[0] / THUMBNAIL for sheet in sheets.values()]
    scale = 11 / width  # inches a tile
    size = (11.4, scale * sum(heights) + 0.65 * len(sheets) + 0.35)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    grid = figure.subplots(len(sheets), 1, squeeze=False, height_ratios=heights)[:, 0]
    for number, (axes, (title, sheet)) in enumerate(zip(grid, sheets.items(), strict=True)):
        dress(axes, title)
        axes.imshow(sheet, interpolation="nearest", extent=(0, width, sheet.shape[0] / THUMBNAIL, 0))
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        if number == 0:
            axes.set_title(title, loc="left", fontsize=12, color=INK, pad=22)
            for left, name in places:
                axes.text(left, -0.08, name, fontsize=9.5, color=QUIET, va="bottom")
    save_figure(figure, path)


def _canvas(rows: int, width: float) -> NDArray[np.float32]:
    return np.ones((rows * THUMBNAIL, round(width * THUMBNAIL), 3), dtype=np.float32)


def _put(sheet: NDArray[np.float32], sample: Any, row: int, left: float) -> None:
    """Draws a thumbnail into its tile, as large as fits with a margin, pixels as squares."""
    image = as_image(sample)
    image = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    room = THUMBNAIL - 4
    height, width = (max(1, round(side * room / max(image.shape[:2]))) for side in image.shape[:2])
    image = image[np.arange(height) * image.shape[0] // height][:, np.arange(width) * image.shape[1] // width]
    top, start = row * THUMBNAIL + (THUMBNAIL - height) // 2, round(left * THUMBNAIL) + (THUMBNAIL - width) // 2
    sheet[top : top + height, start : start + width] = image


def _plot_lines(
    samples: Shown, neighbours: Mapping[str, Sequence[Shown]], others: Mapping[str, Sequence[Shown]], path: str | Path
) -> None:
    drawn: list[tuple[str, str, str]] = []  # caption, text, colour of the text; a caption alone is a heading
    for row, sample in enumerate(samples):
        drawn.append(("sample", str(sample), INK))
        for title, groups in neighbours.items():
            drawn += [(title if not number else "", str(each), QUIET) for number, each in enumerate(groups[row][:3])]
        drawn.append(("", "", INK))
    for title, groups in others.items():
        drawn.append((title, "", INK))
        drawn += [("", str(each), INK) for group in groups[:8] for each in group]
        drawn.append(("", "", INK))
    height = 0.19 * len(drawn) + 0.9
    figure = Figure(figsize=(11.4, height), dpi=120)
    figure.text(0.01, 1 - 0.45 / height, "Nearest neighbours, the nearest first", fontsize=12, color=INK, va="center")
    for line, (caption, text, colour) in enumerate(drawn):
        y = 1 - (0.75 + 0.19 * line) / height
        figure.text(0.01, y, caption, fontsize=8.5, color=QUIET, va="center")
        figure.text(0.14, y, _fitting(text), fontsize=8.5, color=colour, va="center", parse_math=False)
    save_figure(figure, path)


def _fitting(text: str) -> str:
    """As much of a text, on one line, as fits a line of the sheet."""
    line = drawable(" ".join(text.split()))
    widths = np.cumsum([columns(letter) for letter in line])
    if not line or widths[-1] <= LETTERS:
        return line
    whole = line[: int(np.searchsorted(widths, LETTERS - 4, side="right"))]
    return f"{whole.rpartition(' ')[0] or whole} ..."
