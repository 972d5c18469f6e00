"""What a protocol is: settings, what it needs of samples, and scores on samples that it has not
learned from.

Notation for shapes: M samples to learn from, Q samples that are judged, D features, B resamples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

RESAMPLES = 1_000
"""Resamples of the judged samples, from which intervals come."""
LEVEL = 0.95
"""The part of the resamples that an interval holds."""
WEIGHTS_AT_ONCE = 2**22
"""Most weights of resampled samples held in memory at a time (32 MiB)."""

Features = Literal["vectors", "tokens"]
Target = Literal["classes", "multilabel", "values", "tags", "masks", "frames"]


class Needs(NamedTuple):
    """What a protocol needs: one vector a sample, or its tokens; and the kind of target, None for
    protocols that need none."""

    features: Features
    target: Target | None


class Samples(NamedTuple):
    """The features of samples, and their targets.

    Attributes:
        x: [M, D] vectors, float32 on the CPU; of tokens, for each sample a tensor [N, D].
        target: of `classes` [M] int64; of `multilabel` [M, K] bool; of `values` [M, K] float64; of
            the others for each sample a tensor; None: the protocol needs none.
        names: of the classes, labels or columns; empty: they have none.
    """

    x: Any
    target: Any
    names: tuple[str, ...] = ()


class Score(NamedTuple):
    """A metric on the judged samples.

    Attributes:
        draws: its value for each draw of labels; one, where all labels are used.
        resampled: [B] its mean over the draws on resamples of the judged samples, which are the
            same for all features that are compared.
    """

    draws: tuple[float, ...]
    resampled: tuple[float, ...]

    @property
    def value(self) -> float:
        return math.fsum(self.draws) / len(self.draws)


class Judgement(NamedTuple):
    """The scores of a protocol by metric, the most important first, and lines on what the reader
    has to know of them."""

    scores: dict[str, Score]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """The base of protocols: a subclass is a frozen dataclass whose fields are its settings, with
    the field's defaults. All of them stand in the stamp of a result."""

    name: ClassVar[str]
    needs: ClassVar[Needs]
    source: ClassVar[str]
    """Where the settings come from: authors, year, arXiv number, section."""
    percent: ClassVar[bool] = True
    """Whether scores are printed in percent."""

    @property
    def settings(self) -> dict[str, Any]:
        """The fields, and what else two results must share, as plain values."""
        return asdict(self)

    @abstractmethod
    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        """Learns from samples, and scores others. Whatever is chosen is chosen on `train` alone.

        Args:
            train: to learn from; of these all may be used.
            test: to judge on.
            seed: of all that is drawn at random.

        Raises:
            ValueError: nothing can be learned from these samples.
        """


def score(statistics: Sequence[Callable[[Tensor], Tensor]], samples: int, strata: Tensor | None = None) -> Score:
    """A metric with its resamples (the bootstrap of Efron 1979): each of them draws as many of the
    judged samples, with repetition, so that a sample has a weight of 0, 1, 2, ...

    Args:
        statistics: for each draw of labels, weights [B, Q] -> the metric [B]. The metric itself is
            that of weights 1.
        samples: Q.
        strata: [Q] numbers from 0; each keeps its size. None: all samples are one.
    """
    once = torch.ones(1, samples, dtype=torch.float64)
    values = tuple(float(each(once)) for each in statistics)
    parts = []
    for weights in resamples(samples, strata):
        parts.append(torch.stack([each(weights) for each in statistics]).mean(dim=0))
    return Score(values, tuple(round(each, 7) for each in torch.cat(parts).tolist()))


def scores(statistic: Callable[[Tensor], dict[str, Tensor]], samples: int) -> dict[str, Score]:
    """Several metrics at once, of one draw of labels.

    Args:
        statistic: weights [B, Q] -> the metrics [B] by name.
        samples: Q.
    """
    values = statistic(torch.ones(1, samples, dtype=torch.float64))
    parts: dict[str, list[Tensor]] = {name: [] for name in values}
    for weights in resamples(samples):
        for name, each in statistic(weights).items():
            parts[name].append(each)
    return {
        name: Score((float(value),), tuple(round(each, 7) for each in torch.cat(parts[name]).tolist()))
        for name, value in values.items()
    }


def resamples(samples: int, strata: Tensor | None = None) -> Iterator[Tensor]:
    """Yields the weights [b, Q] of resamples in parts, `RESAMPLES` in all; arguments as of `score`.
    They depend on the arguments alone, so that features are compared on the same resamples."""
    generator = torch.Generator().manual_seed(0)
    strata = torch.zeros(samples, dtype=torch.int64) if strata is None else strata
    groups = [(strata == each).nonzero()[:, 0] for each in strata.unique()]
    rows = max(1, WEIGHTS_AT_ONCE // samples)
    for first in range(0, RESAMPLES, rows):
        weights = torch.zeros(min(rows, RESAMPLES - first), samples, dtype=torch.float64)
        for group in groups:
            drawn = group[torch.randint(len(group), (len(weights), len(group)), generator=generator)]
            weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        yield weights


def mean_of(parts: Tensor) -> Callable[[Tensor], Tensor]:
    """The statistic of a metric that is a sum over samples, from the part of each [Q]."""
    return lambda weights: weights @ parts.double()


def interval(resampled: Tensor) -> tuple[float, float]:
    """The interval that holds `LEVEL` of resampled values [B]; NaNs are left out."""
    values = resampled[resampled.isfinite()]
    if not len(values):
        return math.nan, math.nan
    low, high = values.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype)).tolist()
    return low, high
