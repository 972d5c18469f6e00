"""What the files of a run say of it: read without torch, without running any of it, and without
following a link."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...plugins.gate import LONGEST
from ..checkpoints.names import step_of
from .lock import FILE as LOCK
from .lock import failure_in, is_locked

CLASS = re.compile(r"^(model|data):(?:\n +class_path:)? +([\w.]+) *$", re.MULTILINE)
"""The method and the data of a run, as its `config.yaml` names them: to read all of it would take
ten times as long."""
State = Literal["running", "done", "failed", "killed"]
PROBED = ("probe/", "val/")
"""Beginnings of the names of metrics whose best value counts, if they end in `ACCURACY`."""
ACCURACY = "/top1"


class Survey(NamedTuple):
    """What is known of a run; what cannot be read is None, and `note` says why."""

    folder: Path
    model: str | None
    """The class path of the method."""
    data: str | None
    state: State
    """`running`: a job holds the folder's lock; `failed`: the last one ended with an error; `done`:
    the summary is of the newest step; `killed`: none of these, so it was killed or stopped."""
    step: int | None
    """The last optimizer step of which there is a record."""
    probe: str | None
    """The metric of the best accuracy of a probe, `probe/linear/top1`."""
    best: float | None
    """Its best value, 0 to 1."""
    size: int
    """Bytes of its files."""
    changed: float
    """When one of its files was last written, in seconds since the epoch."""
    note: str
    """What it failed of, or what cannot be read."""


def is_run(names: set[str]) -> bool:
    """Whether a folder with these entries is a run's."""
    return LOCK in names or {"config.yaml", "checkpoints"} <= names


def survey(folder: Path) -> Survey:
    """Reads what a run folder holds.

    Raises:
        OSError: the folder cannot be read.
    """
    files = {path: info for path, info in _files(folder)}
    notes: list[str] = []
    classes = dict(CLASS.findall(_text(folder / "config.yaml", files, notes)))
    if "model" not in classes and not notes:
        notes.append("config.yaml names no method")
    summary = _summary(folder / "summary.json", files, notes)
    written, probe, best = (
        _metrics(folder / "metrics.csv", notes) if folder / "metrics.csv" in files else (0, None, None)
    )
    saved = max((step_of(path.name) or 0 for path in files if path.parent == folder / "checkpoints"), default=0)
    summed = summary.get("steps") if isinstance(summary.get("steps"), int) else None
    state: State = "done" if summed is not None and summed >= saved else "killed"
    try:
        failure = failure_in(folder) if folder / LOCK in files else None
        if failure is not None:
            state, notes = "failed", [failure, *notes]
        if folder / LOCK in files and is_locked(folder, patience=0):
            state = "running"
    except OSError as error:
        notes.append(f"{LOCK} cannot be read ({error.strerror})")
    return Survey(
        folder,
        classes.get("model"),
        classes.get("data"),
        state,
        max(written, saved, summed or 0) or None,
        probe,
        best,
        sum(info.st_size for info in files.values()),
        max((info.st_mtime for info in files.values()), default=folder.stat().st_mtime),
        "; ".join(notes),
    )


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files below a folder; a part that cannot be listed is passed over."""
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                info = os.lstat(os.path.join(where, name))
            except OSError:  # a file that a run has just removed
                continue
            if stat.S_ISREG(info.st_mode):
                yield Path(where, name), info


def _text(path: Path, files: dict[Path, os.stat_result], notes: list[str]) -> str:
    """The text of a file; empty, with a note, where it is not there or cannot be read."""
    if path not in files:
        notes.append(f"there is no file {path.name}")
    elif files[path].st_size > LONGEST:
        notes.append(f"{path.name} is larger than any that a run writes")
    else:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            notes.append(f"{path.name} cannot be read ({getattr(error, 'strerror', None) or 'it is not text'})")
    return ""


def _summary(path: Path, files: dict[Path, os.stat_result], notes: list[str]) -> dict[str, Any]:
    """What `summary.json` holds; empty, with a note, where it is damaged."""
    if path not in files:
        return {}
    try:
        summary = json.loads(_text(path, files, notes) or "{}")
    except (ValueError, RecursionError):
        summary = None
    if isinstance(summary, dict):
        return summary
    notes.append(f"{path.name} is damaged")
    return {}


def _metrics(path: Path, notes: list[str]) -> tuple[int, str | None, float | None]:
    """The last step in a file of metrics, and the best accuracy of a probe with its name."""
    step, probe, best = 0, None, None
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            names = file.readline().strip().split(",")
            probed = {
                column: name for column, name in enumerate(names) if name.startswith(PROBED) and name.endswith(ACCURACY)
            }
            for line in file:
                cells = line.rstrip("\n").split(",")
                step = int(cells[0]) if cells[0].isdecimal() else step
                for column, name in probed.items():
                    value = _number(cells[column]) if column < len(cells) else None
                    if value is not None and (best is None or value > best):
                        probe, best = name, value
    except OSError as error:
        notes.append(f"{path.name} cannot be read ({error.strerror})")
    return step, probe, best


def _number(text: str) -> float | None:
    """The accuracy in a cell; None: it is empty, or the row was not written to its end."""
    try:
        return value if 0 <= (value := float(text)) <= 1 else None
    except ValueError:
        return None
