"""One walk through a folder, to a table of names: some 25 bytes for each file, in arrays that
forked workers share."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...plugins.messages import printable

SKIPPED = frozenset((b"__MACOSX", b"@eaDir", b"lost+found", b"$RECYCLE.BIN", b"System Volume Information"))
"""Folders that file systems and archives make for themselves; hidden files and folders are skipped
too."""
RUN_FOLDER = frozenset((b"config.yaml", b"checkpoints"))
"""What a run writes first of all into its folder, whose plots are nobody's samples."""


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
    """

    starts: np.ndarray
    offsets: np.ndarray
    folder_offsets: np.ndarray
    stamps: np.ndarray
    names: np.ndarray
    folders: np.ndarray

    def folder(self, index: int) -> bytes:
        return self.folders[self.folder_offsets[index] : self.folder_offsets[index + 1]].tobytes()


def stamp(state: os.stat_result) -> tuple[int, int]:
    """What tells whether a folder has changed: the second cannot be set back, as unpacking an
    archive does with the first."""
    return state.st_mtime_ns, state.st_ctime_ns


def scan(root: Path, suffixes: frozenset[bytes]) -> Table:
    base = os.fsencode(root)
    names, folders = bytearray(), bytearray()
    lengths: list[np.ndarray] = []
    folder_offsets, starts, stamps = [0], [0], []
    others: Counter[bytes] = Counter()
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
            files, below = _entries(path, suffixes, others)
        except PermissionError as error:
            raise PermissionError(f"This user may not list the folder {printable(path)}.") from error
        names += b"".join(files)
        lengths.append(np.fromiter(map(len, files), np.int64, len(files)))
        folders += folder
        folder_offsets.append(len(folders))
        starts.append(starts[-1] + len(files))
        stamps.append(stamp(state))
        # With `/` on every system, as the lists of files and of classes read them.
        inside = folder and folder + b"/"
        waiting += [(inside + name, (*above, identity)) for name in reversed(below)]
    if not starts[-1]:
        raise _nothing_found(root, suffixes, others)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])
    return Table(
        np.array(starts),
        offsets,
        np.array(folder_offsets),
        np.array(stamps),
        np.frombuffer(names, np.uint8),
        np.frombuffer(folders, np.uint8),
    )


def _entries(path: bytes, suffixes: frozenset[bytes], others: Counter[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The names of a folder's wanted files and of its folders, sorted; none of a run's folder.
    Counts the suffixes of its other files in `others`."""
    files, folders, of_run = [], [], set()
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name in RUN_FOLDER:
                of_run.add(name)
            if name.startswith(b".") or name in SKIPPED:
                continue
            suffix = name[name.rfind(b".") :].lower()
            if suffix in suffixes and not entry.is_dir(follow_symlinks=False):
                files.append(name)  # or a link, maybe a broken one: reading it tells
            elif entry.is_dir():
                folders.append(name)
            else:
                others[suffix if suffix.startswith(b".") else b""] += 1
    return ([], []) if of_run == RUN_FOLDER else (sorted(files), sorted(folders))


def fingerprint_of(table: Table) -> str:
    """A hash of the relative names in order; folders without files do not count."""
    digest = hashlib.blake2b(digest_size=16)
    for index in np.flatnonzero(np.diff(table.starts)).tolist():
        offsets = table.offsets[table.starts[index] : table.starts[index + 1] + 1]
        digest.update(table.folder(index) + b"\0" + np.diff(offsets).astype("<i8").tobytes())
        digest.update(table.names[offsets[0] : offsets[-1]].tobytes())
    return digest.hexdigest()


def _nothing_found(root: Path, suffixes: frozenset[bytes], others: Counter[bytes]) -> ValueError:
    wanted = ", ".join(printable(suffix) for suffix in sorted(suffixes))
    if not others:
        return ValueError(f"The folder {printable(root)} holds no files. Names that end in {wanted} were looked for.")
    endings = ", ".join(
        f"{printable(suffix) or 'without suffix'} ({number:,})" for suffix, number in others.most_common(5)
    )
    return ValueError(
        f"None of the {others.total():,} files below {printable(root)} ends in {wanted}. They are: {endings}."
    )
