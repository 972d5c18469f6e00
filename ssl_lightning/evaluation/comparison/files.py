"""The files of a run folder, read as far as they can be: what cannot is a line among the faults."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    curves: dict[str, Curve] = {}
    bad = 0
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size >> 20:,} MB")
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            names = [*map(plain, next(csv.reader(file), []))]
            if "step" not in names:
                raise ValueError("it has no column step")
            at = names.index("step")
            for line in file:
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
    except (OSError, ValueError, csv.Error) as error:
        faults.append(f"metrics.csv cannot be read ({error})")
    if bad:
        faults.append(f"{bad:,} lines of metrics.csv cannot be read")
    return curves
