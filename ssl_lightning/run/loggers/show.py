"""Loggers of a run by short name (`csv`, `tensorboard`, `wandb`), and what all of them are
given. Lightning's other loggers take metrics and pictures."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fabric.utilities.exceptions import MisconfigurationException

from ...data.files.unwritable import explained
from ...plugins.registry import LOGGERS, logger_path
from ..lightning import batches_done, trainer_of
from ..settings.monitors import names_logged
from .base import Config, InRunFolder, Rows
from .tensorboard import pixels


class Shown(NamedTuple):
    """A table to look at.

    Args:
        columns: their titles.
        rows: each with a value for each column; None: there is none.
    """

    columns: Sequence[str]
    rows: Rows


def as_loggers(logger: Any) -> Any:
    """Short names, alone or in a list, become loggers; what else `Trainer(logger=...)` takes stays
    as it is.

    Raises:
        UnknownName: no logger has this short name.
        MisconfigurationException: two of a list would write the same files.
    """
    if isinstance(logger, str):
        module, _, name = logger_path(logger).rpartition(".")
        return getattr(importlib.import_module(module), name)()
    if not isinstance(logger, (list, tuple)):
        return logger
    loggers = [as_loggers(each) for each in logger]
    names = {path: name for name, path in LOGGERS.items()}
    kinds = Counter(type(each) for each in loggers if isinstance(each, InRunFolder))
    for kind, count in kinds.items():
        if count > 1:
            name = names.get(f"{kind.__module__}.{kind.__qualname__}", kind.__qualname__)
            raise MisconfigurationException(
                f"The logger {name!r} is given {count} times, and all would write to the same place of the run folder;"
                " give it once."
            )
    return loggers


def open_loggers(trainer: Any, folder: Path, config: Config | None = None) -> None:
    """Starts the loggers that wait for a folder; hands the run's config, nested as it is, to every
    logger."""
    metrics: list[str] = []
    if config is not None and trainer.lightning_module is not None:
        metrics, _ = names_logged(trainer, trainer.lightning_module)
    for logger in trainer.loggers:
        with explained(folder / "a logger's file"):
            if isinstance(logger, InRunFolder):
                logger.open(folder, config is not None, lambda: axes_of(trainer), metrics)
            if config is not None:
                logger.log_hyperparams(config)


def axes_of(trainer: Any) -> dict[str, float]:
    """How far a run is, besides its optimizer steps: its epochs, and the samples that it has
    seen, where its data says how many a batch has."""
    method, size = trainer.lightning_module, getattr(trainer.datamodule, "batch_size", None)
    epochs = getattr(method, "epochs_done", None) if trainer_of(method) is not None else None
    axes = {} if epochs is None else {"epoch": float(epochs)}
    return axes if size is None else {**axes, "samples": float(batches_done(trainer) * size)}


def show(trainer: Any, media: Mapping[str, Path] | None = None, numbers: Mapping[str, float] | None = None) -> None:
    """Every logger that can take them receives files to look at, by name, and values of this step;
    to be called on rank 0. The kind of a file follows from its suffix."""
    step = trainer.global_step
    for logger in trainer.loggers:
        if numbers:
            logger.log_metrics(dict(numbers), step=step)
        for name, path in (media or {}).items():
            if isinstance(logger, InRunFolder):
                logger.log_media(name, path, step)
            elif path.suffix == ".png" and hasattr(logger, "log_image"):
                logger.log_image(name, [str(path)], step=step)
            elif path.suffix == ".png" and hasattr(getattr(logger, "experiment", None), "add_image"):
                logger.experiment.add_image(name, pixels(path), step, dataformats="HWC")


def conclude(trainer: Any, tables: Mapping[str, Shown], values: Mapping[str, float], headline: Sequence[str]) -> None:
    """Every logger receives what a run ends with; to be called on rank 0.

    Args:
        trainer: of the run.
        tables: by name.
        values: the values of the tables' cells, by name.
        headline: the names of those that runs are compared by.
    """
    step = trainer.global_step
    for logger in trainer.loggers:
        if not isinstance(logger, InRunFolder):
            if values:
                logger.log_metrics(dict(values), step=step)
            continue
        for name, table in tables.items():
            logger.log_rows(name, table.columns, table.rows, step)
        if values:
            logger.summarise(values, headline, step)


def alert(trainer: Any, title: str, text: str) -> None:
    """Every logger that can tell a user of an alarm does so; to be called on rank 0."""
    for logger in trainer.loggers:
        if isinstance(logger, InRunFolder):
            logger.alert(title, text, trainer.global_step)


def keep_encoder(trainer: Any, name: str, files: Sequence[Path], facts: Mapping[str, Any]) -> None:
    """Every logger that keeps files receives the encoder with what it is used with; to be called on
    rank 0.

    Args:
        trainer: of the run.
        name: of the run's method and data.
        files: in the run folder, or below it.
        facts: of the encoder.
    """
    for logger in trainer.loggers:
        if isinstance(logger, InRunFolder):
            logger.log_encoder(name, files, facts)


def commit(trainer: Any) -> None:
    """Tells loggers that a step has logged all that it logs."""
    for logger in trainer.loggers:
        if isinstance(logger, InRunFolder):
            logger.commit()
