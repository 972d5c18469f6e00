"""One job at a time writes into a run folder."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_warn

FILE = ".lock"
PATIENCE = 1.0
"""Seconds that a lock is waited for: who only looks holds it for a moment."""


class FolderInUse(OSError):
    """Another job writes into the run folder."""


class FolderLock:
    """The right to write into a run folder, held by rank 0 of a job until it is released, or until
    the process ends: the kernel then frees it, also after a SIGKILL.

    The lock is the process's (POSIX, `lockf`): one of the open file (`flock`, and so filelock)
    would live on in workers for the data, which were forked and outlive a killed process by
    seconds.
    """

    def __init__(self) -> None:
        self.file: int | None = None

    def take(self, folder: Path) -> None:
        """Takes the lock of a run folder, and notes there who holds it.

        Raises:
            FolderInUse: another process holds it; the message says which, and what to do.
        """
        self.release()
        self.file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(self.file, fcntl.LOCK_EX):
                raise in_use(folder)
        except OSError:
            self.release()
            raise
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, f"process {os.getpid()} on {platform.node()} since {since}".encode(), 0)

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
        return not _lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    """Locks an open file; False where another process has locked it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                rank_zero_warn(
                    f"The file system has no locks ({error.strerror}): let no two jobs write to one run folder."
                )
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
