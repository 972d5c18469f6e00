"""Checkpoint files are read here: only whole ones, and without running any code in them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .moved import renamed_states

EXPANSION = 16
"""Bytes of tensors per byte of the file, at most: views may share a storage."""
SMALL = 64 << 20
"""Bytes of tensors that any file may hold."""


def is_whole(path: Path) -> bool:
    """Whether the archive's checksums hold, which reveals a flipped bit or a truncated end; torch
    would load a flipped bit silently. One that would unpack to more than its size is not."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch compresses nothing, so that a larger sum is one of parts that multiply.
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                return False
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)  # the headers, which have no checksum
    except UnpicklingError:
        return True  # it is whole, though `read` refuses it
    except Exception:  # a damaged header can make both raise any error
        return False
    return True


def read(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's dictionary, of tensors and plain values only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a whole checkpoint, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}.")
    if not is_whole(path):
        raise ValueError(
            f"{str(path)!r} is not a whole checkpoint: it was truncated or damaged. `--resume auto` takes the newest"
            " whole one."
        )
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} holds more than tensors and plain values, so it is not opened: {error}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{str(path)!r} holds a {type(checkpoint).__name__}, not a checkpoint.")
    check_size(checkpoint, path)
    if isinstance(checkpoint.get("callbacks"), dict):
        checkpoint["callbacks"] = renamed_states(checkpoint["callbacks"])
    return checkpoint


def check_size(value: Any, path: Path) -> None:
    """Raises ValueError where tensors in nested dicts and lists are far larger than the file that
    they were read from."""
    if _bytes_in(value) > SMALL + EXPANSION * path.stat().st_size:
        raise ValueError(f"{str(path)!r} holds tensors far larger than itself: it is damaged or crafted.")


def _bytes_in(value: Any) -> int:
    """Bytes of all tensors in nested dicts and lists, as they would take when copied; each object
    counts once."""
    size, waiting, seen = 0, [value], set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            size += value.numel() * value.element_size()
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return size
