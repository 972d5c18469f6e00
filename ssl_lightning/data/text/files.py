"""Text files by path, folder or pattern."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...plugins.messages import did_you_mean, printable
from ..files.file_list import list_files
from ..files.source import Unreadable
from .documents import Corpus, Counts, Piece
from .formats import SUFFIXES, Columns, Division, read_file

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "pretrain": ("unlabelled", "unlabeled", "pretrain"),
}
"""The names of files or folders of a split, up to the first character that is not a letter."""


@dataclass(frozen=True)
class Files(Corpus):
    """The documents of files, one file after the other."""

    name: str
    paths: tuple[Path, ...]
    columns: Columns = field(default_factory=Columns)
    document: Division = "paragraph"

    @property
    def labelled(self) -> bool:  # type: ignore[override]  # follows from the columns
        return self.columns.label is not None

    @property
    def size(self) -> int:
        return sum(state.st_size for _, state in self._states())

    def identity(self) -> list[Any]:
        files = [[str(path), state.st_size, state.st_mtime_ns] for path, state in self._states()]
        return [*self.columns, self.document, files]

    def read(self, counts: Counts) -> Iterator[Piece]:
        for path in self.paths:
            with _readable(path):
                yield from read_file(path, self.columns, self.document, counts)

    def _states(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.paths:
            with _readable(path):
                yield path, path.stat()


def find_files(path: str) -> tuple[Path, ...]:
    """Returns the text files at a path, sorted: a file, all files below a folder, or those that a
    pattern (`*.txt`, `**/*.csv`) matches.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file has another suffix, or a folder does not contain text files.
    """
    absolute = Path(os.path.abspath(os.path.expanduser(path)))
    folder = absolute.parent
    if absolute.is_dir():
        below = list_files(absolute, SUFFIXES, cache=None)
        return tuple(Path(below[number]) for number in range(len(below)))
    if absolute.exists():
        return (_of_known_suffix(absolute),)
    if glob.has_magic(path):
        matches = sorted(name for name in glob.glob(str(absolute), recursive=True) if os.path.isfile(name))
        if not matches:
            raise FileNotFoundError(f"The pattern {path!r} does not match any file.")
        return tuple(_of_known_suffix(Path(name)) for name in matches)
    near = did_you_mean(absolute.name, [entry.name for entry in folder.iterdir()] if folder.is_dir() else ())
    raise FileNotFoundError(f"There is no file or folder {absolute.name!r} in {folder}.{near}")


def find_splits(path: str) -> dict[str, tuple[Path, ...]]:
    """Returns the text files of `train`, `val`, `test` and `pretrain`: by the names of a folder's
    entries, if one of them is called train; else all files are `train`."""
    folder = Path(os.path.abspath(os.path.expanduser(path)))
    entries: dict[str, list[Path]] = {split: [] for split in NAMES}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = re.split(r"[^a-z]", entry.name.lower(), maxsplit=1)[0]
        split = next((split for split, names in NAMES.items() if name in names), None)
        if split and (entry.is_dir() or entry.suffix.lower() in SUFFIXES):
            entries[split].append(entry)
    if not entries["train"]:
        return {"train": find_files(path)}
    return {
        split: tuple(file for entry in named for file in find_files(str(entry)))
        for split, named in entries.items()
        if named
    }


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns an error of the operating system into one that says which file cannot be read."""
    try:
        yield
    except OSError as error:
        raise Unreadable(f"{printable(path)}: {error.strerror or error}.") from error


def _of_known_suffix(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} ends in {path.suffix!r}, which is not a text format; give {', '.join(SUFFIXES)}.")
    return path
