"""Ogg files that consist of several streams, one after the other: libsndfile reads the first alone,
and says nothing of the others."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

PAGE = b"OggS"
TAIL = 1 << 17
"""Bytes at the end of a file that contain the beginning of a page: a page has up to 65,307."""


def is_joined(path: str | Path) -> bool:
    """Whether the last page of an ogg file is of another stream than the first, by their serial
    numbers (RFC 3533, Section 6).

    Raises:
        OSError: the file cannot be read.
    """
    state = os.stat(path)
    return _is_joined(os.path.abspath(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _is_joined(path: str, size: int, _changed: int) -> bool:
    with open(path, "rb") as file:
        first = file.read(18)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    last = tail.rfind(PAGE)
    return last >= 0 and first[:4] == PAGE and tail[last + 14 : last + 18] != first[14:18]
