"""A protocol's scores of one row of features with their stamp, and what two rows differ by."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..gains import students
from .base import LEVEL, Judgement, Score, interval
from .stamp import Stamp


@dataclass(frozen=True)
class Result:
    """What a protocol says of one row of features.

    Args:
        row: a key of `ROWS`.
        judgement: scores, and remarks.
        stamp: what another result must share to be comparable.
    """

    row: str
    judgement: Judgement
    stamp: Stamp

    def as_json(self) -> dict[str, Any]:
        """The result in plain values, from which `from_json` makes it again."""
        return {
            "row": self.row,
            "protocol": self.stamp.protocol,
            "scores": {
                name: _plain({"value": each.value, **spread_of(each)._asdict(), **each._asdict()})
                for name, each in self.judgement.scores.items()
            },
            "remarks": list(self.judgement.remarks),
            "stamp": self.stamp.as_json(),
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Result:
        """Reads what `as_json` wrote.

        Raises:
            KeyError, TypeError: something is missing, or of another kind.
        """
        scores = {
            name: Score(*(tuple(math.nan if value is None else value for value in each[key]) for key in Score._fields))
            for name, each in kept["scores"].items()
        }
        stamp = {name: value for name, value in kept["stamp"].items() if name != "digest"}
        return cls(kept["row"], Judgement(scores, tuple(kept["remarks"])), Stamp(**stamp))


class Spread(NamedTuple):
    """How far a score may be from another, and in a word what that is: of several draws of labels
    their standard deviation, else an interval."""

    spread: float | tuple[float, float]
    spread_is: str


class Difference(NamedTuple):
    """A difference of two scores on the same samples, and the interval that chance allows it."""

    points: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def spread_of(score: Score) -> Spread:
    """The spread of a score."""
    if len(score.draws) > 1:
        return Spread(statistics.stdev(score.draws), f"std over {len(score.draws)} draws of labels")
    return Spread(interval(_double(score.resampled)), f"{100 * LEVEL:g} % interval over samples")


def difference(score: Score, baseline: Score) -> Difference:
    """The paired difference of two scores: on the same draws of labels, and the same resamples of
    the judged samples (the percentile interval of Efron's bootstrap). Where there are several
    draws, it is widened by the margin of Student's t for their paired differences."""
    gains = [a - b for a, b in zip(score.draws, baseline.draws, strict=True)]
    points, count = statistics.mean(gains), len(gains)
    over = students(count) * statistics.stdev(gains) / math.sqrt(count) if count > 1 else 0.0
    low, high = interval(_double(score.resampled) - _double(baseline.resampled))
    return Difference(points, points - math.hypot(points - low, over), points + math.hypot(high - points, over))


def _plain(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _double(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
