"""Lightning's CSV files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from ...plugins.arguments import require
from .base import Axes, InRunFolder


class Writer(ExperimentWriter):
    """Writes Lightning's file under a name of its own: `metrics.csv` is the run's."""

    NAME_METRICS_FILE = "logged.csv"


class CSV(InRunFolder, CSVLogger):
    """Lightning's CSV file, `csv/version_<n>/logged.csv` of the run folder: besides what the run's
    `metrics.csv` has, what `self.log` of a method or callback logs. Each resumption begins a
    version.

    Args:
        flush_logs_every_n_steps: steps between writes.

    Raises:
        ValueError: fewer than one step.
    """

    def __init__(self, flush_logs_every_n_steps: int = 100) -> None:
        require(self, at_least=1, flush_logs_every_n_steps=flush_logs_every_n_steps)
        super().__init__("", name="csv", flush_logs_every_n_steps=flush_logs_every_n_steps)

    def open(self, folder: Path, fits: bool, axes: Axes = dict, metrics: Sequence[str] = ()) -> None:
        super().open(folder, fits, axes, metrics)
        self._save_dir = self._root_dir = str(folder)
        self._version = self._experiment = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self.folder and self._experiment is None:
            self._experiment = Writer(self.log_dir)
        return super().experiment

    def summarise(self, values: Mapping[str, float], headline: Sequence[str], step: int) -> None:
        self.log_metrics(dict(values), step)
