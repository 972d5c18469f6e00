"""The run folder: where a run writes, and how a later one finds it to go on."""

from __future__ import annotations

import json
import platform
import re
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from ...data.datamodule import SSLDataModule
from ...data.files.atomic import remove, write_text
from ...data.files.unwritable import explained
from ...distributed import gather_objects, on_each, on_first, world_size
from ...plugins.record import class_path
from ...plugins.registry import Registry
from ...plugins.run_record import run_config
from ..checkpoints.checkpoint import find_newest
from ..checkpoints.saving import Checkpoint
from ..loggers.show import open_loggers, show
from ..standing import Standing
from .lock import FolderInUse, FolderLock
from .metrics import Metrics
from .resolved import commit, resolved_config, resolved_text, sizes

PACKAGES = ("ssl-lightning", "torch", "torchvision", "pytorch-lightning", "timm", "scikit-learn")


LONGEST = 40
"""Letters of the data's folder in a run's name."""


def short_name(group: str, value: Any) -> str:
    """The entry-point name of an object's class, as a part of a path; for a class without one, its
    path."""
    return Registry(group).name_of(class_path(type(value))).replace(":", "-")


def kind_name(method: Any, datamodule: Any) -> str:
    """`<method>-<data>`."""
    data = short_name("ssl_lightning.datamodules", datamodule) if datamodule is not None else "loaders"
    return f"{short_name('ssl_lightning.methods', method)}-{data}"


def run_name(method: Any, datamodule: Any) -> str:
    """`<method>-<data>`, the folder that holds all runs of the two; for a user's files
    `<method>-<data>-<their folder>`."""
    place = place_name(datamodule)
    return kind_name(method, datamodule) + (f"-{place}" if place else "")


def place_name(datamodule: Any) -> str:
    """The name of the folder or file that a user's samples are read from, as a part of a path;
    empty for a data set that is always the same."""
    place = getattr(datamodule, "place", "")
    name = Path(place).expanduser().resolve().name if isinstance(place, str) and place else ""
    return re.sub(r"[^\w.-]+", "_", name).strip("._-")[:LONGEST]


def folder_of(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint lies in, where it lies in one."""
    folder = Path(checkpoint).resolve().parent
    return folder.parent if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file() else None


def resolved(trainer: Any) -> dict[str, Any]:
    """What a run is made with: precision, processes, versions, hardware, sizes."""
    return {
        "precision": str(trainer.precision),
        "processes": world_size(),
        **{f"versions/{name}": _version(name) for name in PACKAGES},
        "versions/python": platform.python_version(),
        "hardware/device": device_name(trainer.strategy.root_device),
        "hardware/threads": torch.get_num_threads(),
        **commit(),
        **sizes(trainer),
    }


def device_name(device: torch.device) -> str:
    """What computes, in words: the accelerator's name, or the CPU's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor() or "cpu",
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def check_agreement(trainer: Any) -> None:
    """Refuses to go on where the processes are about to do different runs: they would wait for each
    other without end, or mix their gradients. Every process must call it.

    Raises:
        ValueError: they differ in checkpoint, precision or number of samples.
    """
    data = trainer.datamodule
    samples = len(data.training_split) if isinstance(data, SSLDataModule) else None
    checkpoint = Path(trainer.ckpt_path).name if trainer.ckpt_path else None
    mine = {"checkpoint": checkpoint, "precision": str(trainer.precision), "training samples": samples}
    for number, other in enumerate(gather_objects(mine)):
        for name, value in mine.items():
            if other[name] != value:
                raise ValueError(
                    f"The processes of a run differ in their {name}: {value} on rank {trainer.global_rank},"
                    f" {other[name]} on rank {number}. Give all nodes the same files, and name checkpoint and precision"
                    " instead of `auto`."
                )


def new_folder(parent: Path) -> Path:
    """Makes the folder `<parent>/<time>`, with a number appended where another job made it within
    the same second."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    with explained(parent / stamp):
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = parent / (stamp if number == 1 else f"{stamp}-{number}")
            with suppress(FileExistsError):
                path.mkdir()
                break
    return path


class RunFolder(Standing):
    """Makes `<root>/<method>-<data>/<time>`, or goes on in the folder whose newest whole checkpoint
    the run is resumed from, and writes `config.yaml`, and `resolved.yaml` with nothing left open.
    The time is that of rank 0, which locks the folder for as long as `fit` goes on. The loggers
    that write into the folder start here, and Lightning's `ModelCheckpoint` without a folder writes
    among the run's checkpoints.

    From an older checkpoint a run branches off into a folder of its own, so that no folder holds
    two histories.
    """

    key = "run_folder"
    placeless: ClassVar[WeakSet[Any]] = WeakSet()
    """Lightning's `ModelCheckpoint`s that were given no folder: they write into their run's."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.lock = FolderLock()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        for callback in trainer.callbacks:  # before those that choose a folder now
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                self.placeless.add(callback)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """They go on from what they knew, which they would only in the folder of then."""
        for callback in self.placeless.intersection(trainer.callbacks):
            callback.dirpath = checkpoint.get("callbacks", {}).get(callback.state_key, {}).get("dirpath")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        # Not in `setup`: Lightning knows `ckpt_path` when it has restored it.
        self.path = None if trainer.fast_dev_run else self._enter(trainer, pl_module)
        for callback in trainer.callbacks:
            if isinstance(callback, Checkpoint):
                callback.folder = self.path / "checkpoints" if self.path else None
            if callback in self.placeless and self.path:
                callback.dirpath = str(self.path / "checkpoints")
        if self.path:
            path = self.path
            on_first(lambda: self._begin(trainer, path))
            on_each(lambda: self._open_loggers(trainer, path))

    def _begin(self, trainer: Any, path: Path) -> None:
        """Makes a run folder ready to be written to; on the process that writes."""
        for folder in (path, path / "checkpoints", path / "plots"):
            for leftover in folder.glob(".*.tmp"):  # of a process killed while it wrote
                remove(leftover)
        self._fill(trainer, path)
        origin = folder_of(trainer.ckpt_path) if trainer.ckpt_path else None
        for callback in trainer.callbacks:
            if isinstance(callback, Metrics):
                callback.open(path, origin)

    def _fill(self, trainer: Any, path: Path) -> None:
        """Writes what a run folder holds from the start."""
        with explained(path / "checkpoints"):
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_text(path / "config.yaml", run_config(trainer.lightning_module))
        write_text(path / "resolved.yaml", resolved_text(trainer))
        artifacts = trainer.datamodule.artifacts() if isinstance(trainer.datamodule, SSLDataModule) else {}
        for name, text in artifacts.items():
            write_text(path / name, text)
        if isinstance(trainer.datamodule, SSLDataModule):
            sets = {name: [tally.as_json() for tally in part] for name, part in trainer.datamodule.ledgers().items()}
            write_text(path / "data.json", json.dumps(sets, indent=1, ensure_ascii=False) + "\n")

    def _open_loggers(self, trainer: Any, path: Path) -> None:
        open_loggers(trainer, path, {**resolved_config(trainer), "resolved": resolved(trainer)})

    def on_unwritable(self, trainer: Any) -> None:
        """Makes a run folder anew that was removed while the run went on."""
        if self.path and trainer.is_global_zero and not (self.path / "config.yaml").is_file():
            self._fill(trainer, self.path)
            self.lock.take(self.path)
            self._open_loggers(trainer, self.path)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step and trainer.is_global_zero:
            show(trainer, numbers={"trainer/resumed_from_step": trainer.global_step})

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn != "fit":
            checkpoint = trainer.ckpt_path
            open_loggers(trainer, (checkpoint and folder_of(checkpoint)) or self.path or Path(trainer.default_root_dir))

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self.on_validation_start(trainer, pl_module)

    def _enter(self, trainer: Any, pl_module: Any) -> Path:
        """The folder that rank 0 chose and locked, on every process."""
        check_agreement(trainer)
        return on_first(lambda: self._choose(trainer, pl_module))

    def _choose(self, trainer: Any, pl_module: Any) -> Path:
        resumed = folder_of(trainer.ckpt_path) if trainer.ckpt_path else None
        if resumed is not None and find_newest(resumed / "checkpoints") == Path(trainer.ckpt_path).resolve():
            self.lock.take(resumed)
            return resumed
        if resumed is not None and trainer.resumes_newest:
            raise FolderInUse(
                f"The run folder {str(resumed)!r} has a newer checkpoint than {Path(trainer.ckpt_path).name}, which was"
                " chosen a moment ago: another job continues the run. Wait until it has ended, or stop it, and start"
                " again."
            )
        path = new_folder(Path(trainer.default_root_dir) / run_name(pl_module, trainer.datamodule))
        self.lock.take(path)
        return path
