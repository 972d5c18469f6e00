"""One walk through a folder, to a table of names: some 25 bytes for each file, in arrays that
forked workers share."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...plugins.messages import printable

SKIPPED = frozenset((b"__MACOSX", b"@eaDir", b"lost+found", b"$RECYCLE.BIN", b"System Volume Information"))
"""Folders that file systems and archives make for themselves; hidden files and folders are skipped
too."""
RUN_FOLDER = frozenset((b"config.yaml", b"checkpoints"))
"""What a run writes first of all into its folder, whose plots are nobody's samples."""
HIDDEN, OF_THE_SYSTEM, OF_RUNS = "are hidden", "belong to the system or an archive", "are folders of runs"
MOST_SUFFIXES, MOST_SHOWN = 5, 200
"""Suffixes that are counted each; letters of an example's path."""


@dataclass(frozen=True)
class Table:
    """Names as bytes, each folder's files in one run.

    Attributes:
        starts: [D + 1], each folder's first file; the last is N.
        offsets: [N + 1], where each file's name begins in `names`.
        folder_offsets: [D + 1], where each folder's path begins in `folders`.
        stamps: [D, 2], when each folder and its entry were last changed, in ns.
        names: uint8, the file names without folders.
        folders: uint8, the folders' paths relative to the root, which is empty itself.
        left_out: uint8, the rest of what lies below the root, as JSON: reason, number and example.
    """

    starts: np.ndarray
    offsets: np.ndarray
    folder_offsets: np.ndarray
    stamps: np.ndarray
    names: np.ndarray
    folders: np.ndarray
    left_out: np.ndarray

    def folder(self, index: int) -> bytes:
        return self.folders[self.folder_offsets[index] : self.folder_offsets[index + 1]].tobytes()


def stamp(state: os.stat_result) -> tuple[int, int]:
    """What tells whether a folder has changed: the second cannot be set back, as unpacking an
    archive does with the first."""
    return state.st_mtime_ns, state.st_ctime_ns


def scan(root: Path, suffixes: frozenset[bytes], beside: Collection[bytes] = (), none_do: bool = False) -> Table:
    """Walks through a folder.

    Args:
        root: the folder.
        suffixes: of the files to look for, in lower case, each with its dot; the empty one: names
            without any.
        beside: folders right below the root that are passed over, and not counted.
        none_do: whether there may be no such file.

    Raises:
        PermissionError: a folder may not be listed.
        ValueError: there is no such file.
    """
    base = os.fsencode(root)
    names, folders = bytearray(), bytearray()
    lengths: list[np.ndarray] = []
    folder_offsets, starts, stamps = [0], [0], []
    others = Others()
    # Each folder that waits, and the identities of those above it: a link to one of them would lead
    # round in a circle.
    waiting: list[tuple[bytes, tuple[tuple[int, int], ...]]] = [(b"", ())]
    while waiting:
        folder, above = waiting.pop()
        path = os.path.join(base, folder)
        try:
            state = os.stat(path)  # before its names, so that a change in between is seen next time
            if (identity := (state.st_dev, state.st_ino)) in above:
                continue
            files, below = _entries(path, folder, suffixes, others)
        except PermissionError as error:
            raise PermissionError(f"This user may not list the folder {printable(path)}.") from error
        below = below if folder else [name for name in below if name not in beside]
        names += b"".join(files)
        lengths.append(np.fromiter(map(len, files), np.int64, len(files)))
        folders += folder
        folder_offsets.append(len(folders))
        starts.append(starts[-1] + len(files))
        stamps.append(stamp(state))
        # With `/` on every system, as the lists of files and of classes read them.
        inside = folder and folder + b"/"
        waiting += [(inside + name, (*above, identity)) for name in reversed(below)]
    if not starts[-1] and not none_do:
        raise _nothing_found(root, suffixes, others.suffixes)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])
    return Table(
        np.array(starts),
        offsets,
        np.array(folder_offsets),
        np.array(stamps),
        np.frombuffer(names, np.uint8),
        np.frombuffer(folders, np.uint8),
        np.frombuffer(json.dumps(others.by_reason()).encode(), np.uint8),
    )


def holds(folder: Path, suffixes: frozenset[bytes]) -> bool:
    """Whether `scan` would find a file below a folder, as far as the first one met tells."""
    waiting, seen = [os.fsencode(folder)], set()
    while waiting:
        path = waiting.pop()
        state = os.stat(path)
        if (identity := (state.st_dev, state.st_ino)) in seen:
            continue
        seen.add(identity)
        files, below = _entries(path, b"", suffixes, Others())
        if files:
            return True
        waiting += [os.path.join(path, name) for name in below]
    return False


class Others:
    """What lies below a folder and is not looked for, by reason, each with its first example. A
    folder that is passed over counts as one."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.suffixes: Counter[bytes] = Counter()
        self.examples: dict[str | bytes, str] = {}

    def add(self, kind: str | bytes, path: bytes) -> None:
        """Counts a path: bytes are the suffix of a file, words another reason."""
        (self.suffixes if isinstance(kind, bytes) else self.reasons)[kind] += 1  # type: ignore[index]
        if kind not in self.examples:
            self.examples[kind] = printable(path)[:MOST_SHOWN]

    def by_reason(self) -> list[tuple[str, int, str]]:
        """Reason, number and example of each, the suffixes that few files have in one."""
        frequent = self.suffixes.most_common(MOST_SUFFIXES)
        listed = [
            (f"end in {printable(suffix)}" if suffix else "have no suffix", number, self.examples[suffix])
            for suffix, number in frequent
        ]
        if rest := self.suffixes.total() - sum(number for _, number in frequent):
            first = next(suffix for suffix in self.suffixes if suffix not in dict(frequent))
            listed.append(("end otherwise", rest, self.examples[first]))
        return listed + [(reason, number, self.examples[reason]) for reason, number in self.reasons.items()]


def _entries(
    path: bytes, relative: bytes, suffixes: frozenset[bytes], others: Others
) -> tuple[list[bytes], list[bytes]]:
    """The names of a folder's wanted files and of its folders, sorted; none of a run's folder.
    Counts the rest in `others`."""
    files, folders, rest, of_run = [], [], [], set()
    inside = relative and relative + b"/"
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            kind: str | bytes | None = None
            suffix = name[name.rfind(b".") :].lower() if b"." in name else b""
            if name in RUN_FOLDER:
                of_run.add(name)
            if name.startswith(b"."):
                kind = HIDDEN
            elif name in SKIPPED:
                kind = OF_THE_SYSTEM
            elif suffix in suffixes and not entry.is_dir(follow_symlinks=False):
                files.append(name)  # or a link, maybe a broken one: reading it tells
            elif entry.is_dir():
                folders.append(name)
            else:
                kind = suffix
            if kind is not None:
                rest.append((kind, inside + name))
    if of_run == RUN_FOLDER:
        others.add(OF_RUNS, relative or b".")
        return [], []
    for each in sorted(rest, key=lambda pair: pair[1]):
        others.add(*each)
    return sorted(files), sorted(folders)


def fingerprint_of(table: Table) -> str:
    """A hash of the relative names in order; folders without files do not count."""
    digest = hashlib.blake2b(digest_size=16)
    for index in np.flatnonzero(np.diff(table.starts)).tolist():
        offsets = table.offsets[table.starts[index] : table.starts[index + 1] + 1]
        digest.update(table.folder(index) + b"\0" + np.diff(offsets).astype("<i8").tobytes())
        digest.update(table.names[offsets[0] : offsets[-1]].tobytes())
    return digest.hexdigest()


def _nothing_found(root: Path, suffixes: frozenset[bytes], others: Counter[bytes]) -> ValueError:
    wanted = ", ".join(printable(suffix) for suffix in sorted(suffixes) if suffix)
    if not others:
        return ValueError(f"The folder {printable(root)} holds no files. Names that end in {wanted} were looked for.")
    endings = ", ".join(
        f"{printable(suffix) or 'without suffix'} ({number:,})" for suffix, number in others.most_common(5)
    )
    return ValueError(
        f"None of the {others.total():,} files below {printable(root)} ends in {wanted}. They are: {endings}."
    )
