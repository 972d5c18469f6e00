"""Reading a checkpoint's file: whole, and nothing in it runs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .moved import renamed_states


def is_whole(path: Path) -> bool:
    """Whether the archive's checksums hold: a flipped bit or a torn end is found here, torch would
    load the former in silence."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)  # the headers, which have no checksum
    except UnpicklingError:
        return True  # whole, though `read` will not open it
    except Exception:  # a damaged header makes both raise whatever its bytes happen to mean
        return False
    return True


def read(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's dictionary; tensors and plain values only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no whole checkpoint, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}.")
    if not is_whole(path):
        raise ValueError(
            f"{str(path)!r} is no whole checkpoint: it was cut off or damaged. `--resume auto` takes the newest whole"
            " one."
        )
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} holds more than tensors and plain values, and is not opened: {error}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{str(path)!r} holds a {type(checkpoint).__name__}, no checkpoint.")
    if isinstance(checkpoint.get("callbacks"), dict):
        checkpoint["callbacks"] = renamed_states(checkpoint["callbacks"])
    return checkpoint
