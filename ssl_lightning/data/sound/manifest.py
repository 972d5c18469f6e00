"""A list of recordings, csv or jsonl, one per line, with their classes, splits and stretches."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...plugins.messages import did_you_mean
from ..files.split_names import ALL_WORDS, SPLITS, split_of
from ..files.strings import Strings, tensor_of
from ..groups import number_of
from ..ledger import LeftOut

SUFFIXES = (".csv", ".tsv", ".jsonl")
AT_ONCE = 1 << 14
"""Lines that are objects of Python at the same time."""


class Columns(NamedTuple):
    """The names of a list's columns. `path` is required, and so is `label` unless it is None."""

    path: str = "path"
    label: str | None = None
    split: str = "split"
    start: str = "start"
    end: str = "end"
    group: str | None = None


class Recording(NamedTuple):
    """A line of a list: start and end are in seconds; None: the end of the file. Lines of one group
    are held out together; None: those of one file are."""

    path: str
    label: str | None
    split: str
    start: float
    end: float | None
    group: str | None = None


class Manifest:
    """Recordings by index: `manifest[i]` is the path of one; a relative path in the list starts at
    the list's folder. They are held in a few tensors, however many there are.

    Args:
        path: csv or tsv with a header, or jsonl.
        columns: the names of its columns.
        recordings: some of its lines; None: all lines are read.
        class_names: of all labels; None: those of the lines to train on.
        groups: [N] of the recordings given; None: as these state.

    Attributes:
        class_names: sorted; empty where there are no classes.
        labels: [N] the index of each recording's class; None where there are no classes.
        groups: [N] equal for recordings that are held out together; None where all differ.
        fingerprint: a hash of the lines.

    Raises:
        OSError, ValueError: the list cannot be read, lacks a column, or has an invalid line, which
            the message names.
    """

    def __init__(
        self,
        path: Path,
        columns: Columns,
        recordings: Iterable[Recording] | None = None,
        class_names: tuple[str, ...] | None = None,
        groups: Tensor | None = None,
    ) -> None:
        self.path, self.columns, self.folder = path, columns, path.resolve().parent
        numbers: dict[str, int] = {}  # of the labels, in the order in which they occur
        labels, splits, starts, ends, numbered = array("i"), array("b"), array("d"), array("d"), array("q")
        digest = hashlib.blake2b(digest_size=16)

        def paths() -> Iterator[str]:
            for each in _read(path, columns) if recordings is None else recordings:
                labels.append(-1 if each.label is None else numbers.setdefault(each.label, len(numbers)))
                splits.append(SPLITS.index(each.split))
                starts.append(each.start)
                ends.append(math.nan if each.end is None else each.end)
                numbered.append(number_of(each.group or each.path))
                digest.update((", " if len(labels) > 1 else "[").encode() + json.dumps(each[:5]).encode())
                yield each.path

        self._paths = Strings(paths())
        self._label_names = tuple(numbers)
        self._labels, self._splits = tensor_of(labels), tensor_of(splits)
        self._starts, self._ends = tensor_of(starts), tensor_of(ends)
        self._groups = tensor_of(numbered) if groups is None else groups
        digest.update(b"]" if labels else b"[]")
        self.fingerprint = digest.hexdigest()
        train = self._labels[(self._splits == SPLITS.index("train")) & (self._labels >= 0)].unique().tolist()
        names = sorted((self._label_names[number] for number in train), key=_natural)
        self.class_names = tuple(names) if class_names is None else class_names

    left_out: Sequence[LeftOut] = ()
    """The lines that are no samples, by reason."""

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> str:
        return os.path.join(self.folder, self._paths[number])

    def lines(self, index: Tensor) -> Iterator[Recording]:
        """Yields the recordings `index` [M] as their lines have them."""
        names = (*self._label_names, None)  # without a label the index is -1: the last
        for part in index.split(AT_ONCE):
            columns = (self._labels, self._splits, self._starts, self._ends)
            rows = zip(self._paths.some(part), *(column[part].tolist() for column in columns), strict=True)
            for path, label, split, start, end in rows:
                yield Recording(path, names[label], SPLITS[split], start, None if math.isnan(end) else end)

    def stretch(self, number: int) -> tuple[float, float | None]:
        """Returns where a recording begins and ends in its file, in seconds; None: the file's
        end."""
        (each,) = self.lines(torch.tensor([number]))
        return each.start, each.end

    def of_split(self, split: str) -> Manifest | None:
        """Returns the recordings of a split (`train`, `val`, `test`, `pretrain`), or None if there
        are none."""
        chosen = (self._splits == SPLITS.index(split)).nonzero()[:, 0]
        if not len(chosen):
            return None
        return Manifest(self.path, self.columns, self.lines(chosen), self.class_names, self._groups[chosen])

    @property
    def groups(self) -> Tensor | None:
        return self._groups if len(self._groups.unique()) < len(self) else None

    @property
    def labels(self) -> Tensor | None:
        if not self.class_names or bool((self._splits == SPLITS.index("pretrain")).any()):
            return None
        known = {name: number for number, name in enumerate(self.class_names)}
        classes = torch.tensor([*(known.get(name, -1) for name in self._label_names), -1])[self._labels.long()]
        for each in self.lines((classes < 0).nonzero()[:1, 0]):
            if each.label is None:
                raise ValueError(f"{self.path}: {each.path} has no {self.columns.label!r}, but others have one.")
            raise ValueError(
                f"{self.path}: {each.path} has the class {each.label!r}, which no training recording has."
                f"{did_you_mean(each.label, known)}"
            )
        return classes


def _read(path: Path, columns: Columns) -> Iterator[Recording]:
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        for column in (columns.path, columns.label, columns.group):
            if column is not None and column not in row:
                raise ValueError(
                    f"{where}: there is no column {column!r}.{did_you_mean(column, row)} The columns are"
                    f" {', '.join(map(str, row))}."
                )
        name = row[columns.path]
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where}: {columns.path}={name!r} is not a path.")
        label = None if columns.label is None else row[columns.label]
        value = str(row.get(columns.split) or "train")
        split = split_of(value)
        if split is None:
            raise ValueError(
                f"{where}: {columns.split}={value!r} is not a split.{did_you_mean(value, ALL_WORDS)} Choose"
                f" {', '.join(ALL_WORDS)}."
            )
        start = _seconds(row.get(columns.start), f"{where}: {columns.start}") or 0.0
        end = _seconds(row.get(columns.end), f"{where}: {columns.end}")
        if end is not None and end <= start:
            raise ValueError(f"{where}: the recording ends at {end:g} s, but begins at {start:g} s.")
        group = None if columns.group is None else row[columns.group]
        if columns.group is not None and group in (None, ""):
            raise ValueError(f"{where}: {columns.group} is empty; give each recording a group.")
        yield Recording(
            name,
            None if label in (None, "") else str(label),
            split,
            start,
            end,
            None if group is None else str(group),
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields each line's number and values by column."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() != ".jsonl":
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            yield from ((reader.line_num, row) for row in reader)
            return
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {line}: it is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {line}: it is not an object, but {text.strip()[:40]!r}.")
            yield line, row


def _seconds(value: Any, where: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{where}={value!r} is not a time in seconds.")
    return seconds


def _natural(name: str) -> tuple[int, float, str]:
    """Returns the sort key of a class name: numbers by value, then words in alphabetical order."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
