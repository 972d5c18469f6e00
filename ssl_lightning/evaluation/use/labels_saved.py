"""How many labels a curve has, and how many of them pretraining saves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data.sources import labelled_draw, stratified_sample
from ..table import CURVE_ROWS

Known = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Accuracies by row, title of the level, and draw."""

PRETRAINED = ("pretrained", "finetuned", "end_to_end")
"""The rows of the pretrained encoder, of which the best speaks for it."""
PER_CLASS, SHARES = (1, 2, 5, 10, 50), (0.01, 0.1)
ANCHOR = 10
"""Labels a class at which trained rows are computed first, and that the sentence is about."""
FIRST = 3
"""Draws that are computed there before any other level: fewer claim nothing."""
LONG = 1000
"""Above so many labels, at most `FIRST` draws are made."""


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


def sentence_of(levels: Sequence[Level], known: Known) -> str:
    """What a curve says of labels saved, at 10 labels a class, or at the nearest number at which
    the labels alone were tried: nothing is claimed within twice the standard error of the paired
    differences. Of the pretrained encoder's rows the best speaks.

    Args:
        levels: the numbers of labels.
        known: accuracies by row, title of the level, and draw.
    """
    alone = {title: list(draws.values()) for title, draws in known.get("labels_only", {}).items() if draws}
    tried = [each for each in levels if each.title in alone]
    if not tried:
        return "No network has learned from the labels alone yet; give more --minutes."
    level = min(tried, key=lambda each: abs(math.log((each.per_class or 10**6) / ANCHOR)))
    rows = {row: known.get(row, {}).get(level.title, {}) for row in (*PRETRAINED, "labels_only")}
    both = {row: sorted(rows[row].keys() & rows["labels_only"].keys()) for row in PRETRAINED}
    both = {row: draws for row, draws in both.items() if draws}
    if not both:
        return f"At {level.labels:,} labels the pretrained encoder was not tried yet; give more --minutes."
    best = max(both, key=lambda row: statistics.mean(rows[row][draw] for draw in both[row]))
    gains = [rows[best][draw] - rows["labels_only"][draw] for draw in both[best]]
    gain, reached = statistics.mean(gains), statistics.mean(rows[best][draw] for draw in both[best])
    how = f"({CURVE_ROWS[best]}, {100 * reached:.1f} %, {100 * gain:+.1f} points on the labels alone)"
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
