"""Loggers that write into the run folder, by short name: `csv`, `tensorboard`, `wandb`. Lightning's
other loggers work too."""

from __future__ import annotations

import importlib
import json
import os
import secrets
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from ...data.files.atomic import write_text
from ...data.files.unwritable import Unwritable, explained
from ...plugins.arguments import require
from ...plugins.registry import logger_path
from ..lightning import NoExperiment
from .rows import SECONDS_BETWEEN_WRITES

ID_FILE = "wandb.json"


def as_loggers(logger: Any) -> Any:
    """Short names, alone or in a list, become loggers; what else `Trainer(logger=...)` takes stays
    as it is.

    Raises:
        UnknownName: no logger has this short name.
    """
    if isinstance(logger, str):
        module, _, name = logger_path(logger).rpartition(".")
        return getattr(importlib.import_module(module), name)()
    return [as_loggers(each) for each in logger] if isinstance(logger, (list, tuple)) else logger


def open_loggers(trainer: Any, folder: Path, config: Mapping[str, Any] | None = None) -> None:
    """Starts the loggers that wait for a folder; hands the run's config, nested as it is, to every
    logger."""
    for logger in trainer.loggers:
        with explained(folder / "a logger's file"):
            if isinstance(logger, InRunFolder):
                logger.open(folder, fits=config is not None)
            if config is not None:
                logger.log_hyperparams(config)


def show(trainer: Any, pictures: Mapping[str, Path] | None = None, numbers: Mapping[str, float] | None = None) -> None:
    """Every logger that can take them receives pictures (PNG files by name) and values of this
    step; to be called on rank 0."""
    step = trainer.global_step
    for logger in trainer.loggers:
        if numbers:
            logger.log_metrics(numbers, step=step)
        for name, path in (pictures or {}).items():
            if hasattr(logger, "log_image"):
                logger.log_image(name, [str(path)], step=step)
            elif hasattr(getattr(logger, "experiment", None), "add_image"):
                logger.experiment.add_image(name, _pixels(path), step, dataformats="HWC")


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


class InRunFolder:
    """A logger that starts when the run folder is known: Lightning touches every logger's
    `experiment` before."""

    folder: Path | None = None
    fits = True

    def open(self, folder: Path, fits: bool) -> None:
        """From here on the logger writes into `folder`; `fits` tells a training run from an
        evaluation."""
        self.folder, self.fits = folder, fits

    def finalize(self, status: str) -> None:
        """Writes the rest. Where it cannot be written, the run has ended all the same."""
        try:
            with explained((self.folder or Path()) / type(self).__name__.lower()):
                super().finalize(status)  # type: ignore[misc]  # of the logger mixed with
        except Unwritable as error:
            rank_zero_warn(str(error))

    @property
    def experiment(self) -> Any:
        return super().experiment if self.folder else NoExperiment()  # type: ignore[misc]  # of the logger mixed with


class CSV(InRunFolder, CSVLogger):
    """Lightning's CSV files, in `csv/version_<n>` of the run folder; each resumption begins a
    version.

    Args:
        flush_logs_every_n_steps: steps between writes.

    Raises:
        ValueError: fewer than one step.
    """

    def __init__(self, flush_logs_every_n_steps: int = 100) -> None:
        require(self, at_least=1, flush_logs_every_n_steps=flush_logs_every_n_steps)
        super().__init__("", name="csv", flush_logs_every_n_steps=flush_logs_every_n_steps)

    def open(self, folder: Path, fits: bool) -> None:
        super().open(folder, fits)
        self._save_dir = self._root_dir = str(folder)
        self._version = self._experiment = None


class TensorBoard(InRunFolder, TensorBoardLogger):
    """TensorBoard, in `tensorboard` of the run folder: `tensorboard --logdir runs` compares all
    runs.

    Args:
        flush_secs: seconds between writes.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
        ValueError: a negative number of seconds.
    """

    def __init__(self, flush_secs: int = 10) -> None:
        check_installed("tensorboard", "tensorboard")
        require(self, at_least=0, flush_secs=flush_secs)
        super().__init__("", name="tensorboard", version="", default_hp_metric=False, flush_secs=flush_secs)

    def open(self, folder: Path, fits: bool) -> None:
        super().open(folder, fits)
        self._root_dir, self._experiment = str(folder), None


class Wandb(InRunFolder, WandbLogger):
    """Weights & Biases: one run, however often it is resumed, with its files in the run folder.

    The run folder's `wandb.json` holds its id. Without a login (`wandb login`, WANDB_API_KEY) the
    run is offline and no question is put. A killed run keeps what was logged until a second before.
    The results of `validate` and `test` go to the run's summary.

    Args:
        project: of W&B; None: WANDB_PROJECT, else `ssl-lightning`.
        name: of the run; None: the run folder's.
        id: of the run; None: the one in the run folder, else WANDB_RUN_ID, else a new one.
        entity: user or team; None: W&B's default.
        group, job_type, tags, notes: W&B's, to find the run by.
        offline: write files only, for `wandb sync`.

    Raises:
        ModuleNotFoundError: wandb is not installed.
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        id: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        notes: str | None = None,
        offline: bool = False,
    ) -> None:
        check_installed("wandb", "wandb")
        project = project or os.environ.get("WANDB_PROJECT", "ssl-lightning")
        super().__init__(
            name=name,
            project=project,
            id=id,
            offline=offline,
            entity=entity,
            group=group,
            job_type=job_type,
            tags=tags,
            notes=notes,
        )
        self._started = False

    def open(self, folder: Path, fits: bool) -> None:
        if folder != self.folder:
            self._finish()
        super().open(folder, fits)
        self._save_dir = str(folder)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self.folder and self._experiment is None:
            self._experiment = self._start(self.folder)
        return super().experiment

    def _start(self, folder: Path) -> Any:
        import wandb

        # Not `WandbLogger(experiment=...)`: a logger is built before its run folder is known.
        if wandb.run is not None:  # the user's, of `wandb.agent` perhaps
            return wandb.run
        is_run = (folder / "config.yaml").is_file()
        file = folder / ID_FILE
        known = json.loads(file.read_text())["id"] if is_run and file.is_file() else os.environ.get("WANDB_RUN_ID")
        options = {
            **self._wandb_init,
            "dir": str(folder),
            "id": self._wandb_init["id"] or known or secrets.token_hex(4),
            "name": self._wandb_init["name"] or (f"{folder.parent.name}/{folder.name}" if is_run else None),
        }
        del options["anonymous"]  # W&B no longer has it, and says so
        chosen: Any = "offline" if self._offline else wandb.setup().settings.mode  # of WANDB_MODE, or `wandb offline`
        chosen = {"dryrun": "offline", "run": "online"}.get(chosen, chosen)  # older names
        try:
            mode: Any = "offline" if chosen == "online" and not wandb.login(prompt=False, verify=False) else chosen
            run = wandb.init(
                **options,
                mode=mode,
                settings=wandb.Settings(
                    quiet=True, silent=mode == "offline", x_transaction_log_flush_interval=SECONDS_BETWEEN_WRITES
                ),
            )
        except wandb.Error as error:
            raise ValueError(
                f"W&B does not start: {str(error).rstrip('.')}. With WANDB_MODE=offline it writes files, to be uploaded"
                " later."
            ) from error
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self._started = True
        if is_run and mode != "disabled":
            write_text(file, json.dumps({"id": run.id, "project": self._project}))
        if mode == "offline":
            why = "" if chosen == "offline" else " (not logged in)"
            print(f"W&B: offline{why}. To upload: wandb sync {folder}/wandb/offline-run-*-{run.id}", flush=True)
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.fits:
            super().log_metrics(metrics, step)
        else:
            self.experiment.summary.update(dict(metrics))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._finish(failed=status == "failed")

    def _finish(self, failed: bool = False) -> None:
        """Ends W&B's run if this logger started it; a later `experiment` resumes it."""
        if self._experiment is not None and self._started:
            self._experiment.finish(exit_code=int(failed))
        self._experiment, self._started = None, False


def check_installed(package: str, logger: str) -> None:
    """A logger's package must be installed, by its metadata: in a folder that holds W&B's runs,
    `wandb` imports as an empty package.

    Raises:
        ModuleNotFoundError: it is not.
    """
    try:
        version(package)
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            f"The logger {logger!r} needs a package that is not installed: pip install {package}"
        ) from None
