"""Files and folders that are written whole or not at all: who reads, or goes on after a kill, meets
the old one or the new one.

    with atomic(path) as temporary:
        save_file(tensors, temporary)
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from .unwritable import explained, require_room

WINDOWS = os.name == "nt"
ABANDONED = 3600.0
"""Seconds without a change after which what a killed process left counts as abandoned."""


@contextmanager
def atomic(path: str | Path, size: int = 0) -> Iterator[Path]:
    """Gives an empty file to write to, in the folder of `path`, and renames it to `path` when all
    that was written is on disk. An error removes it and leaves what `path` was.

    Several processes, threads and hosts may write to one path: the last one's file stays.

    Args:
        path: of the file; missing folders are created.
        size: bytes that will be written, for which there must be room; 0: not known.

    Raises:
        Unwritable: the folder cannot be written, or is full.
    """
    path = Path(path)
    with explained(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path)
        require_room(path.parent, size)
        temporary = beside(path)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            permissions = temporary.stat().st_mode & 0o666  # as the umask gives; safetensors would hide it from a group
            yield temporary
            temporary.chmod(permissions)
            to_disk(temporary)
            os.replace(temporary, path)
        finally:
            remove(temporary)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """As `atomic`, with an empty folder to write to; `path` is missing or an empty folder."""
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path)
        temporary = beside(path)
        temporary.mkdir()
        try:
            permissions = temporary.stat().st_mode & 0o666
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(permissions)
            to_disk(temporary)
            os.replace(temporary, path)
        finally:
            remove(temporary)
        _sync(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all. What UTF-8 does not have, the bytes of a
    file's name that are not text, is written as code, as JSON has it too."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with atomic(path, len(content)) as temporary:
        temporary.write_bytes(content)


def beside(path: Path) -> Path:
    """A hidden name in the same folder that no other process, thread or host takes."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def clear_abandoned(path: Path) -> None:
    """Removes what killed processes left of `path`; not what another writes now."""
    for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        with suppress(OSError):  # another process removes it too
            newest = max(part.stat().st_mtime for part in (left, *(left.iterdir() if left.is_dir() else ())))
            if time.time() - newest > ABANDONED:
                remove(left)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that it holds, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder with all that it holds, would survive a power cut."""
    if path.is_dir():
        for each in path.iterdir():
            to_disk(each)
    _sync(path)


def _sync(path: Path) -> None:
    if WINDOWS and path.is_dir():
        return  # it opens no folders; a rename is in the file system's journal
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)  # there, only who may write may sync
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.EBADF)):  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)
