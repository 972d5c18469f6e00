"""Files of vectors: one row a sample, with its name, split and label; as parquet, npz or csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ...data.files.atomic import atomic
from ...run.settings.limits import why_unwritable

SUFFIXES = (".parquet", ".npz", ".csv")
VECTOR, FACTS = "vector", b"ssl_lightning"
"""The column of the vectors; the key of the facts about them in a parquet file's metadata."""
TEXT = "text"
"""The column of what a sample says, where that can be written on a line."""
NESTED = ("layers", "tokens")
"""Columns that hold several vectors a sample."""


def check_suffix(path: Path) -> None:
    """Raises ValueError where a file's suffix is none that is written."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r} has the suffix {path.suffix!r}; give a file in {', '.join(SUFFIXES)}.")


def check_target(path: Path) -> None:
    """Raises ValueError or OSError where a file of vectors cannot be written to a path."""
    check_suffix(path)
    _check_place(path)


def check_picture(path: Path) -> Path:
    """Returns the path of a picture to write.

    Raises:
        ValueError, OSError: it is no .png, or cannot be written.
    """
    if path.suffix != ".png":
        raise ValueError(f"{str(path)!r}: pictures are written as .png.")
    _check_place(path)
    return path


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give a file.")
    if reason := why_unwritable(path.parent):
        raise OSError(f"{str(path)!r} cannot be written: {reason}. Choose another place.")


def table_of(columns: dict[str, Any], facts: dict[str, Any]) -> pa.Table:
    """Returns rows as a table of Arrow.

    Args:
        columns: lists [N] of text or numbers; tensors [N, D]; and lists [N] of tensors [n, D] for
            several vectors a sample.
        facts: plain values about all of them.
    """
    arrays = {name: _array(values) for name, values in columns.items()}
    return pa.table(arrays).replace_schema_metadata({FACTS: json.dumps(facts).encode()})


def _array(values: Any) -> pa.Array:
    if isinstance(values, Tensor):
        return _vectors(values)
    if len(values) and isinstance(values[0], Tensor):
        offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), _vectors(torch.cat(list(values))))
    return pa.array(values)


def _vectors(values: Tensor) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.float().flatten().numpy()), values.shape[1])


def labels_as_text(labels: Tensor, class_names: Any) -> pa.Array:
    """Labels [N] as text, by the names of their classes where there are some; null for none.

    Args:
        labels: -1 for a sample without a class.
        class_names: of the classes; None or empty: they have none.
    """
    text = [None if label < 0 else str(class_names[label]) if class_names else str(label) for label in labels.tolist()]
    return pa.array(text, pa.string())


def facts_of(schema: pa.Schema) -> dict[str, Any]:
    """The facts in a parquet file's metadata; empty where this package did not write it."""
    try:
        facts = json.loads((schema.metadata or {}).get(FACTS, b"{}"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def write_rows(path: Path, tables: Iterable[pa.Table], facts: dict[str, Any]) -> int:
    """Writes rows whole or not at all, table after table for parquet and csv.

    Args:
        path: its suffix decides the format.
        tables: as of `table_of`, with equal columns.
        facts: as there; only parquet holds them.

    Returns:
        The number of rows.
    """
    with atomic(path) as temporary:
        return {".parquet": _parquet, ".npz": _npz, ".csv": _csv}[path.suffix](temporary, iter(tables), facts)


def _parquet(path: Path, tables: Iterator[pa.Table], facts: dict[str, Any]) -> int:
    first = next(tables).replace_schema_metadata({FACTS: json.dumps(facts).encode()})
    rows = 0
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table.replace_schema_metadata(first.schema.metadata))
            rows += len(table)
    return rows


def _npz(path: Path, tables: Iterator[pa.Table], facts: dict[str, Any]) -> int:
    table = pa.concat_tables(list(tables))
    arrays: dict[str, Any] = {}
    for name in table.column_names:
        if name in NESTED:
            raise ValueError(f"An npz has no place for {name} of differing number; write parquet.")
        column = table[name]
        text = pa.types.is_string(column.type)
        arrays[name] = (
            vectors_in(table) if name == VECTOR else np.array((column.fill_null("") if text else column).to_pylist())
        )
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return len(table)


def _csv(path: Path, tables: Iterator[pa.Table], facts: dict[str, Any]) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for table in tables:
            if nested := set(NESTED) & set(table.column_names):
                raise ValueError(f"A csv has no place for {nested.pop()}; write parquet.")
            others = [name for name in table.column_names if name != VECTOR]
            vectors = vectors_in(table) if VECTOR in table.column_names else np.zeros((len(table), 0))
            if not rows:
                writer.writerow([*others, *(f"v{number}" for number in range(vectors.shape[1]))])
            for cells, vector in zip(
                zip(*(table[name].to_pylist() for name in others), strict=True), vectors, strict=True
            ):
                writer.writerow([*map(_cell, cells), *map(str, vector)])
            rows += len(table)
    return rows


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def vectors_in(table: pa.Table) -> np.ndarray:
    """The vectors [N, D], float32, of a table."""
    column = table[VECTOR].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), -1) if len(table) else np.zeros((0, column.type.list_size), np.float32)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a file that `write_rows` wrote, or another one with a column of vectors.

    Args:
        path: parquet, npz or csv.
        columns: those that are read, where the file has them; None: all.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it holds no vectors.
    """
    check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of vectors {str(path)!r}; ssl-lightning embed writes one.")
    try:
        table = {".parquet": pq.read_table, ".npz": _read_npz, ".csv": _read_csv}[path.suffix](path)
    except (pa.ArrowException, OSError, ValueError, KeyError, StopIteration) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {' '.join(str(error).split())}.") from error
    if VECTOR not in table.column_names or not pa.types.is_fixed_size_list(table.schema.field(VECTOR).type):
        raise ValueError(f"{str(path)!r} has no column {VECTOR!r} of vectors; ssl-lightning embed writes one.")
    return table if columns is None else table.select([name for name in table.column_names if name in columns])


def _read_npz(path: Path) -> pa.Table:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    vectors = arrays.pop(VECTOR)
    return pa.table(
        {name: pa.array(values.tolist()) for name, values in arrays.items()}
        | {VECTOR: _vectors(torch.from_numpy(vectors))}
    )


def _read_csv(path: Path) -> pa.Table:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header, rows = next(reader), list(reader)
    first = header.index("v0")
    vectors = torch.tensor([[float(cell) for cell in row[first:]] for row in rows]).reshape(len(rows), -1)
    return pa.table(
        {name: pa.array([row[number] for row in rows]) for number, name in enumerate(header[:first])}
        | {VECTOR: _vectors(vectors)}
    )
