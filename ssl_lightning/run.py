"""The run folder: where a run writes, and how a later one finds it to go on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

from .checkpoint import find_newest, run_config
from .metrics import Metrics
from .record import class_path
from .registry import Registry
from .saving import Checkpoint


def short_name(group: str, value: Any) -> str:
    """The entry-point name of an object's class, as a part of a path; for a class without one, its path."""
    return Registry(group).name_of(class_path(type(value))).replace(":", "-")


def run_name(method: Any, datamodule: Any) -> str:
    """`<method>-<data>`, the folder that holds all runs of the two."""
    data = short_name("ssl_lightning.datamodules", datamodule) if datamodule is not None else "loaders"
    return f"{short_name('ssl_lightning.methods', method)}-{data}"


def find_resume(root: str | Path, method: str, data: str) -> Path | None:
    """The newest whole checkpoint of the newest run of this method and data; None where there is none.

    Args:
        root: `default_root_dir`.
        method, data: short names.
    """
    runs = sorted(
        (Path(root) / f"{method}-{data}".replace(":", "-")).glob("*/checkpoints"), key=lambda folder: folder.stat().st_mtime, reverse=True
    )
    return next((newest for newest in map(find_newest, runs) if newest is not None), None)


def folder_of(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint lies in, where it lies in one."""
    folder = Path(checkpoint).resolve().parent
    return folder.parent if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file() else None


class RunFolder(Callback):
    """Makes `<root>/<method>-<data>/<time>`, or goes on in the folder whose newest whole checkpoint the run is resumed from,
    and writes the complete `config.yaml`. The time is that of rank 0.

    From an older checkpoint a run branches off into a folder of its own, so that no folder holds two histories.
    """

    def __init__(self) -> None:
        self.path: Path | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        # Not in `setup`: Lightning knows `ckpt_path` when it has restored it.
        self.path = None if trainer.fast_dev_run else Path(trainer.strategy.broadcast(str(self._choose(trainer, pl_module))))
        for callback in trainer.callbacks:
            if isinstance(callback, Checkpoint):
                callback.folder = self.path / "checkpoints" if self.path else None
        if self.path and trainer.is_global_zero:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            for leftover in (self.path / "checkpoints").glob(".*.tmp"):  # of a process killed while it wrote
                leftover.unlink(missing_ok=True)
            (self.path / "config.yaml").write_text(run_config(pl_module))
        for callback in trainer.callbacks:
            if isinstance(callback, Metrics):
                callback.open(self.path if trainer.is_global_zero else None)

    def _choose(self, trainer: Any, pl_module: Any) -> Path:
        resumed = folder_of(trainer.ckpt_path) if trainer.ckpt_path else None
        if resumed is not None and find_newest(resumed / "checkpoints") == Path(trainer.ckpt_path).resolve():
            return resumed
        parent = Path(trainer.default_root_dir) / run_name(pl_module, trainer.datamodule)
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        names = [stamp, *(f"{stamp}-{number}" for number in range(2, 1000))]
        path = next(parent / name for name in names if not (parent / name).exists())
        if trainer.is_global_zero:
            path.mkdir(parents=True)
        return path
