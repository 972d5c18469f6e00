"""Rows of metrics in a CSV file. They are nowhere else: neither memory nor checkpoints grow with
them.

A checkpoint holds how many rows the file had, and their checksum. It is taken over rows without the
empty values at their end, of which a new column appends one to each.
"""

from __future__ import annotations

import csv
import io
import math
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

from ...data.files.atomic import atomic, to_disk
from ...data.files.unwritable import explained

SECONDS_BETWEEN_WRITES, SECONDS_AFTER_A_FAILURE = 1.0, 60.0
Row = dict[str, float]


class Table:
    """Rows of metrics by step, appended to a CSV file; a resumed run continues it from the step of
    its checkpoint.

    Attributes:
        rows: those that are not in the file. The last one is open: values may still be added to it.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.columns = ["step"]
        self.rows: list[Row] = []
        self.written = self.checksum = self.size = 0  # closed rows in the file, their checksum, and where they end
        self.header = 0  # columns in the file
        self.due = 0.0  # the time on the monotonic clock from which rows are written again

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds values to the row of this step, and writes earlier rows at most once a second.

        Raises:
            Unwritable: the file cannot be written; the rows wait.
        """
        begins = not self.rows or self.rows[-1]["step"] != step
        if begins:
            self.rows.append({"step": step})
        for name, value in values.items():
            self.rows[-1][name] = value if isinstance(value, int) else float(value)
        self.columns += [name for name in values if name not in self.columns]
        if begins:
            self.write(at_once=False)

    def write(self, at_once: bool = True) -> None:
        """Appends rows to the file; a new column rewrites it.

        Args:
            at_once: also the open row, in whose place it is written again when it is closed; else
                closed rows only, if a write is due.

        Raises:
            Unwritable: the file cannot be written; the rows wait.
        """
        closed, last = self.rows[:-1], self.rows[-1:]
        if self.path is None:
            self.rows = last
        if self.path is None or not (last if at_once else closed) or (not at_once and time.monotonic() < self.due):
            return
        self.due = time.monotonic() + SECONDS_AFTER_A_FAILURE
        with explained(self.path):
            self.path.parent.stat()  # a run folder that was removed is not made anew in silence
            if self.header < len(self.columns) or not self._is_there(self.path):
                self._begin(self.path, _lines(self.path, self.columns, self.written))
            self._append(self.path, [self._line(row) for row in closed], [self._line(row) for row in last * at_once])
        self.rows, self.due = last, time.monotonic() + SECONDS_BETWEEN_WRITES

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint. The rows that it counts are on disk; those that cannot be
        written now are in it."""
        due, self.due = self.due, 0.0
        with suppress(OSError):  # the next write says so
            self.write(at_once=False)
            due = self.due
            if self.path is not None and self.written:
                to_disk(self.path)
        self.due = due
        return {
            "columns": list(self.columns),
            "rows": self.written,
            "checksum": self.checksum,
            "waiting": [dict(row) for row in self.rows],
            "file": str(self.path.absolute()) if self.path else "",
        }

    def open(self, path: Path, state: dict[str, Any], origin: Path | None = None) -> None:
        """Continues from a checkpoint's `state`: rows that a killed process wrote after the
        checkpoint are discarded.

        Args:
            path: the file. A table that was not opened keeps no rows.
            state: what `state` returned; of older versions, which had every row in it, the values
                by column.
            origin: the file of the run that the checkpoint lies in, if it lies in one.

        Raises:
            Unwritable: the file cannot be written.
        """
        self.path = path
        if "step" in state:
            self.columns, self.rows = list(state), _of_columns(state)
        elif state:
            self.columns, self.rows = list(state["columns"]), [dict(row) for row in state["waiting"]]
            if state["rows"]:
                self._recover(path, state, [each for each in (path, origin, Path(state["file"])) if each])
        self.write(at_once=False)

    def all(self) -> list[Row]:
        """Every row, from the file and those that wait."""
        lines = _lines(self.path, self.columns, self.written) if self.path else ()
        return [_row(self.columns, line) for line in lines] + self.rows

    def _recover(self, path: Path, state: dict[str, Any], files: list[Path]) -> None:
        """Takes the rows up to the checkpoint from the first file that holds them."""
        count = state["rows"]
        for file in files:
            if _summed(_lines(file, self.columns, count)) == (count, state["checksum"]):
                self._begin(path, _lines(file, self.columns, count))
                return
        first = self.rows[0]["step"] if self.rows else math.inf
        self._begin(
            path,
            (line for line in _lines(path, self.columns) if _row(self.columns, line).get("step", math.inf) < first),
        )
        rank_zero_warn(
            f"{str(path)!r} does not hold the {count:,} rows up to the checkpoint: it was removed or changed. It goes"
            f" on after the {self.written:,} rows that it holds of them."
        )

    def _begin(self, path: Path, lines: Iterable[str]) -> None:
        """Writes the file anew: a header of every column, and closed rows."""
        header, written, checksum = io.StringIO(), 0, 0
        csv.writer(header, lineterminator="\n").writerow(self.columns)
        with atomic(path) as temporary:
            with temporary.open("wb") as file:
                file.write(header.getvalue().encode())
                for line in lines:
                    file.write(self._padded(line))
                    written, checksum = written + 1, _added(checksum, line)
            size = temporary.stat().st_size
        if written < self.written:
            rank_zero_warn(f"{str(path)!r} was removed or changed; it goes on after the {written:,} rows it holds.")
        self.written, self.checksum, self.size, self.header = written, checksum, size, len(self.columns)

    def _append(self, path: Path, closed: list[str], last: list[str]) -> None:
        rows, opened = (b"".join(map(self._padded, lines)) for lines in (closed, last))
        with path.open("r+b") as file:
            file.truncate(self.size)  # half a row, where a write failed; and the open one
            file.seek(self.size)
            file.write(rows + opened)
        self.written, self.size = self.written + len(closed), self.size + len(rows)
        for line in closed:
            self.checksum = _added(self.checksum, line)

    def _is_there(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_size >= self.size

    def _line(self, row: Row) -> str:
        return ",".join(str(row.get(name, "")) for name in self.columns).rstrip(",")

    def _padded(self, line: str) -> bytes:
        return (line + "," * (len(self.columns) - 1 - line.count(",")) + "\n").encode()


def _lines(file: Path, columns: list[str], most: int | None = None) -> Iterator[str]:
    """The first rows of a file without the empty values at their end; none where it cannot be
    read, or has other columns."""
    try:
        opened = file.open(encoding="utf-8", errors="replace", newline="") if file.is_file() else None
    except OSError:
        opened = None
    if opened is None:
        return
    with opened:
        header = next(csv.reader(opened), [])
        if any(one != other for one, other in zip(header, columns, strict=False)):
            return
        for number, line in enumerate(opened):
            if number == most or not line.endswith("\n"):  # half a row, of a killed process
                return
            yield line[:-1].rstrip(",")


def _summed(lines: Iterable[str]) -> tuple[int, int]:
    """Number and checksum of rows."""
    count = checksum = 0
    for line in lines:
        count, checksum = count + 1, _added(checksum, line)
    return count, checksum


def _added(checksum: int, line: str) -> int:
    return zlib.crc32(line.encode() + b"\n", checksum)


def _row(columns: list[str], line: str) -> Row:
    texts = zip(columns, line.split(","), strict=False)
    return {name: _number(text) for name, text in texts if text}


def _number(text: str) -> float:
    """A value of a row; NaN for what is none, in a file that was changed."""
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return math.nan


def _of_columns(columns: dict[str, list[float | None]]) -> list[Row]:
    return [
        {name: value for name, value in zip(columns, values, strict=True) if value is not None}
        for values in zip(*columns.values(), strict=True)
    ]
