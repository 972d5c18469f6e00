"""Checkpoints: written whole or not at all, read with `weights_only`, and complete enough to
rebuild their method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ..data.files.atomic import atomic
from ..plugins.archive import is_whole, read

PATTERN = "step-{step:08d}.ckpt"


class AtomicIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all: a killed process leaves the old file or the new
    one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read(path, map_location or "cpu")


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
