"""Checkpoints: written whole or not at all, read with `weights_only`, and complete enough to
rebuild their method."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ...data.files.atomic import atomic
from ...plugins.archive import is_whole, read
from .names import ours


class AtomicIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all: a killed process, or a full disk, leaves the old file
    or the new one. What is written is read back before it gets its name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic(path, bytes_in(checkpoint)) as temporary:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
            if not is_whole(temporary):
                raise OSError(errno.EIO, "what was written reads back damaged")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read(path, map_location or "cpu")


def bytes_in(value: Any) -> int:
    """Bytes that the tensors in nested dicts and lists take in a file: a storage that several share
    counts once."""
    sizes, waiting = dict[int, int](), [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            sizes[value.untyped_storage()._cdata] = value.untyped_storage().nbytes()
        elif isinstance(value, (dict, list, tuple)):
            waiting += value.values() if isinstance(value, dict) else value
    return sum(sizes.values())


def find_newest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a `checkpoints` folder, of those that the run itself wrote."""
    return next((path for path in ours(folder) if is_whole(path)), None)


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
