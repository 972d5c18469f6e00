"""The files of a run folder, read as far as they can be: what cannot is a line among the faults."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as pa_csv

Curve = tuple["array[float]", "array[float]"]
"""Steps and values of a metric."""
LARGEST = 256 << 20
"""Bytes of a file of metrics that are read."""


def plain(text: str) -> str:
    """A text without characters that a terminal would obey."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def absent(path: Path) -> str:
    return f"no {path.name}"


def read_mapping(
    path: Path,
    parse: Callable[[str, str], Any],
    faults: list[str],
    missing: Callable[[Path], str] = absent,
) -> dict[str, Any]:
    """The mapping that a file holds; an empty one, and a line, where it holds none."""
    if not path.is_file():
        faults += filter(None, [missing(path)])
        return {}
    try:
        value = parse(path.read_text(encoding="utf-8"), path.name)
    except (OSError, ValueError) as error:
        faults.append(f"{path.name} cannot be read ({' '.join(str(error).split())[:200]})")
        return {}
    if not isinstance(value, dict):
        faults.append(f"{path.name} cannot be read (it is not a mapping)")
        return {}
    return value


def read_curves(path: Path, faults: list[str]) -> dict[str, Curve]:
    """The metrics of a CSV file; lines that cannot be read are counted."""
    if not path.is_file():
        faults.append("no metrics.csv")
        return {}
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size >> 20:,} MB")
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            names = [*map(plain, next(csv.reader(file), []))]
            if "step" not in names:
                raise ValueError("it has no column step")
            curves, bad = _quickly(path, names) or _line_by_line(file, names)
    except (OSError, ValueError, csv.Error) as error:
        faults.append(f"metrics.csv cannot be read ({error})")
        return {}
    if bad:
        faults.append(f"{bad:,} lines of metrics.csv cannot be read")
    return curves


def _quickly(path: Path, names: list[str]) -> tuple[dict[str, Curve], int] | None:
    """The curves of a file in which all values are numbers, and the count of lines with more or
    fewer of them; None: it is not such a file."""
    short: list[Any] = []

    def skip(line: Any) -> str:
        short.append(line.number)
        return "skip"

    numbers = [str(number) for number in range(len(names))]
    try:
        table = pa_csv.read_csv(
            path,
            pa_csv.ReadOptions(column_names=numbers, skip_rows=1),
            pa_csv.ParseOptions(quote_char=False, invalid_row_handler=skip),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(numbers, pa.float64()), null_values=[""]),
        )
    except pa.ArrowInvalid:
        return None
    step = table[names.index("step")]
    steps = step.to_numpy()
    curves: dict[str, Curve] = {}
    for name, column in zip(names, table.columns, strict=True):
        kept = column.is_valid().to_numpy() & np.isfinite(steps)
        if name != "step" and kept.any():
            curves[name] = array("d", steps[kept].tobytes()), array("d", column.to_numpy()[kept].tobytes())
    return curves, len(short) + step.null_count


def _line_by_line(lines: Iterable[str], names: list[str]) -> tuple[dict[str, Curve], int]:
    """The curves of lines, and the count of those that cannot be read."""
    curves: dict[str, Curve] = {}
    at, bad = names.index("step"), 0
    for line in lines:
        texts = line.rstrip("\r\n").split(",")
        try:
            step = float(texts[at])
            values = [(name, float(text)) for name, text in zip(names, texts, strict=True) if text]
        except (ValueError, IndexError):
            bad += 1
            continue
        for name, value in values:
            if name != "step" and math.isfinite(step):
                steps, kept = curves.setdefault(name, (array("d"), array("d")))
                steps.append(step)
                kept.append(value)
    return curves, bad
