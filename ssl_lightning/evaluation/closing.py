"""The closing table of a run: the splits that it uses and the features that it compares."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.peek import embed_to_host, sample
from ..data.sources import Source, Subset, labels_of
from ..distributed import on_first, world_size
from ..encoders.base import Encoder
from .labels_only import fits_of, labels_only_row, skipped_cells, skipped_line
from .layers import Layers, has_layers, layered_row
from .protocol import closing_row
from .table import ROWS, Cell, column_title, format_table

UNTRAINED = "untrained.safetensors"
Table = dict[str, dict[str, Cell]]


class ClosingSettings(NamedTuple):
    """How much of a closing table is computed; the arguments of `Report`."""

    train_samples: int
    test_samples: int
    labels_per_class: int
    draws: int
    labels_only: bool | Literal["auto"]
    layers: bool
    minutes: float


class Closing(NamedTuple):
    """The closing table of a labelled set, the split it was evaluated on, that split's features
    [N, D] with labels [N], and a note on the cells that were skipped. Table and features are those
    of the first process; the others have none."""

    table: Table
    split: str
    features: Tensor
    labels: Tensor
    note: str = ""

    @property
    def printed(self) -> str:
        """The table as text; for a supervised run it is the note, which holds the one accuracy."""
        return (
            self.note
            if self.split in self.table
            else "\n".join(filter(None, (format_table(self.table, self.split), self.note)))
        )


def closing_splits(data: SSLDataModule) -> tuple[Source, Source, str]:
    """The labelled training samples of the closing table, the samples it is evaluated on, and the
    latter's name: `test`, or `val` where the test split is missing or has no labels (the training
    samples then exclude `val`).

    Raises:
        ValueError: the data has no labelled splits.
    """
    train, test = data.labelled_split, data.split("test")
    if train is not None and test is not None and test.labels is not None:
        return train, test, "test"
    splits = data.probe_splits()
    if splits is None:
        raise ValueError(f"{type(data).__name__} has no labelled splits to train and to evaluate the probes on.")
    return *splits, "val"


def features_of(network: nn.Module | None, data: SSLDataModule, source: Source, index: Tensor, trainer: Any) -> Tensor:
    """Features [M, D] on the CPU of the first process. Every process must call it, and embeds its
    share of the samples; the others get [0, D].

    Args:
        network: the network that embeds the samples; None: the data's raw features.
        data: the datamodule that makes the views.
        source: the samples.
        index: [M] positions in the source.
        trainer: gives device and precision.
    """
    device = trainer.strategy.root_device
    network = None if network is None else network.to(device)
    return embed_to_host(network, data, source, index, device, trainer.precision_plugin.forward_context)


def compare(
    trainer: Any, pl_module: Any, data: SSLDataModule, untrained: Encoder | None, settings: ClosingSettings
) -> Closing:
    """The closing table of one labelled set: raw features, the untrained encoder, and the method.

    Every process must call it, and embeds its share of the samples; rank 0 fits, and the others
    wait for as long as that takes.

    Args:
        trainer: the run's trainer.
        pl_module: the pretrained method.
        data: the labelled set; the row "labels only" is computed for the pretraining data alone.
        untrained: the encoder with the weights that the run started from; None: unknown, and the
            rows that need it are missing.
        settings: how much is computed.
    """
    networks: dict[str, nn.Module | None] = {"raw": None}
    if untrained is not None:
        networks["untrained"] = untrained
    networks["pretrained"] = pl_module
    train, judged, split = closing_splits(data)
    train_index, judged_index = sample(len(train), settings.train_samples), sample(len(judged), settings.test_samples)
    train_labels, labels = labels_of(train)[train_index], labels_of(judged)[judged_index]
    few: dict[str, int] = {"labels_per_class": settings.labels_per_class, "draws": settings.draws}
    encoders = {row: getattr(network, "backbone", network) for row, network in networks.items()}
    layers = {row: Layers(each) for row, each in encoders.items() if settings.layers and has_layers(each)}
    time_of_fits = TimeOfFits(settings.minutes, len(networks) + len(layers))
    table: Table = {}
    skipped: dict[str, list[str]] = {}

    def features(network: nn.Module | None) -> tuple[Tensor, Tensor]:
        return (
            features_of(network, data, train, train_index, trainer),
            features_of(network, data, judged, judged_index, trainer),
        )

    def fill(
        row: str, fit: Callable[..., dict[str, Cell]], x: Tensor, judged_x: Tensor, columns: Sequence[str]
    ) -> None:
        cells = on_first(
            lambda: time_of_fits.within(lambda until: fit(x, train_labels, judged_x, labels, deadline=until, **few))
        )
        missing = [column for column in columns if column not in cells]
        table.update({row: cells} if cells else {})
        skipped.update({row: missing} if missing else {})

    linear = ("linear", f"linear_{settings.labels_per_class}")
    for row, network in networks.items():
        train_features, judged_features = features(network)
        fill(row, closing_row, train_features, judged_features, ("knn", f"knn_{settings.labels_per_class}", *linear))
        if row in layers:
            fill(f"{row}_layers", layered_row, *features(layers[row]), linear)
    note = out_of_time_line(skipped, settings.minutes)
    if untrained is not None and data is trainer.datamodule:
        cells, line = labels_only_cells(
            trainer, untrained, Subset(train, train_index), Subset(judged, judged_index), settings
        )
        table.update({"labels_only": cells} if cells else {})
        note = "\n".join(filter(None, (note, line)))
    return Closing(table, split, judged_features, labels, note)


class TimeOfFits:
    """The time that the fits of a table may take, shared out among its rows: what one row leaves,
    the others have.

    Args:
        minutes: of all rows together; 0: no limit.
        rows: number of rows.
    """

    def __init__(self, minutes: float, rows: int) -> None:
        self.seconds, self.rows = 60 * minutes or math.inf, rows

    def within(self, row: Callable[[float], dict[str, Cell]]) -> dict[str, Cell]:
        """Computes the next row.

        Args:
            row: called with its deadline on the monotonic clock.
        """
        started = time.monotonic()
        cells = row(started + self.seconds / self.rows)
        self.seconds, self.rows = max(0.0, self.seconds - time.monotonic() + started), self.rows - 1
        return cells


def out_of_time_line(skipped: dict[str, list[str]], minutes: float) -> str:
    """A line that says which cells were skipped because the time was over, and how to compute them;
    empty where none was.

    Args:
        skipped: columns by row.
        minutes: the limit.
    """
    if not skipped:
        return ""
    cells = "; ".join(f"{ROWS[row]}: {', '.join(map(column_title, columns))}" for row, columns in skipped.items())
    text = (
        f"Skipped because the fits of a table may take {minutes:g} min on this machine: {cells}. --report.minutes 0"
        " computes all."
    )
    return textwrap.fill(text, 80, break_on_hyphens=False)


def labels_only_cells(
    trainer: Any, untrained: Encoder, train: Source, judged: Source, settings: ClosingSettings
) -> tuple[dict[str, Cell], str]:
    """The cells of the row "labels only" that are worth their cost, and a line that names the
    skipped ones."""
    if not settings.labels_only:
        return {}, ""
    data = trainer.datamodule
    fits = fits_of(labels_of(train), settings.labels_per_class, settings.draws)
    pretraining = data.samples_done * max(1, data.views.full)
    skipped = skipped_cells(fits, len(judged), pretraining, world_size()) if settings.labels_only == "auto" else {}
    computed = {column: each for column, each in fits.items() if column not in skipped}
    return labels_only_row(untrained, data, train, judged, trainer, computed, data.seed), skipped_line(skipped)
