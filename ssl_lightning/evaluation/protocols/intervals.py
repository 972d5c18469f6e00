"""Intervals of time with a label, from a list of files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...data.files.lists import SUFFIXES, rows
from ...plugins.messages import printable

COLUMNS = ("path", "start", "end", "label")


class Intervals(NamedTuple):
    """The intervals of a list.

    Attributes:
        keys: the paths that it names, each once.
        spans: of each, [k, 3]: beginning and end in seconds, and the number of the label.
        names: of the labels.
        path: of the list.
    """

    keys: list[str]
    spans: list[Tensor]
    names: tuple[str, ...]
    path: Path


def read_intervals(path: Path) -> Intervals:
    """Reads a csv, tsv, jsonl or parquet whose columns are `path`, `start` and `end` in seconds,
    and `label`.

    Raises:
        OSError: the list cannot be read.
        ValueError: a column is missing, a line is not as it should be, or two intervals of a path
            overlap.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--frames {printable(path)} is no list; give a file in {', '.join(SUFFIXES)}.")
    spans: dict[str, list[tuple[float, float, str, str]]] = {}
    for where, row in rows(path, {f"{name}": name for name in COLUMNS}):
        if row:
            key, start, end, label = (row.get(name) for name in COLUMNS)
            first, last = _seconds(path, where, "start", start), _seconds(path, where, "end", end)
            if not str(key or "").strip() or not str(label or "").strip():
                raise ValueError(f"--frames {printable(path)}, {where}: the path or the label is empty; give both.")
            if not 0 <= first < last:
                raise ValueError(
                    f"--frames {printable(path)}, {where}: from {first:g} to {last:g} s is no interval; give a start of"
                    " 0 or more, and a later end."
                )
            spans.setdefault(str(key).strip(), []).append((first, last, str(label).strip(), where))
    if not spans:
        raise ValueError(f"--frames {printable(path)} holds no intervals.")
    names = sorted({label for each in spans.values() for _, _, label, _ in each})
    return Intervals(list(spans), [_tensor(path, each, names) for each in spans.values()], tuple(names), path)


def _tensor(path: Path, spans: Sequence[tuple[float, float, str, str]], names: Sequence[str]) -> Tensor:
    ordered = sorted(spans)
    for before, after in pairwise(ordered):
        if after[0] < before[1]:
            raise ValueError(
                f"--frames {printable(path)}: {after[2]!r} ({after[3]}) begins at {after[0]:g} s, before {before[2]!r}"
                f" ({before[3]}) ends; give intervals that do not overlap."
            )
    number = {name: place for place, name in enumerate(names)}
    return torch.tensor([[first, last, number[label]] for first, last, label, _ in ordered], dtype=torch.float64)


def _seconds(path: Path, where: str, name: str, cell: Any) -> float:
    try:
        seconds = float(cell)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"--frames {printable(path)}, {where}: the {name} {cell!r} is no number; give seconds.")
    return seconds
