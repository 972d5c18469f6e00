"""Checkpoints: written whole or not at all, read with `weights_only`, and complete enough to
rebuild their method."""

from __future__ import annotations

import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ..data.files.atomic import atomic

PATTERN = "step-{step:08d}.ckpt"


class AtomicIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all: a killed process leaves the old file or the new
    one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read(path, map_location or "cpu")


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
    return checkpoint


def find_newest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a `checkpoints` folder."""
    return next((path for path in sorted(folder.glob("step-*.ckpt"), reverse=True) if is_whole(path)), None)


def newest_of(path: str | Path) -> Path:
    """The checkpoint itself, or the newest whole one of a run folder.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    newest = find_newest(path / "checkpoints") or find_newest(path)
    if newest is None:
        raise FileNotFoundError(f"There is no whole checkpoint in {str(path)!r}.")
    return newest
