"""Accuracy against the number of labels: with pretraining, and without."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...data.datamodule import SSLDataModule
from ...data.files.atomic import write_text
from ...data.peek import features_here
from ...data.sources import Source, Subset, labelled_draw, labels_of, stratified_sample
from ...encoders.base import Encoder
from ...plugins.record import config_of
from ..features import closing_splits
from ..labels_only import classified, fitted
from ..measures import balanced
from ..protocol import regressed, standardised
from ..regression import OutOfTime
from ..supervised import Supervised
from ..table import CURVE_ROWS as TITLES

FROZEN = ("raw", "untrained", "published", "pretrained")
"""Rows of logistic regression on features, which are computed once."""
PER_CLASS, SHARES = (1, 2, 5, 10, 50), (0.01, 0.1)
ANCHOR = 10
"""Labels a class at which trained rows are computed first, and that the sentence is about."""
FIRST = 3
"""Draws that are computed there before any other level: fewer claim nothing."""
LONG = 1000
"""Above so many labels, at most `FIRST` draws are made."""
Show = Callable[[str], object]


class Level(NamedTuple):
    """A number of labels.

    Args:
        title: "10 a class", "1 %", "all".
        per_class: labels a class; None: all.
        draws: positions [M] in the labelled training split, of each draw.
    """

    title: str
    per_class: int | None
    draws: list[Tensor]

    @property
    def labels(self) -> int:
        return len(self.draws[0])


def levels_of(labels: Tensor, draws: int, most: int) -> list[Level]:
    """The numbers of labels of a curve, few first: 1, 2, 5, 10 and 50 a class, 1 % and 10 %, all.

    Draw d of k labels a class is what a run with `--data.labels_per_class k --data.seed d` has.

    Args:
        labels: [N] of the labelled training split.
        draws: of each number, at most.
        most: samples that stand for "all" where there are more.
    """
    classes, numbers = len(labels.unique()), labels.numpy()
    titles = {k: f"{k} a class" for k in PER_CLASS}
    titles |= {max(1, round(share * len(labels) / classes)): f"{100 * share:g} %" for share in SHARES} | titles
    levels = []
    for k, title in sorted(titles.items()):
        if k * classes < 0.8 * len(labels):
            count = draws if k * classes <= LONG else min(draws, FIRST)
            drawn = [torch.from_numpy(labelled_draw(numbers, k, seed, 0)) for seed in range(count)]
            levels.append(Level(title, k, drawn))
    every = stratified_sample(labels, most)
    return [*levels, Level("all" if len(every) == len(labels) else f"{len(every):,}", None, [every])]


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
                    value = self._alone(level, draw, left) if row == "labels_only" else self._finetuned(level, draw)
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
                        yield "labels_only", level, draw
                        if level.per_class is None or level.per_class > 1:  # of one, none is left to choose by
                            yield "finetuned", level, draw

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
        needed = torch.cat([level.draws[draw] for level, draw in wanted]).unique()
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

    def _alone(self, level: Level, draw: int, seconds: float) -> float:
        encoder = self.networks["untrained"]
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
            "split": self.split,
            "samples": len(self.test),
            "chance": self.chance,
            "sentence": sentence_of(self),
            "rows": rows,
        }

    @property
    def chance(self) -> float:
        return 1 / len(labels_of(self.test).unique())


def sentence_of(curve: LabelCurve) -> str:
    """What the curve says of labels saved, at 10 labels a class, or where the labels alone were
    tried: nothing is claimed within twice the standard error of the paired differences."""
    alone = {title: draws for title, draws in curve.cells("labels_only").items() if draws}
    tried = [each for each in curve.levels if each.title in alone]
    if not tried:
        return "No network has learned from the labels alone yet; give more --minutes."
    level = min(tried, key=lambda each: abs(math.log((each.per_class or 10**6) / ANCHOR)))
    rows = {row: curve.known.get(row, {}).get(level.title, {}) for row in ("pretrained", "finetuned", "labels_only")}
    both = {row: sorted(rows[row].keys() & rows["labels_only"].keys()) for row in ("pretrained", "finetuned")}
    both = {row: draws for row, draws in both.items() if draws}
    if not both:
        return f"At {level.labels:,} labels the pretrained encoder was not tried yet; give more --minutes."
    best = max(both, key=lambda row: statistics.mean(rows[row][draw] for draw in both[row]))
    gains = [rows[best][draw] - rows["labels_only"][draw] for draw in both[best]]
    gain, reached = statistics.mean(gains), statistics.mean(rows[best][draw] for draw in both[best])
    how = f"({TITLES[best]}, {100 * reached:.1f} %, {100 * gain:+.1f} points on the labels alone)"
    if len(gains) < FIRST:
        return f"{level.labels:,} labels {how}: {len(gains)} draws are too few to claim anything."
    margin = 2 * statistics.stdev(gains) / math.sqrt(len(gains))
    if abs(gain) <= margin:
        return f"At {level.labels:,} labels pretraining makes no difference beyond the spread over draws {how}."
    if gain < 0:
        return f"At {level.labels:,} labels the labels alone do better {how}."
    needed = labels_needed({each.labels: statistics.mean(alone[each.title]) for each in tried}, reached)
    without = f"{needed:,} do" if needed else f"more than {max(each.labels for each in tried):,} do"
    return f"{level.labels:,} labels with pretraining do what {without} without {how}."


def labels_needed(curve: dict[int, float], accuracy: float) -> int | None:
    """The number of labels at which a curve reaches an accuracy, between two numbers on a straight
    line over their logarithm; None: it does not.

    Args:
        curve: accuracy by number of labels.
        accuracy: that is to be reached.
    """
    numbers = sorted(curve)
    for low, high in pairwise(numbers):
        if curve[low] <= accuracy <= curve[high] and curve[low] < curve[high]:
            part = (accuracy - curve[low]) / (curve[high] - curve[low])
            return round(float(np.exp(math.log(low) + part * (math.log(high) - math.log(low)))))
    return None
