"""The rows of a labelled set's closing table, each computed by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.sources import Source, Subset, labels_of, stratified_sample
from ..distributed import all_or_none, on_first, world_size
from ..encoders.base import Encoder
from .budget import EMBEDDING, Budget, Minutes, affordable
from .features import WithLayers, closing_splits, features_of, seconds_of_features
from .labels_only import fewer_line, fits_of, labels_only_row, skipped_cells, skipped_line
from .layers import has_layers, layered_row
from .protocol import check_labels, closing_row
from .remarks import class_remarks, fit_remarks, guessed
from .stages import Stages
from .table import Cell, Table


class ClosingSettings(NamedTuple):
    """How much of a closing table is computed; the arguments of `Report`."""

    train_samples: int
    test_samples: int
    labels_per_class: int
    draws: int
    labels_only: bool | Literal["auto"]
    layers: bool
    minutes: Minutes


class Rows:
    """A labelled set and the rows of its closing table, as far as they are computed. Every process
    must make it, and call its methods: features are shared out, and rank 0 fits the probes.

    Args:
        data: the labelled set.
        networks: the networks to compare, by row, the most telling first; None: raw features.
        trainer: of the run.
        settings: how much is computed.
    """

    def __init__(
        self, data: SSLDataModule, networks: dict[str, nn.Module | None], trainer: Any, settings: ClosingSettings
    ) -> None:
        self.data, self.networks, self.trainer, self.settings = data, networks, trainer, settings
        self.train, self.judged, self.split = all_or_none(lambda: closing_splits(data))
        self.choose(settings.train_samples, settings.test_samples)
        check_labels(*self.labels, self.split)
        encoders = {row: getattr(network, "backbone", network) for row, network in networks.items()}
        self.encoders: dict[str, Encoder] = {row: each for row, each in encoders.items() if has_layers(each)}
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}
        """The features of layers, by row, until their probes have learned."""
        self.features = torch.empty(0)
        """Those of the first row on the samples to evaluate on [N, D]."""
        self.maps: dict[str, Tensor] = {}
        """The same of each network, by row."""
        self.twin: Rows | None = None
        """A set with the same samples and views, whose features serve for both."""
        self.kept: dict[str, tuple[Tensor, Tensor]] = {}
        """Features by row, for a twin."""
        self.shared = False
        self.seconds: dict[str, float] = {}
        """Seconds that the features of each row take, as far as they are known."""
        self.table: Table = {}
        self.skipped: dict[str, list[str]] = {}
        """Cells that would have taken too long: columns by row."""
        self.note = self.costly = self.fewer = ""
        """Lines that say what was left out."""

    def choose(self, train: int, judged: int) -> None:
        """Takes at most so many samples to learn from, and to evaluate on, with each class in
        proportion."""
        sizes = zip((self.train, self.judged), (train, judged), strict=True)
        self.take([stratified_sample(labels_of(source), most) for source, most in sizes])

    def take(self, index: Sequence[Tensor]) -> None:
        """Takes these samples to learn from, and to evaluate on."""
        train, judged = index
        self.index = train, judged
        self.labels: tuple[Tensor, Tensor] = labels_of(self.train)[train], labels_of(self.judged)[judged]

    def fit_in(self, budget: Budget, sets: int) -> None:
        """Measures how long features take, and takes fewer samples where those of all rows would
        need more than their part of the time.

        Args:
            budget: the time of all tables.
            sets: number of labelled sets that share it.
        """
        if self.twin is not None:
            self.take(self.twin.index)
            self.note, self.seconds = self.twin.note, self.twin.seconds
            return
        costs: dict[str, float] = {}
        for row, network in self.networks.items():
            with suppress(Exception):  # the row will say what is wrong
                costs[row] = seconds_of_features(network, self.data, self.train, self.index[0], self.trainer)
        whole = len(self.index[0]), len(self.index[1])
        sizes = affordable(*whole, sum(costs.values()), EMBEDDING * budget.seconds / sets)
        if sizes != whole:
            self.choose(*sizes)
            self.note = (
                f"Because of the time, {sizes[0]:,} of {whole[0]:,} training samples and {sizes[1]:,} of"
                f" {whole[1]:,} {self.split} samples were used; --report.minutes 0 uses all."
            )
        self.seconds = {row: cost * sum(sizes) for row, cost in costs.items()}

    def pair(self, others: Sequence[Rows]) -> None:
        """Finds a twin among other sets, if there is one."""
        samples = self.positions()
        for other in others:
            if self.data.relabels is other.data and all(map(torch.equal, samples, other.positions())):
                self.twin, other.shared = other, True
                self.take(other.index)

    def positions(self) -> list[Tensor]:
        """Positions of all samples to learn from, and to evaluate on, in the whole that they are a
        part of."""
        return [positions(source, torch.arange(len(source))) for source in (self.train, self.judged)]

    def add(self, row: str, budget: Budget, stages: Stages) -> None:
        """Computes the features of a row, and its cells."""
        columns = ("knn", f"knn_{self.settings.labels_per_class}", *self.linear)
        there = self.twin is not None and row in self.twin.kept
        needed = 0.0 if there else self.seconds.get(row, 0.0)
        first = row == next(iter(self.networks))
        if on_first(lambda: not first and needed > budget.left):
            self.skipped[row] = list(columns)
            return
        stages.show("features")
        x, judged = self._embed(row)
        if self.shared:
            self.kept[row] = x, judged
        if row in self.encoders:
            self.layers[row] = x[:, 1:].contiguous(), judged[:, 1:].contiguous()
            x, judged = x[:, 0].contiguous(), judged[:, 0].contiguous()
        if first:
            self.features = judged
        if self.networks[row] is not None:
            self.maps[row] = judged
        self._fill(row, closing_row, x, judged, columns, budget, stages)

    def _embed(self, row: str) -> tuple[Tensor, Tensor]:
        """Features of the samples to learn from and to evaluate on; with those of the layers, where
        the encoder gives them."""
        if self.twin is not None and row in self.twin.kept:
            return self.twin.kept.pop(row)
        network = self.networks[row]
        if network is not None and row in self.encoders:
            network = WithLayers(network, self.encoders[row])
        x, judged = (
            features_of(network, self.data, source, index, self.trainer)
            for source, index in zip((self.train, self.judged), self.index, strict=True)
        )
        return x, judged

    def add_layers(self, row: str, budget: Budget, stages: Stages) -> None:
        """Computes the cells of a row on weighted sums of layers, once its features are there."""
        if row in self.layers:
            self._fill(f"{row}_layers", layered_row, *self.layers.pop(row), self.linear, budget, stages)
        elif row in self.skipped:
            self.skipped[f"{row}_layers"] = list(self.linear)

    def add_labels_only(self, untrained: Encoder, budget: Budget, stages: Stages) -> None:
        """Computes those cells of the row "labels only" that are worth their cost."""
        data, settings = self.trainer.datamodule, self.settings
        train, judged = (
            Subset(source, index) for source, index in zip((self.train, self.judged), self.index, strict=True)
        )
        fits = fits_of(labels_of(train), settings.labels_per_class, settings.draws)
        pretraining = data.samples_done * max(1, data.views.full)
        auto = settings.labels_only == "auto"
        costly = skipped_cells(fits, len(judged), pretraining, world_size()) if auto else {}
        worth = {column: each for column, each in fits.items() if column not in costly}
        seconds = on_first(lambda: budget.left) if auto else math.inf  # who asks for it gets it
        cells = labels_only_row(untrained, data, train, judged, self.trainer, worth, data.seed, seconds, stages.show)
        self._put("labels_only", cells, list(worth))
        self.costly, self.fewer = skipped_line(costly), fewer_line(cells, worth)

    @property
    def seen(self) -> bool:
        """Whether the pretraining has seen samples that the table is evaluated on: without a
        validation split, those are a part of its training samples."""
        training, judged = self.trainer.datamodule.training_split, closing_splits(self.data.relabels or self.data)[1]
        if whole(training) is not whole(judged):
            return False
        there = [positions(source, torch.arange(len(source))) for source in (judged, training)]
        return bool(torch.isin(*there).any())

    @property
    def remarks(self) -> list[str]:
        """What is odd about the classes, or about a regression."""
        return [*class_remarks(*self.labels, self.data.class_names, self.split), *fit_remarks(self.table)]

    @property
    def linear(self) -> tuple[str, str]:
        return "linear", f"linear_{self.settings.labels_per_class}"

    def _fill(
        self,
        row: str,
        fit: Callable[..., dict[str, Cell]],
        x: Tensor,
        judged: Tensor,
        columns: Sequence[str],
        budget: Budget,
        stages: Stages,
    ) -> None:
        few: dict[str, int] = {"labels_per_class": self.settings.labels_per_class, "draws": self.settings.draws}
        labels, answers = self.labels
        cells = on_first(lambda: fit(x, labels, judged, answers, deadline=budget.deadline(), show=stages.show, **few))
        self._put(row, cells, columns)

    def _put(self, row: str, cells: dict[str, Cell], columns: Sequence[str]) -> None:
        for column, cell in cells.items():
            if "_" not in column:
                cell["available"] = len(self.train)
        if cells:
            self.table[row] = cells
            guess = {column: guessed(*self.labels, cell["labels"]) for column, cell in cells.items()}
            self.table["majority"] = guess | self.table.get("majority", {})
        missing = [column for column in columns if column not in cells]
        self.skipped.update({row: missing} if missing else {})


def whole(source: Source) -> Source:
    """The source that a source is a part of, or itself."""
    while isinstance(source, Subset):
        source = source.source
    return source


def positions(source: Source, index: Tensor) -> Tensor:
    """Positions [M] in a source as those in the whole that it is a part of."""
    while isinstance(source, Subset):
        index = source.indices[index]
        source = source.source
    return index
