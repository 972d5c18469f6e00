"""What a W&B run holds, read back from the file of an offline run."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024


def records(folder: Path) -> Iterator[Any]:
    """The records of W&B's file, framed as LevelDB frames its log: 7 bytes of header, then blocks
    of 32 KiB that hold fragments of crc (4 bytes), length (2), type (1: whole, 2: first, 3: middle,
    4: last) and data. A torn end is an end."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    data, place, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, place)
        fragment, place = data[place + 7 : place + 7 + length], place + 7 + length
        if len(fragment) < length:
            return
        assert zlib.crc32(bytes([kind]) + fragment) == crc
        parts += fragment
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def items(entries: Any) -> dict[str, Any]:
    """`a/b` -> value, of a history, summary or config record; what is nested is joined by dots."""
    return {".".join(entry.nested_key) or entry.key: json.loads(entry.value_json) for entry in entries}


class Offline:
    """One offline folder of W&B's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = self.project = ""
        self.resumes = False
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.kinds = set()
        self.run: Any = None
        """The last record on the run itself: name, group, tags, notes."""
        self.alerts: list[tuple[str, str]] = []
        self.artifacts: dict[str, Any] = {}
        """By type: "model"; tables are of the type "run_table"."""
        self.defined: dict[str, Any] = {}
        """Axis and summary of metrics, by name or glob."""
        for record in records(folder):
            kind = record.WhichOneof("record_type")
            self.kinds.add(kind)
            if kind == "run":
                self.run = record.run
            elif kind == "alert":
                self.alerts.append((record.alert.title, record.alert.text))
            elif kind == "artifact":
                self.artifacts[record.artifact.type] = record.artifact
            elif kind == "metric":
                self.defined[record.metric.name or record.metric.glob_name] = record.metric
            self.id = record.run.run_id or self.id
            self.project = record.run.project or self.project
            self.resumes = record.run.resume or self.resumes
            self.config.update(items(record.config.update))
            self.summary.update(items(record.summary.update))
            if record.history.item:
                self.rows.append(items(record.history.item))

    def values(self, names: set[str]) -> dict[tuple[int, str], float]:
        """(step, name) -> value."""
        return {
            (row["trainer/global_step"], name): value
            for row in self.rows
            for name, value in row.items()
            if name in names
        }

    def table(self, name: str) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of a table."""
        content = json.loads((self.folder / "files" / self.summary[f"{name}.path"]).read_text())
        return content["columns"], content["data"]

    @property
    def keys(self) -> set[str]:
        """What a panel may show: the first parts of all names, in records and in the summary."""
        names = {name for row in self.rows for name in row} | set(self.summary)
        return names | {name.partition(".")[0] for name in names}

    @property
    def steps(self) -> list[int]:
        return [row["trainer/global_step"] for row in self.rows]


def offline(folder: Path) -> list[Offline]:
    return [Offline(each) for each in sorted(folder.glob("wandb/offline-run-*"))]


def finished(folder: Path) -> list[Offline]:
    """The offline folders of a run that has ended in this process: W&B closes its file a moment
    later."""
    for _ in range(200):
        runs = offline(folder)
        if runs and all("exit" in each.kinds for each in runs):
            return runs
        time.sleep(0.05)
    raise TimeoutError(f"W&B has not closed its file in {folder}.")
