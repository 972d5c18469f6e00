"""Pictures and tables of texts; in a picture, tokens that differ from the first line are
coloured."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..figure import CAPTION, INK, save_figure
from ..files.atomic import write_text
from ..fonts import MONO, columns, drawable

COLUMNS, MOST_LINES = 110, 4
"""Characters in a line, and lines of each text; the rest is cut off."""
SIZE = 9.0
"""Font size in points; a letter is 0.6 times as wide, a line 1.5 times as high."""
RIGHT, WRONG, QUIET = "#1a7f37", "#cf222e", "#8b949e"

Texts = Mapping[str, Sequence[Sequence[str]]]
"""By caption, the words of each sample."""


def plot_texts(texts: Texts, path: str | Path, compare: bool = True) -> None:
    """Draws samples one below the other, each with a text for each caption.

    Args:
        texts: by caption, for each sample its words.
        path: the PNG to write.
        compare: whether later captions are compared word by word with the first, which is the
            truth: where any of them differs from it, words are green if right and red if wrong.

    Raises:
        ValueError: there is nothing to draw, or, with `compare`, captions differ in their number of
            words.
    """
    if not texts or not all(texts.values()):
        raise ValueError(f"There are no texts to draw under the captions {list(texts)}.")
    captions, samples = list(texts), min(map(len, texts.values()))
    margin = max(map(len, captions)) + 2
    drawn: list[tuple[int, int, str, str]] = []  # line, column, word, colour
    line = int(bool(CAPTION.get()))
    for sample in range(samples):
        rows = [[drawable(word, MONO) for word in texts[caption][sample]] for caption in captions]
        changed = [compare and len(set(words)) > 1 for words in zip(*rows, strict=compare)]
        for number, (caption, words) in enumerate(zip(captions, rows, strict=True)):
            drawn.append((line, 0, caption, QUIET))
            colours = [
                INK if not (number and compare and changed[index]) else RIGHT if word == rows[0][index] else WRONG
                for index, word in enumerate(words)
            ]
            placed, used = _wrapped(words, colours, margin)
            drawn += [(line + down, column, word, colour) for down, column, word, colour in placed]
            line += used
        line += 1
    width, height = 0.6 * SIZE * (margin + COLUMNS) / 72, 1.5 * SIZE * (line + 1) / 72
    figure = Figure(figsize=(width, height), dpi=120)
    for down, column, word, colour in drawn:
        x, y = (column + 1) / (margin + COLUMNS + 2), 1 - (down + 1) / (line + 1)
        figure.text(x, y, word, family="monospace", fontsize=SIZE, color=colour, parse_math=False)
    save_figure(figure, path)


def write_texts(texts: Texts, path: Path) -> Path:
    """Writes texts as a table: a row for each sample, a column for each caption.

    Args:
        texts: by caption, for each sample its words.
        path: the CSV file to write; it is returned.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(texts)
    writer.writerows([" ".join(words) for words in row] for row in zip(*texts.values(), strict=False))
    write_text(path, table.getvalue())
    return path


def _wrapped(words: Sequence[str], colours: Sequence[str], margin: int) -> tuple[list[tuple[int, int, str, str]], int]:
    """Returns the words with line and column, and the number of lines that they need; words beyond
    `MOST_LINES` are left out."""
    placed = []
    line = column = 0
    for word, colour in zip(words, colours, strict=True):
        word = word[: (COLUMNS - 1) * len(word) // max(1, columns(word))]
        if column + columns(word) > COLUMNS:
            line, column = line + 1, 0
        if line == MOST_LINES:
            placed.append((line - 1, margin + COLUMNS - 1, "\N{HORIZONTAL ELLIPSIS}", QUIET))
            break
        placed.append((line, margin + column, word, colour))
        column += columns(word) + 1
    return placed, min(line + 1, MOST_LINES)
