"""Text files by path, folder or pattern."""

from __future__ import annotations

import glob
import lzma
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...plugins.messages import did_you_mean, printable
from ..files.contents import digests
from ..files.file_list import FileList, list_files
from ..files.scan import holds, scan
from ..files.source import Unreadable
from ..files.split_names import division
from ..groups import group_in
from ..ledger import LeftOut, Tally
from .documents import PIECE, Corpus, Counts, Piece
from .encodings import HEAD, looks_like
from .formats import (
    MARKED_UP,
    NAMES,
    SUFFIXES,
    TABLES,
    Division,
    form_of,
    holds_text,
    is_about,
    opened_bytes,
    read_file,
)
from .tables import Columns

NOTES = (*MARKED_UP, ".html", ".htm")
"""Suffixes of what lies beside tables and is not data."""
MOST_UNDECODABLE = 0.001
"""The fraction of a file's characters that may be bytes that are not of its encoding."""

ENDINGS = frozenset(map(os.fsencode, SUFFIXES))


@dataclass(frozen=True)
class Files(Corpus):
    """The documents of files, one file after the other.

    Args:
        name: for messages.
        paths: of the files.
        columns: of tables.
        document: what counts as one in plain text.
        encoding: of files that are not Unicode; `auto`: there are none.
        max_undecodable: the fraction of a file's characters that may be bytes not of its encoding,
            which become U+FFFD; a file with more is refused.
        group_pattern: finds the group of a file's documents in its path, relative to `root`.
        root: the folder of all.
    """

    name: str
    paths: tuple[Path, ...]
    columns: Columns = field(default_factory=Columns)
    document: Division = "paragraph"
    encoding: str = "auto"
    max_undecodable: float = MOST_UNDECODABLE
    group_pattern: re.Pattern[str] | None = None
    root: Path = Path("/")

    @property
    def labelled(self) -> bool:  # type: ignore[override]  # follows from the columns
        return self.columns.label is not None

    @property
    def size(self) -> int:
        total = 0
        for path in self.paths:
            with _readable(path):
                total += path.stat().st_size
        return total

    def identity(self) -> list[Any]:
        with _readable(self.paths[0]):
            contents = digests(self.paths)
        files = [
            [form_of(path), content, self._group(path)] for path, content in zip(self.paths, contents, strict=True)
        ]
        return [*self.columns, self.document, self.encoding, self.max_undecodable, files]

    def read(self, counts: Counts) -> Iterator[Piece]:
        for path in self.paths:
            with _readable(path):
                before, characters, next_look = counts.replaced, 0, 16 * PIECE
                for piece in read_file(path, self.columns, self.document, counts, self.encoding, self._group(path)):
                    characters += len(piece.text)
                    if characters > next_look:  # not only when all of a large file has been read
                        self._check(path, counts.replaced - before, characters)
                        next_look *= 2
                    yield piece
                self._check(path, counts.replaced - before, characters)

    def _check(self, path: Path, replaced: int, characters: int) -> None:
        """Raises Unreadable if too much of a file is not of its encoding."""
        if replaced <= self.max_undecodable * characters:
            return
        name = "UTF-8" if self.encoding == "auto" else self.encoding
        hint, form = "", form_of(path)
        if form is not None and form.suffix != ".parquet":
            with opened_bytes(path) as file:
                guess = looks_like(file.read(HEAD))
            hint = f" It looks like {guess}: --data.encoding {guess.split()[0]}." if guess else " Give --data.encoding."
        raise Unreadable(
            f"{printable(path)}: {replaced:,} of {characters:,} characters are bytes that are not {name}.{hint} To read"
            " U+FFFD in their place: --data.max_undecodable 1."
        )

    def _group(self, path: Path) -> str | None:
        if self.group_pattern is None:
            return None
        return group_in(self.group_pattern, Path(os.path.relpath(path, self.root)).as_posix())


def find_files(path: str) -> tuple[Path, ...]:
    """Returns the text files at a path, sorted: a file, all files below a folder, or those that a
    pattern (`*.txt`, `**/*.csv`) matches.

    Below a folder, files such as `README.md` and `LICENSE` are left out, marked up text and files
    without suffix beside tables too, and files without suffix that are not text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file has another suffix, or a folder does not contain text files.
    """
    absolute = Path(os.path.abspath(os.path.expanduser(path)))
    folder = absolute.parent
    if absolute.is_dir():
        below = list_files(absolute, SUFFIXES, cache=None)
        files = [Path(below[number]) for number in range(len(below))]
        texts = tuple(file for file, reason in zip(files, reasons_against(files), strict=True) if not reason)
        if not texts:
            raise ValueError(f"None of the {len(files):,} files below {printable(absolute)} is a text: {NAMES}.")
        return texts
    if absolute.exists():
        return (_readable_form(absolute),)
    if glob.has_magic(path):
        matches = sorted(name for name in glob.glob(str(absolute), recursive=True) if os.path.isfile(name))
        if not matches:
            raise FileNotFoundError(f"The pattern {path!r} does not match any file.")
        return tuple(_readable_form(Path(name)) for name in matches)
    near = did_you_mean(absolute.name, [entry.name for entry in folder.iterdir()] if folder.is_dir() else ())
    raise FileNotFoundError(f"There is no file or folder {absolute.name!r} in {folder}.{near}")


def reasons_against(files: Sequence[Path]) -> list[str]:
    """Returns for each file below a folder why it is not read; empty: it is."""
    forms = [form_of(file) for file in files]
    tables = any(form is not None and form.suffix in TABLES for form in forms)

    def reason(file: Path) -> str:
        if is_about(file):
            return "tell of the data"
        if tables and file.suffix.lower() in NOTES:
            return "are text beside tables"
        with _readable(file):
            return "" if holds_text(file) else "are not text"

    return [reason(file) for file in files]


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
    texts = [Path(below[number]) for number in range(len(below))]
    rest: dict[str, list[Path]] = {}
    for file, reason in zip(texts, reasons_against(texts), strict=True):
        if str(file) not in used:
            rest.setdefault(reason or "are in no split", []).append(file)
    option = {"are in no split": "--data.splits none", "are not text": ""}
    left_out = [
        LeftOut(
            reason,
            len(those),
            printable(os.path.relpath(those[0], folder)),
            option.get(reason, f"--data.path '{path}/**/*{those[0].suffix}'"),
        )
        for reason, those in rest.items()
    ]
    left_out += below.left_out
    return Tally("files", "files", {"documents": len(texts) - sum(map(len, rest.values()))}, left_out)


def _inside(folder: Path) -> tuple[list[Path], bool]:
    """The text files in a folder, and the folders in it that hold some."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in entries if _is_entry(entry)), False


def _is_entry(path: Path) -> bool:
    return holds(path, ENDINGS) if path.is_dir() else form_of(path) is not None and not is_about(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns an error of the operating system, or of a compressed file, into one that says which
    file cannot be read."""
    try:
        yield
    except OSError as error:
        raise Unreadable(f"{printable(error.filename or path)}: {error.strerror or error}.") from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise Unreadable(f"{printable(path)} is damaged: {error}.") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{printable(path)} is not {error.encoding}: {error.reason}. Give --data.encoding.") from error


def _readable_form(path: Path) -> Path:
    if form_of(path) is None:
        raise ValueError(f"{path} ends in {path.suffix!r}, which is not a text format; give {NAMES}.")
    with _readable(path):
        if path.is_file() and not holds_text(path):
            raise ValueError(f"{path} holds bytes that are not text.")
    return path
