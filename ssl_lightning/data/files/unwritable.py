"""What is wrong where something cannot be written, in one line: the path, the reason, the space
that is needed and free, and what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOM, RIGHTS = "Make room there.", "Let this process write there, or choose another folder."
GONE = "The folder was removed, or its disk is no longer there."
REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: ROOM,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EROFS: RIGHTS,
    errno.ENOENT: GONE,
    errno.ENOTDIR: GONE,
    errno.ESTALE: GONE,
    errno.EIO: "Check the disk and its connection.",
}
"""What to do about each of the errors that a write meets."""
WRITERS = ("PytorchStreamWriter", "inline_container", "unexpected pos")
"""Words in torch's errors where it cannot write; it does not say why."""


class Unwritable(OSError):
    """Something cannot be written; the message is one line for the user.

    Args:
        message: the line.
        reason: the part of it that says why.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def explained(path: str | Path, size: int = 0) -> Iterator[None]:
    """Errors of writing within become `Unwritable`, whichever library wrote; others pass.

    Args:
        path: what is written, in the words of the message.
        size: bytes that it needs; 0: not known.
    """
    try:
        yield
    except Unwritable:
        raise
    except Exception as error:
        cause = _cause(error, Path(path).parent)
        if cause is None:
            raise
        reason = f"{cause.strerror}{_room(cause, Path(path).parent, size)}"
        raise Unwritable(f"{str(path)!r} cannot be written: {reason}. {REMEDIES[cause.errno or 0]}", reason) from error


def require_room(folder: Path, size: int) -> None:
    """Refuses to begin what the disk has no room for.

    Raises:
        OSError: fewer than `size` bytes are free.
    """
    free = _free(folder)
    if free is not None and free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _cause(error: BaseException, folder: Path) -> OSError | None:
    """The error of the operating system behind one of a library; None: it is not one of writing."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in REMEDIES and _concerns(link, folder):
            return link
        if code := re.search(r"os error (\d+)", str(link)):  # of a library in Rust
            return OSError(int(code[1]), os.strerror(int(code[1]))) if int(code[1]) in REMEDIES else None
        link = link.__cause__ or link.__context__
    if isinstance(error, RuntimeError) and any(word in str(error) for word in WRITERS):
        free = _free(folder)
        number = errno.ENOSPC if free is not None and free < 1 << 20 else errno.EIO
        return OSError(number, os.strerror(number))
    return None


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error is of this folder, not of a file elsewhere that is read meanwhile."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return True
    file, where = Path(os.path.abspath(error.filename)), Path(os.path.abspath(folder))
    return file.is_relative_to(where) or where.is_relative_to(file)


def _room(error: OSError, folder: Path, size: int) -> str:
    free = _free(folder)
    if REMEDIES[error.errno or 0] != ROOM or free is None:
        return ""
    needs = f"it needs {_megabytes(size)}; " if size else ""
    return f" ({needs}{_megabytes(free)} free in {str(folder)!r})"


def _free(folder: Path) -> int | None:
    """Bytes that this process may still write; None: not known."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return None
    if not disk.total:  # a file system that does not say
        return None
    is_root = getattr(os, "geteuid", lambda: 1)() == 0
    return disk.total - disk.used if is_root else disk.free  # root may use what is reserved


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
