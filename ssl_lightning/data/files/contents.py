"""What identifies a file: its content, whatever its name, its folder and its dates."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .atomic import atomic
from .kept import default_folder, key_of, writing

CHEAP = 64 << 20
"""Files of up to so many bytes together are read each time, in a tenth of a second."""
RECENT = 2_000_000_000
"""Nanoseconds: a file that changed so shortly before it was read may change again without a new
date, on the coarsest clock of file systems."""
BLOCK = 1 << 20


def stamp(state: os.stat_result) -> list[int]:
    """Returns size, dates and number of a file: they change when it is written or replaced, even by
    one of equal size and date of change, since the second date cannot be set back."""
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino & (1 << 63) - 1]


def digests(paths: Sequence[Path]) -> list[str]:
    """Returns a hash of each file's content. Those of larger files are kept, and a file is read
    again where its stamp has changed.

    Raises:
        OSError: a file cannot be read, or the cache folder cannot be written.
    """
    stamps = [stamp(path.stat()) for path in paths]
    if sum(size for size, *_ in stamps) <= CHEAP:
        return [_digest(path).hex() for path in paths]
    cached = default_folder() / f"contents-{key_of([os.fsdecode(path) for path in paths])}.pt"
    known = _known(cached, stamps)
    began = time.time_ns()
    read = [_digest(path) if digest is None else digest for path, digest in zip(paths, known, strict=True)]
    if None in known:
        settled = [max(each[1:3]) < began - RECENT for each in stamps]
        with writing(cached.parent), atomic(cached) as temporary:
            torch.save((torch.tensor(stamps), _table(read), torch.tensor(settled)), temporary)
    return [digest.hex() for digest in read]


def _known(cached: Path, stamps: list[list[int]]) -> list[bytes | None]:
    """The kept hash of each file; None where its stamp has changed."""
    try:
        content: Any = torch.load(cached, weights_only=True)
        same = (content[0] == torch.tensor(stamps)).all(1) & content[2]
        rows = content[1].numpy()
        return [row.tobytes() if equal else None for row, equal in zip(rows, same.tolist(), strict=True)]
    except Exception:  # none, or a damaged one: torch raises many kinds
        return [None] * len(stamps)


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.digest()


def _table(read: list[bytes]) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(read)), dtype=torch.uint8).view(-1, 16)
