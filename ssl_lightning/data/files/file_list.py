"""The files below a folder, listed once: millions of names without millions of objects."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...plugins.messages import did_you_mean, printable
from ..ledger import LeftOut
from . import table_cache as file_cache
from .scan import Table, fingerprint_of, scan

RECENT = 2_000_000_000
"""Nanoseconds: the coarsest clock by which a file system dates a folder's last change."""


class Level(NamedTuple):
    """The folder that each file lies in, of those right below the root, or of those that hold it.

    Attributes:
        names: of the folders that files lie in or below, in order.
        of_file: [N] int64, the position in `names`; -1 for a file at the root.
        one_level: whether every file lies right in one folder right below the root, neither at the
            root nor deeper.
    """

    names: list[str]
    of_file: np.ndarray
    one_level: bool


class FileList:
    """Absolute paths by number: `files[i]`, in an order that depends on the names alone.

    A folder's files come in the order of their names' bytes, then its folders in theirs, each with
    all that is in it.

    Args:
        root: the folder that all lie below.
        table: the names.
        fingerprint: a hash of the names relative to the root, in order.
        cached: the file that `table` is mapped from; it is what is pickled then.
    """

    def __init__(self, root: Path, table: Table, fingerprint: str, cached: Path | None = None) -> None:
        self.root, self.fingerprint = root, fingerprint
        self._table, self._cached = table, cached

    def __len__(self) -> int:
        return len(self._table.offsets) - 1

    def __getitem__(self, index: int) -> str:
        return os.path.join(self.root, self.relative(index))

    def relative(self, index: int) -> str:
        """The path relative to the root, with `/` on every system."""
        index = range(len(self))[index]
        table = self._table
        folder = table.folder(int(np.searchsorted(table.starts, index, side="right")) - 1)
        name = table.names[table.offsets[index] : table.offsets[index + 1]].tobytes()
        return os.fsdecode(folder + b"/" + name if folder else name)

    @property
    def left_out(self) -> list[LeftOut]:
        """What lies below the folder and is none of these files."""
        return [LeftOut(*each) for each in json.loads(self._table.left_out.tobytes())]

    def folders(self, last: bool = False) -> Level:
        """The folders right below the root, such as one for each class, and the one that each file
        is in; for `last` those that hold the files, however deep: folders of one name are one."""
        table = self._table
        counts = np.diff(table.starts)
        inside = [table.folder(index) for index in np.flatnonzero(counts).tolist()]
        of_each = [folder.rpartition(b"/")[2] if last else folder.partition(b"/")[0] for folder in inside]
        names = sorted({name for name in of_each if name})
        numbers = {name: number for number, name in enumerate(names)}
        of_folder = np.full(len(counts), -1)
        of_folder[counts > 0] = [numbers.get(name, -1) for name in of_each]
        one_level = all(folder and b"/" not in folder for folder in inside)
        return Level([os.fsdecode(name) for name in names], np.repeat(of_folder, counts), one_level)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._cached:
            return _reopened, (self.root, self._cached, self.fingerprint)
        return FileList, (self.root, self._table, self.fingerprint)


class JoinedLists:
    """The files of several folders, one after the other, as one `FileList`.

    Args:
        parts: the files of each folder.
    """

    def __init__(self, parts: Sequence[FileList]) -> None:
        self.parts, self.root = list(parts), Path(os.path.commonpath([part.root for part in parts]))
        self._starts = np.cumsum([0, *map(len, self.parts)])
        digest = hashlib.blake2b(digest_size=16)
        for part in self.parts:
            digest.update(f"{part.root.relative_to(self.root)} {part.fingerprint}\n".encode(errors="surrogateescape"))
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.parts[part][index - int(self._starts[part])]

    @property
    def left_out(self) -> list[LeftOut]:
        return [
            each._replace(example=f"{part.root.name}/{each.example}") for part in self.parts for each in part.left_out
        ]

    def folders(self, last: bool = False) -> Level:
        """As those of a `FileList`, below the folders that are joined; folders of one name are
        one."""
        parts = [part.folders(last) for part in self.parts]
        names = sorted({name for part in parts for name in part.names}, key=os.fsencode)
        numbers = {name: number for number, name in enumerate(names)}
        of_file = [np.array([*(numbers[name] for name in part.names), -1])[part.of_file] for part in parts]
        return Level(names, np.concatenate(of_file), all(part.one_level for part in parts))


def list_files(root: str | Path, suffixes: Collection[str], cache: str | Path | None = "default") -> FileList:
    """All files below a folder whose names end in one of `suffixes`, from the cache where no folder
    has changed.

    Links to files and folders are followed; a link to a folder that it lies in is not. Hidden files
    and folders are skipped, and the folders of runs.

    Args:
        root: the folder.
        suffixes: such as `.jpg`, in any case; one dot each; the empty one: names without any.
        cache: the folder of cached lists: by default `default_folder()`; None for no cache. A
            folder that cannot be written is done without.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError: there is no such folder, or it or
            one below may not be read.
        ValueError: no file below it has such a name.
    """
    folder = Path(os.path.abspath(os.path.expanduser(root)))
    if not folder.is_dir():
        raise _no_folder(folder)
    wanted = frozenset(os.fsencode("." * bool(suffix) + suffix.lower().lstrip(".")) for suffix in suffixes)
    cached = file_cache.path_of(cache, folder, wanted)
    if cached and (listed := file_cache.load(cached)) and file_cache.unchanged(folder, listed[0]):
        return FileList(folder, *listed, cached)
    began = time.time_ns()
    table = scan(folder, wanted)
    fingerprint = fingerprint_of(table)
    settled = int(table.stamps.max()) < began - RECENT
    if (
        cached
        and settled
        and file_cache.save(cached, table, fingerprint)
        and (listed := file_cache.load(cached))
        and listed[1] == fingerprint
    ):
        return FileList(folder, *listed, cached)
    return FileList(folder, table, fingerprint)


def _reopened(root: Path, cached: Path, fingerprint: str) -> FileList:
    listed = file_cache.load(cached)
    if not listed or listed[1] != fingerprint:
        raise RuntimeError(
            f"The list of the files below {root} was replaced while this run started, since files came or went. Start"
            " it again."
        )
    return FileList(root, *listed, cached)


def _no_folder(path: Path) -> OSError:
    while not path.exists() and not path.parent.exists():
        path = path.parent
    above = path.parent
    for each in (path, above):
        if each.exists() and not each.is_dir():
            return NotADirectoryError(f"{printable(each)} is a file, not a folder.")
    try:
        near = did_you_mean(path.name, [entry.name for entry in above.iterdir()])
    except OSError:
        near = ""
    return FileNotFoundError(f"There is no folder {printable(path.name)!r} in {printable(above)}.{near}")
