"""What a logger is told of a run, and what it may take besides metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

from ...data.files.unwritable import Unwritable, explained
from ..lightning import NoExperiment

Config = Mapping[str, Any]
Axes = Callable[[], dict[str, float]]
Rows = Sequence[Sequence[str | float | None]]
"""The rows of a table, each with a value for each column."""


class InRunFolder:
    """A logger that starts when the run folder is known: Lightning touches every logger's
    `experiment` before. What it has no use for it ignores; Lightning's loggers do the rest."""

    folder: Path | None = None
    fits = True

    def open(self, folder: Path, fits: bool, axes: Axes = dict, metrics: Sequence[str] = ()) -> None:
        """From here on the logger writes into `folder`.

        Args:
            folder: the run folder.
            fits: tells a training run from an evaluation.
            axes: computes how far the run is, such as its epochs, beside the step.
            metrics: the names that the run will log, as far as they are known.
        """
        self.folder, self.fits = folder, fits

    def commit(self) -> None:
        """Called when a step has logged all that it logs."""

    def log_media(self, name: str, path: Path, step: int) -> None:
        """Takes a picture (`.png`), a sound (`.wav`) or a table of texts (`.csv`) to look at."""

    def log_rows(self, name: str, columns: Sequence[str], rows: Rows, step: int) -> None:
        """Takes a table."""

    def summarise(self, values: Mapping[str, float], headline: Sequence[str], step: int) -> None:
        """Takes what a run ends with.

        Args:
            values: by name.
            headline: the names of the values that runs are compared by.
            step: the last one.
        """

    def alert(self, title: str, text: str, step: int) -> None:
        """Takes an alarm."""

    def log_encoder(self, name: str, files: Sequence[Path], facts: Mapping[str, Any]) -> None:
        """Takes the files that the encoder is used with; the first is the folder's encoder."""

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
