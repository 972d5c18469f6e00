"""One job at a time writes into a run folder."""

from __future__ import annotations

import errno
import os
import platform
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from ...data.files.unwritable import explained

FILE = ".lock"
PATIENCE = 1.0
"""Seconds that a lock is waited for: who only looks holds it for a moment."""
BEYOND = 2**30
"""The byte that is locked on Windows, beyond all that the file holds."""


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


fcntl, msvcrt = _module("fcntl"), _module("msvcrt")  # of Unix, and of Windows


class FolderInUse(OSError):
    """Another job writes into the run folder."""


class FolderLock:
    """The right to write into a run folder, held by rank 0 of a job until it is released, or until
    the process ends: the kernel then frees it, also after a SIGKILL.

    On Unix the lock is the process's (POSIX, `lockf`): one of the open file (`flock`, and so
    filelock) would live on in workers for the data, which were forked and outlive a killed process
    by seconds.
    """

    def __init__(self) -> None:
        self.file: int | None = None

    def take(self, folder: Path) -> None:
        """Takes the lock of a run folder, and notes there who holds it.

        Raises:
            FolderInUse: another process holds it; the message says which, and what to do.
        """
        self.release()
        with explained(folder / FILE):
            self.file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(self.file, shared=False):
                raise in_use(folder)
        except OSError:
            self.release()
            raise
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(self.file, 0)
            os.lseek(self.file, 0, os.SEEK_SET)
            os.write(self.file, f"process {os.getpid()} on {platform.node()} since {since}".encode())

    def release(self) -> None:
        """Gives the lock back, where it is held."""
        if self.file is not None:
            os.close(self.file)
        self.file = None


def in_use(folder: Path) -> FolderInUse:
    """What is wrong with a folder that another job writes into."""
    holder = (folder / FILE).read_text(errors="replace") or "another process"
    return FolderInUse(
        f"The run folder {str(folder)!r} is in use by {holder}; two jobs there would overwrite each other. Wait until"
        " it has ended, or stop it; `--resume none` starts a run of its own."
    )


def is_locked(folder: Path) -> bool:
    """Whether another job writes into a run folder now. Not for the process that writes: to close
    the file would give its lock back."""
    try:
        file = os.open(folder / FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(file, shared=True)
    finally:
        os.close(file)


def _lock(file: int, shared: bool) -> bool:
    """Locks an open file; False where another process has locked it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            _try_lock(file, shared)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                from pytorch_lightning.utilities import rank_zero_warn  # here: who only looks does not wait for torch

                rank_zero_warn(
                    f"The file system has no locks ({error.strerror}): let no two jobs write to one run folder."
                )
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.05)


def _try_lock(file: int, shared: bool) -> None:
    if fcntl is not None:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    elif msvcrt is not None:
        os.lseek(file, BEYOND, os.SEEK_SET)  # a byte that Windows locks is not read by others either
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
