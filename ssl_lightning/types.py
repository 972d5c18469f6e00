"""The types that datamodules and methods exchange, and all that they know of each other.

Notation for shapes: S samples in a batch; B rows (B = S, or fewer when short samples are packed
into shared rows); N positions in a row; C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import torch
from torch import Tensor

Strength = Literal["none", "weak", "strong", "strong_a", "strong_b"]
"""How strongly a view is augmented. `none` is the test transform, `weak` the geometric part alone,
`strong` the modality's whole recipe; `strong_a` and `strong_b` are its asymmetric pair (BYOL, arXiv
2006.07733, Table 6), equal to `strong` where a modality has no such pair."""


class View(NamedTuple):
    """One view of each sample of a batch.

    Args:
        x: images [B, C, H, W], waves [B, T], token ids [B, N], ...
        segment: [B, N] the sample of the batch that a position belongs to, counted from 1; 0 is
            padding. None: row b is sample b, without padding.
        position: [B, N] index within the sample. None: counted from the start of the row.
        samples: S, where samples share rows. None: B.
    """

    x: Tensor
    segment: Tensor | None = None
    position: Tensor | None = None
    samples: int | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> View:
        """The view with the same change applied to each of its tensors, for example to select
        rows."""
        return View(*(change(part) if isinstance(part, Tensor) else part for part in self))  # type: ignore[arg-type]  # x is a tensor


def joined(views: Sequence[View]) -> View:
    """The views of one batch, one after the other, as a single view of as many times the samples,
    for one pass through a network: sample s of view v becomes sample v S + s.

    Args:
        views: of the same samples, with the same parts, whose shapes differ in the number of rows
            alone.
    """
    first = views[0]
    samples = len(first.x) if first.samples is None else first.samples
    segments = [view.segment for view in views if view.segment is not None]
    positions = [view.position for view in views if view.position is not None]
    moved = [torch.where(each > 0, each + number * samples, 0) for number, each in enumerate(segments)]
    return View(
        torch.cat([view.x for view in views]),
        torch.cat(moved) if moved else None,
        torch.cat(positions) if positions else None,
        None if first.samples is None else len(views) * samples,
    )


class Tokens(NamedTuple):
    """The tokens that `TokenEncoder.tokenize` makes of a view: x [B, N, D], the rest as in
    `View`."""

    x: Tensor
    segment: Tensor | None = None
    position: Tensor | None = None
    samples: int | None = None


class _Batch(TypedDict):
    views: list[View]
    index: Tensor
    key: Tensor


class Batch(_Batch, total=False):
    """The batch that a method's `step` receives.

    `views`: the full views first, then the local ones, then the clean one, as its `ViewSpec`
    requests. `index` [S]: the sample's index in its data set. `key` [S], int64: the sample's random
    key, a hash of (seed, pass, index). A method draws masks, noise and negatives from it and from
    nothing else (dropout apart). `label` [S]: present where the data set has labels. A method that
    is not supervised never reads it. `sample` [S]: the index of the sample that each is a window
    of, in evaluation alone, where samples are longer than a view.
    """

    label: Tensor
    sample: Tensor


class _Step(TypedDict):
    loss: Tensor


class Step(_Step, total=False):
    """The result that a method's `step` returns.

    `loss`: a finite scalar. The framework detaches all other values.
    `embeddings` [S, D]: the embeddings that the loss compares, for the collapse monitor.
    `logs`: further scalars, logged as `train/<name>`.
    `state`: the values of this batch that `after_update` receives, such as features for a queue or
        sums for a centre; tensors, or dicts, lists and tuples of them.
    `weight`: a scalar, the weight of this batch's loss where it differs from batch to batch, such
        as the number of tokens that the loss is a mean of. Accumulated batches and processes are
        then averaged with these weights, as if they were one batch; what is logged, too.
    `losses`: where `loss` is a sum of losses that are means over different things (tokens and
        samples), these losses by name, each with its weight: `{"order": (loss, samples)}`. They are
        logged as `train/<name>`.
    """

    losses: Mapping[str, tuple[Tensor, Any]]
    embeddings: Tensor
    logs: Mapping[str, Any]
    state: Any
    weight: Tensor


@dataclass(frozen=True)
class ViewSpec:
    """The views that a method requests from a datamodule; it never names a transform.

    Args:
        full: number of views at full size.
        local: number of small crops (multi-crop, arXiv 2006.09882, Section 3.3).
        local_size: side length of a small crop in the modality's unit (pixels); None: chosen by the
            datamodule.
        strength: one strength for all full views, or a tuple with one for each. Local views use the
            last one.
        clean: whether one view made by the test transform is added at the end.

    Raises:
        ValueError: a count is negative, there is no view at all, or the strengths do not match the
            number of full views.
    """

    full: int = 2
    local: int = 0
    local_size: int | None = None
    strength: Strength | tuple[Strength, ...] = "strong"
    clean: bool = False

    def __post_init__(self) -> None:
        if self.full < 0 or self.local < 0 or self.full + self.local + self.clean == 0:
            raise ValueError(
                f"ViewSpec got full={self.full} and local={self.local}; give at least one view and no negative count."
            )
        if isinstance(self.strength, tuple) and len(self.strength) != self.full:
            raise ValueError(
                f"ViewSpec.strength has {len(self.strength)} entries for full={self.full} views; give one for each."
            )
        unknown = set(self.strengths) - set(get_args(Strength))
        if unknown:
            raise ValueError(
                f"ViewSpec.strength {sorted(unknown)} is unknown; choose from {', '.join(get_args(Strength))}."
            )

    @property
    def strengths(self) -> tuple[Strength, ...]:
        """One strength for each full view."""
        return self.strength if isinstance(self.strength, tuple) else (self.strength,) * self.full


@dataclass(frozen=True)
class Alarm:
    """The bounds of a logged value, and the message for a value that stays outside them.

    A method declares alarms for the values it logs (`SSLMethod.alarms`), a callback in an attribute
    `alarms`; the standing callback `health` watches the values.

    Args:
        name: the value's name within its group; for a method's alarm, its name in `logs`.
        cause: what is wrong outside the bounds, worded as the middle of a sentence.
        remedy: what to do, worded as the beginning of a sentence.
        low: the lowest healthy value; None: there is no lower bound.
        high: the highest healthy value; None: there is no upper bound.
        group: the first part of the metric's name; "train" holds a method's `logs`.
        patience: number of successive looks at which the value must be outside the bounds; None:
            the setting of `health`.
        stop: whether this alarm ends the run, after a checkpoint; None: the setting of `health`.
    """

    name: str
    cause: str
    remedy: str
    low: float | None = None
    high: float | None = None
    group: str = "train"
    patience: int | None = None
    stop: bool | None = None

    @property
    def metric(self) -> str:
        """The name under which the value is logged: `train/masked`, `collapse/std`."""
        return f"{self.group}/{self.name}"

    def healthy(self, value: float) -> bool:
        """Whether a value lies within the bounds; NaN never does."""
        return (
            (value == value) and (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        )

    def sentence(self, value: float) -> str:
        """The message: the cause, the value with its healthy range, and the remedy."""
        bounds = [
            f"at least {self.low:.3g}" if self.low is not None else "",
            f"at most {self.high:.3g}" if self.high is not None else "",
        ]
        expected = " and ".join(bound for bound in bounds if bound)
        return f"{self.cause} ({self.metric} {value:.3g}, healthy is {expected}). {self.remedy}."


@dataclass(frozen=True)
class Need:
    """What a setting of a method needs of a run to come into play (`SSLMethod.needs`). A run that
    is shorter says so before its first step.

    Args:
        setting: as a user gives it: `queue_length=4096`.
        epochs: length that the run must have, in epochs.
        samples: length that the run must have, in samples.
    """

    setting: str
    epochs: float = 0.0
    samples: int = 0
