"""Text files by path, folder or pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...plugins.messages import did_you_mean, printable
from ..files.file_list import FileList, list_files
from ..files.scan import holds, scan
from ..files.source import Unreadable
from ..files.split_names import division
from ..ledger import LeftOut, Tally
from .documents import Corpus, Counts, Piece
from .formats import SUFFIXES, Columns, Division, read_file

ENDINGS = frozenset(map(os.fsencode, SUFFIXES))


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


def find_splits(path: str, splits: Literal["auto", "none"] = "auto") -> dict[str, tuple[Path, ...]]:
    """Returns the text files of `train`, `val`, `test` and `pretrain`: by the names of a folder's
    entries, where these divide it (`split_names.division`); else, or with `none`, all files are
    `train`."""
    folder = Path(os.path.abspath(os.path.expanduser(path)))
    by_split = division(folder, _inside) if folder.is_dir() and splits == "auto" else {}
    if not by_split:
        return {"train": find_files(path)}
    return {
        split: tuple(file for entry in entries for file in find_files(str(entry)))
        for split, entries in by_split.items()
    }


def beside_splits(path: str, files: Mapping[str, Sequence[Path]]) -> Tally | None:
    """The files of a folder: those that hold the documents of its splits, and the others."""
    folder = Path(os.path.abspath(os.path.expanduser(path)))
    if not folder.is_dir():
        return None
    below = FileList(folder, scan(folder, ENDINGS, none_do=True), "")
    used = {os.path.abspath(file) for each in files.values() for file in each}
    rest = [name for name in map(below.__getitem__, range(len(below))) if name not in used]
    left_out = list(below.left_out)
    if rest:
        example = printable(os.path.relpath(rest[0], folder))
        left_out.insert(0, LeftOut("are in no split", len(rest), example, "--data.splits none"))
    return Tally("files", "files", {"documents": len(below) - len(rest)}, left_out)


def _inside(folder: Path) -> tuple[list[Path], bool]:
    """The text files in a folder, and the folders in it that hold some."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(
        entry for entry in entries if (holds(entry, ENDINGS) if entry.is_dir() else entry.suffix.lower() in SUFFIXES)
    ), False


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
