"""Targets of samples from a file: columns of numbers, and labels of which a sample has several."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...data.files.dialects import dialect_of
from ...data.files.lists import SUFFIXES, rows, utf_8
from ...plugins.messages import did_you_mean, printable

BESIDE = ("path", "split", "index", "label", "text", "vector", "layers", "tokens")
"""Columns of a file of vectors, which are not targets."""
LABELS, SEPARATOR = "labels", ";"
"""The column of csv that holds lists of labels, and what is between two of them."""
LISTED = 5
"""Names that a line holds."""

Key = str | tuple[str, int]
"""What names a sample: its path, or its split and index."""


class Targets(NamedTuple):
    """The targets of a file.

    Attributes:
        keys: of its lines.
        columns: the names of the columns of numbers.
        values: for each line its numbers; None where one is missing.
        labels: the names of the labels.
        given: for each line the numbers of its labels; None where it does not say.
        remarks: lines on what was taken for what.
        digest: of the file's content.
        path: of the file.
    """

    keys: list[Key]
    columns: tuple[str, ...]
    values: list[list[float] | None]
    labels: tuple[str, ...]
    given: list[list[int] | None]
    remarks: tuple[str, ...]
    digest: str
    path: Path


def read_targets(path: Path) -> Targets:
    """Reads a csv, tsv, jsonl or parquet whose columns are `path`, or `split` and `index` as
    `embed` writes them, and targets: numbers are values to predict; columns of 0 and 1, a column of
    lists, and a column `labels` of names between semicolons are labels.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not as it should be, or there is no target.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--targets {printable(path)} is no list; give a file in {', '.join(SUFFIXES)}.")
    names = _columns(path)
    keyed = ["path"] if "path" in names else ["split", "index"]
    if lacking := [name for name in keyed if name not in names]:
        raise ValueError(
            f"--targets {printable(path)} has no column 'path' that names the samples, nor {_or(lacking)}."
            f"{did_you_mean('path', names)} It has {_few(names)}."
        )
    columns: dict[str, list[Any]] = {name: [] for name in names if name not in BESIDE}
    keys: dict[Key, str] = {}
    for where, row in rows(path, {name: name for name in keyed}, usual=names):
        if not row:
            continue
        key = _key(path, where, row, keyed)
        if key in keys:
            raise ValueError(f"--targets {printable(path)}, {where}: {_named(key)} is in {keys[key]} too; keep one.")
        keys[key] = where
        for name, cells in columns.items():
            cells.append(row.get(name))
    if not keys:
        raise ValueError(f"--targets {printable(path)} holds no samples.")
    return _sorted_out(path, list(keys), list(keys.values()), columns)


def _columns(path: Path) -> list[str]:
    """The names of a file's columns."""
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa  # here: it takes a quarter of a second to import
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(path).names)
        except pa.ArrowException as error:
            raise ValueError(f"--targets {printable(path)} is not a parquet file, or is damaged.") from error
    with utf_8(path, newline="") as file:
        if path.suffix.lower() in (".csv", ".tsv"):
            lines = file.readlines()
            for keyed in (["path"], ["split", "index"]):
                dialect = dialect_of(lambda: lines, keyed, path.suffix.lower())
                names = next(csv.reader(lines, **dialect), [])
                if set(keyed) <= set(names):
                    break
            return names
        keys: dict[str, None] = {}
        for line in file:
            try:
                row = json.loads(line) if line.strip() else {}
            except ValueError:
                break  # `rows` says which line it is
            keys.update(dict.fromkeys(row if isinstance(row, dict) else ()))
        return list(keys)


def _key(path: Path, where: str, row: dict[str, Any], keyed: Sequence[str]) -> Key:
    cells = [row.get(name) for name in keyed]
    if any(cell is None or str(cell).strip() == "" for cell in cells):
        raise ValueError(f"--targets {printable(path)}, {where}: no {_or(keyed)}, which names the sample.")
    if keyed == ["path"]:
        return str(cells[0])
    if not str(cells[1]).isdecimal():
        raise ValueError(f"--targets {printable(path)}, {where}: the index {str(cells[1])!r} is no whole number.")
    return str(cells[0]), int(str(cells[1]))


def _sorted_out(path: Path, keys: list[Key], where: list[str], columns: dict[str, list[Any]]) -> Targets:
    """The columns by what they hold."""
    numbers: dict[str, list[float | None]] = {}
    flags: dict[str, list[float | None]] = {}
    lists: dict[str, list[list[str] | None]] = {}
    unused: list[str] = []
    for name, cells in columns.items():
        if any(isinstance(cell, (list, tuple)) for cell in cells) or name == LABELS:
            lists[name] = [_list(cell) for cell in cells]
        elif (read := _numbers(cells)) is None or all(number is None for number in read):
            unused.append(name)
        else:
            if endless := [at for at, number in enumerate(read) if number is not None and math.isinf(number)]:
                line = f"{printable(path)}, {where[endless[0]]}"
                raise ValueError(f"--targets {line}: {name!r} is infinite; give a number, or leave it empty.")
            (flags if {number for number in read if number is not None} <= {0.0, 1.0} else numbers)[name] = read
    if not (numbers or flags or lists):
        raise ValueError(
            f"--targets {printable(path)} has no column of numbers or of labels"
            f"{f' ({_few(unused)}: text)' if unused else ''}; give one beside those that name the samples."
        )
    labels = [*flags, *sorted({each for cells in lists.values() for cell in cells for each in cell or ()})]
    if twice := sorted(set(flags) & set(labels[len(flags) :])):
        raise ValueError(f"--targets {printable(path)}: {twice[0]!r} is a column and a label in a list; rename one.")
    place = {name: number for number, name in enumerate(labels)}
    given = [
        _joined([cells[line] for cells in flags.values()], [cells[line] for cells in lists.values()], place)
        for line in range(len(keys))
    ]  # fmt: skip
    values = [_complete([cells[line] for cells in numbers.values()]) for line in range(len(keys))]
    remarks = [f"Values to predict: {_few(list(numbers))}."] * bool(numbers)
    remarks += [f"Labels: {_few(labels)} ({len(labels):,})."] * bool(labels)
    remarks += [f"Not used, since they are neither numbers nor lists: {_few(unused)}."] * bool(unused)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    return Targets(keys, tuple(numbers), values, tuple(labels), given, tuple(remarks), digest, path)


def _numbers(cells: Iterable[Any]) -> list[float | None] | None:
    """Cells as numbers, None where one is missing; None where one is text."""
    numbers: list[float | None] = []
    for cell in cells:
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            numbers.append(None)
            continue
        try:
            number = float(cell)
        except (TypeError, ValueError):
            return None
        numbers.append(None if math.isnan(number) else number)
    return numbers


def _list(cell: Any) -> list[str] | None:
    """The labels of a cell; None where it does not say."""
    if cell is None:
        return None
    if isinstance(cell, (list, tuple)):
        return [str(each) for each in cell]
    return [each.strip() for each in str(cell).split(SEPARATOR) if each.strip()]


def _joined(flags: list[float | None], lists: list[list[str] | None], place: dict[str, int]) -> list[int] | None:
    """The numbers of the labels of a line; None where a cell is missing."""
    if any(cell is None for cell in (*flags, *lists)):
        return None
    numbers = [number for number, flag in enumerate(flags) if flag]
    return numbers + [place[each] for cell in lists for each in cell or ()]


def _complete(cells: list[float | None]) -> list[float] | None:
    known = [cell for cell in cells if cell is not None]
    return known if len(known) == len(cells) else None


def _named(key: Key) -> str:
    return repr(key) if isinstance(key, str) else f"sample {key[1]} of {key[0]!r}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:LISTED])) + ", ..." * (len(names) > LISTED)


def _or(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))
