"""Accuracy against the number of labels: with pretraining, and without."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...data.datamodule import SSLDataModule
from ...data.files.atomic import write_text
from ...data.peek import features_here
from ...data.sources import Source, Subset, labels_of, stratified_sample
from ...encoders.base import Encoder
from ...plugins.record import config_of
from ..features import closing_splits
from ..labels_only import classified, fitted
from ..measures import balanced
from ..protocol import regressed, standardised
from ..protocols.classes import SOLVER
from ..regression import OutOfTime
from ..stamps import stamp
from ..supervised import Supervised
from ..table import CURVE_ROWS as TITLES
from .labels_saved import ANCHOR, FIRST, Level, levels_of, sentence_of

FROZEN = ("raw", "untrained", "published", "pretrained")
"""Rows of logistic regression on features, which are computed once."""
STARTS = {"labels_only": "untrained", "end_to_end": "pretrained"}
"""Rows that are trained end to end on labels by one recipe, and the row with whose weights they
begin."""
Show = Callable[[str], object]


class LabelCurve:
    """The accuracies of a curve, as far as they are computed; each is written as soon as it is
    known, so that a second start goes on.

    Args:
        data: the labelled data, whose views are those of the run.
        networks: the encoders of the rows `FROZEN` but for "raw", by row, on the device.
        second_step: the method that fine-tunes; called with an encoder.
        fresh: gives the pretrained encoder anew.
        make_trainer: gives a `Trainer` of so many epochs that watches and says nothing.
        file: the json that is kept.
        facts: what the accuracies depend on besides the data.
        draws: of labels, at most.
        most: training samples that stand for "all", and samples to evaluate on.
        seconds: for all of it.
    """

    def __init__(
        self,
        data: SSLDataModule,
        networks: dict[str, Encoder],
        second_step: Callable[[Encoder], Supervised],
        fresh: Callable[[], Encoder],
        make_trainer: Callable[..., Any],
        file: Path,
        facts: dict[str, Any],
        draws: int = 5,
        most: tuple[int, int] = (10_000, 2_000),
        seconds: float = 1800.0,
    ) -> None:
        self.data, self.networks, self.second_step, self.fresh = data, networks, second_step, fresh
        self.make_trainer, self.file, self.ends = make_trainer, file, time.monotonic() + seconds
        self.trainer = make_trainer()
        self.train, test, self.split = closing_splits(data)
        self.test: Source = Subset(test, stratified_sample(labels_of(test), most[1]))
        self.levels = levels_of(labels_of(self.train), draws, most[0])
        self.key = {**facts, "data": config_of(data), "levels": [[each.title, each.labels] for each in self.levels]}
        self.key |= {"test": len(self.test), "draws": draws}
        learned, judged = ((each, torch.arange(len(each))) for each in (self.train, self.test))
        settings = {**SOLVER, "levels": self.key["levels"], "draws": draws, "second_step": facts.get("second_step")}
        self.stamp = stamp(data, "labels", settings, learned, judged, self.split)
        self.known: dict[str, dict[str, dict[int, float]]] = {}
        self.took: dict[tuple[str, int], float] = {}
        """Seconds that a fit of a row took, by its number of labels."""
        self._restore()

    def _restore(self) -> None:
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads(self.file.read_text(encoding="utf-8"))
            if kept["key"] == json.loads(json.dumps(self.key)):
                for row, levels in kept["accuracies"].items():
                    for title, cells in levels.items():
                        numbers = {int(draw): float(value) for draw, value in cells.items()}
                        self.known.setdefault(row, {})[title] = numbers

    def compute(self, show: Show) -> None:
        """Computes what is missing: frozen features first, then fits of the network, those at 10
        labels a class first, as long as there is time."""
        for row in FROZEN:
            if row == "raw" or row in self.networks:
                self._frozen(row, show)
        for row, level, draw in self._fits():
            left = self.ends - time.monotonic()
            if self._missing(row, level, draw) and left > self._expected(row, level.labels):
                show(f"{TITLES[row]}: {level.title}, draw {draw + 1} of {len(level.draws)}")
                began = time.monotonic()
                try:
                    trained = row in STARTS
                    value = self._trained(row, level, draw, left) if trained else self._finetuned(level, draw)
                except OutOfTime:
                    self.took[row, level.labels] = left
                    continue
                self._put(row, level, draw, value)
                self.took[row, level.labels] = time.monotonic() - began

    def _fits(self) -> Iterator[tuple[str, Level, int]]:
        """The fits of the network in the order of their worth."""
        others = [each for each in self.levels if each.per_class != ANCHOR]
        anchor = [each for each in self.levels if each.per_class == ANCHOR]
        rounds = [(anchor, range(FIRST)), (others, range(1)), (others, range(1, FIRST))]
        rounds += [(anchor + others, range(FIRST, max(len(each.draws) for each in self.levels)))]
        for levels, draws in rounds:
            for draw in draws:
                for level in levels:
                    if draw < len(level.draws):
                        yield from ((row, level, draw) for row in STARTS)
                        if self._tunable(level):
                            yield "finetuned", level, draw

    def _tunable(self, level: Level) -> bool:
        """Whether a run can have these labels: of one a class, none is left to choose by; and a
        sample of all that stands for them is none that a run draws."""
        return level.labels == len(self.train) if level.per_class is None else level.per_class > 1

    def _expected(self, row: str, labels: int) -> float:
        """Seconds that a fit will take, by those of this row that were made."""
        made = [seconds * max(1.0, labels / size) for (each, size), seconds in self.took.items() if each == row]
        return min(made, default=0.0)

    def _missing(self, row: str, level: Level, draw: int) -> bool:
        return draw not in self.known.get(row, {}).get(level.title, {})

    def _put(self, row: str, level: Level, draw: int, value: float) -> None:
        self.known.setdefault(row, {}).setdefault(level.title, {})[draw] = value
        write_text(self.file, json.dumps({"key": self.key, "accuracies": self.known, **self.as_json()}, indent=1))

    def _frozen(self, row: str, show: Show) -> None:
        wanted = [
            (level, draw)
            for level in self.levels
            for draw in range(len(level.draws))
            if self._missing(row, level, draw)
        ]
        if not wanted or time.monotonic() > self.ends:
            return
        show(f"{TITLES[row]}: features")
        needed = torch.cat([draw for level in self.levels for draw in level.draws]).unique()  # whatever is missing
        network: nn.Module | None = self.networks.get(row)
        device = self.trainer.strategy.root_device
        x = features_here(network, self.data, self.train, needed, device)
        x, judged = standardised(x, features_here(network, self.data, self.test, torch.arange(len(self.test)), device))
        labels, answers = labels_of(self.train), labels_of(self.test)
        for level, draw in wanted:
            show(f"{TITLES[row]}: {level.title}, draw {draw + 1} of {len(level.draws)}")
            drawn = level.draws[draw]
            with suppress(OutOfTime):
                result = regressed(x[torch.searchsorted(needed, drawn)], labels[drawn], judged, answers, self.ends)
                self._put(row, level, draw, balanced(result.hits, answers))

    def _trained(self, row: str, level: Level, draw: int, seconds: float) -> float:
        encoder = self.networks[STARTS[row]]
        network = fitted(encoder, self.data, Subset(self.train, level.draws[draw]), self.trainer, draw, seconds)
        return balanced(classified(network, self.data, self.test, self.trainer).hits, labels_of(self.test))

    def _finetuned(self, level: Level, draw: int) -> float:
        arguments = {**self.data.init_args, "labels_per_class": level.per_class, "seed": draw}
        data = type(self.data)(**arguments)
        torch.manual_seed(draw)
        method = self.second_step(self.fresh())
        with redirect_stdout(StringIO()):
            self.make_trainer(max_epochs=data.default_epochs).fit(method, datamodule=data)
        return method.judge(data, self.test).balanced

    # What it says.

    def cells(self, row: str) -> dict[str, list[float]]:
        """The accuracies of a row's draws, by the title of the level."""
        known = self.known.get(row, {})
        return {each.title: [known[each.title][draw] for draw in sorted(known[each.title])] for each in self.levels
                if each.title in known}  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The curve in plain values."""
        rows = [
            {
                "row": row,
                "level": level.title,
                "labels_per_class": level.per_class,
                "labels": level.labels,
                "mean": statistics.mean(draws),
                "std": statistics.stdev(draws) if len(draws) > 1 else 0.0,
                "draws": draws,
            }
            for row in TITLES
            for level in self.levels
            if (draws := self.cells(row).get(level.title))
        ]
        return {
            "protocol": self.stamp.as_json(),
            "split": self.split,
            "samples": len(self.test),
            "chance": self.chance,
            "sentence": sentence_of(self.levels, self.known),
            "rows": rows,
        }

    @property
    def chance(self) -> float:
        return 1 / len(labels_of(self.test).unique())
