"""The closing table: its rows and columns with their titles, and what a cell holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

ROWS = {
    "majority": "largest class",
    "raw": "raw features",
    "untrained": "untrained encoder",
    "published": "published weights",
    "untrained_layers": "untrained, layers",
    "published_layers": "published, layers",
    "labels_only": "labels only",
    "pretrained": "pretrained encoder",
    "pretrained_layers": "pretrained, layers",
}
"""The rows of the closing table: their keys and titles."""
CURVE_ROWS = {
    "raw": "raw features",
    "untrained": "untrained, frozen",
    "published": "published, frozen",
    "pretrained": "pretrained, frozen",
    "finetuned": "pretrained, fine-tuned",
    "end_to_end": "pretrained, end to end",
    "labels_only": "labels alone",
}
"""The rows of a label curve: their keys and titles."""
BASELINES = ("raw", "untrained", "published", "labels_only")
"""The rows that the pretrained encoder is compared with."""
MISSING = "\u2013 "
"""A cell that was not computed: a dash."""
ENOUGH_DRAWS = 3
"""A standard deviation over fewer draws of labels says nothing, and is not printed."""


class Mean(TypedDict):
    """Mean and standard deviation of the balanced accuracies, as fractions, of n draws of
    labels."""

    mean: float
    std: float
    n: int


class Cell(Mean, total=False):
    """A cell of the closing table: besides the mean, what it was computed from."""

    draws: list[float]
    """The balanced accuracy of each draw."""
    auroc: list[float]
    """The area under the ROC curve of each draw, of two classes."""
    error: float
    """The standard error of the mean that comes from the number of samples that were classified."""
    parts: list[list[float]]
    """For each draw what each of them adds to its accuracy: two rows that classified the same
    samples are compared sample by sample. Not written to files."""
    samples: int
    """How many that were."""
    classes: int
    """How many classes they hold."""
    labels: int
    """The labels that each draw has."""
    available: int
    """The labels that the data has to draw from."""
    at_end: int
    """The regressions whose strength is at an end of what is tried; absent: 0."""
    unconverged: int
    """The regressions that stopped at the cap of iterations; absent: 0."""


Table = dict[str, dict[str, Cell]]
Show = Callable[[str], object]
"""Called with the title of each cell before it is computed."""


def silent(title: str) -> None:
    """Shows nothing."""


def without_parts(cell: Cell) -> Cell:
    """The cell as it is written to files."""
    kept = cell.copy()
    kept.pop("parts", None)
    return kept


def column_titles(final: Table) -> dict[str, str]:
    """The closing table's columns in their order, each with its title: `{"knn_10": "kNN 10/class",
    ...}`; "all" only where those are all labels that there are."""
    titles = {}
    for key in sorted({key for row in final.values() for key in row}):
        cell = next(row[key] for row in final.values() if key in row)
        fewer = "_" not in key and cell.get("labels", 0) < cell.get("available", 0)
        titles[key] = f"{column_title(key).partition(' ')[0]} {cell['labels']:,}" if fewer else column_title(key)
    return titles


def column_title(key: str) -> str:
    """The title of a column: "kNN 10/class" for `knn_10`."""
    probe, _, number = key.partition("_")
    return f"{'kNN' if probe == 'knn' else probe} {f'{number}/class' if number else 'all'}"
