"""What is kept between runs, and where; among it tables of names: one file for each folder listed,
mapped into memory, valid while no folder below changes."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np

from .atomic import atomic
from .kept import default_folder
from .scan import Table, stamp

VERSION = 2
HEADER = 1024
"""Bytes of JSON, padded with spaces, before the arrays: a multiple of 8, so that the integers stay
aligned."""
SECTIONS = [field.name for field in fields(Table)]
BYTES = ("names", "folders", "left_out")


def path_of(cache: str | Path | None, root: Path, suffixes: frozenset[bytes]) -> Path | None:
    """The file for a folder and the suffixes looked for; None where there is no cache."""
    if cache is None:
        return None
    key = b"\0".join([os.fsencode(os.path.realpath(root)), *sorted(suffixes)])
    folder = default_folder() if cache == "default" else Path(cache).expanduser()
    return folder / f"files-{hashlib.sha256(key).hexdigest()[:32]}.bin"


def save(path: Path, table: Table, fingerprint: str) -> bool:
    """Writes the table in one step, so that a reader meets the old or the new one; False where it
    may not be written."""
    arrays = [np.ascontiguousarray(getattr(table, name)) for name in SECTIONS]
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(array.data, checksum)
    header = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "checksum": checksum,
        "sizes": [array.nbytes for array in arrays],
    }
    try:
        with atomic(path) as temporary, temporary.open("wb") as file:
            file.write(json.dumps(header).encode().ljust(HEADER))
            for array in arrays:
                file.write(array.data)
    except OSError:
        return False
    return True


def load(path: Path) -> tuple[Table, str] | None:
    """The table and its fingerprint; None where the file is missing, damaged or of another
    version."""
    try:
        raw = np.asarray(np.memmap(path, np.uint8, mode="r"))
        header = json.loads(raw[:HEADER].tobytes())
        sizes, fingerprint = header["sizes"], str(header["fingerprint"])
        if (
            header["version"] != VERSION
            or HEADER + sum(sizes) != len(raw)
            or zlib.crc32(raw[HEADER:].data) != header["checksum"]
        ):
            return None
        sections, start = {}, HEADER
        for name, size in zip(SECTIONS, sizes, strict=True):
            section = raw[start : start + size]
            sections[name] = section if name in BYTES else section.view(np.int64)
            start += size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sections["stamps"] = sections["stamps"].reshape(-1, 2)
    return Table(**sections), fingerprint


def unchanged(root: Path, table: Table) -> bool:
    """Whether every folder of the table bears the same dates as when it was listed."""
    base = os.fsencode(root)
    try:
        return all(
            list(stamp(os.stat(os.path.join(base, table.folder(index))))) == dates
            for index, dates in enumerate(table.stamps.tolist())
        )
    except OSError:
        return False
