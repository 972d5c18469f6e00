"""Checkpoint files are read here: only whole ones, and without running any code in them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .moved import renamed_states


def is_whole(path: Path) -> bool:
    """Whether the archive's checksums hold, which reveals a flipped bit or a truncated end; torch
    would load a flipped bit silently."""
    try:
        with zipfile.ZipFile(path) as archive:
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
    if isinstance(checkpoint.get("callbacks"), dict):
        checkpoint["callbacks"] = renamed_states(checkpoint["callbacks"])
    return checkpoint
