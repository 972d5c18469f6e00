"""Frames of sequences in time, by a linear classifier on the token that stands for each.

Notation for shapes: Q judged sequences, n tokens of one, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...data.sources import stratified_sample
from ..measures import class_weights
from .base import Judgement, Needs, Protocol, Samples, Score, score
from .token_regression import TokenClassifier, token_classifier
from .token_store import TokenStore

NOTHING = "none"
"""The class of frames that no interval holds, where they count."""


@dataclass(frozen=True, kw_only=True)
class Frames(Protocol):
    """Logistic regression on single frozen tokens, one a frame. A token has the class of the
    interval that holds the middle of its time. Every class counts alike in the loss, and in the
    balanced accuracy and the macro F1. The penalty is chosen on a fifth of the sequences to learn
    from.

    Args:
        gaps: frames that no interval holds: `ignored`, or `none`, a class of its own.
        frames: that the classifier learns from; of more, a part of each class is drawn.

    Raises:
        ValueError: gaps is another word, or frames is below 2.
    """

    name: ClassVar[str] = "frames"
    needs: ClassVar[Needs] = Needs("tokens", "frames")
    source: ClassVar[str] = "Chung and Glass 2020 (1910.12607), phones by a linear classifier on frozen frames"
    gaps: str = "ignored"
    frames: int = 50_000

    def __post_init__(self) -> None:
        if self.gaps not in ("ignored", NOTHING):
            raise ValueError(f"gaps={self.gaps!r} is unknown; choose ignored or {NOTHING}.")
        if self.frames < 2:
            raise ValueError(f"frames={self.frames} is too small; give 2 or more.")

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        count = len(train.names) + (self.gaps == NOTHING)
        gap = len(train.names) if self.gaps == NOTHING else -1
        labels, answers = ([labelled(*each, gap) for each in zip(part.x.times, part.target, strict=True)]
                           for part in (train, test))  # fmt: skip
        x, y, sample = frames_of(train.x, labels, self.frames)
        classifier = token_classifier(x, y, sample, count, class_weights(y, count)[y], seed)
        counts = torch.stack([confusion(classifier, *each) for each in zip(test.x, answers, strict=True)])
        if not int(counts.sum()):
            raise ValueError(f"No interval holds a frame of the {len(answers):,} judged samples; check their seconds.")
        remarks = [*train.x.remarks, classifier.remark]
        real = [each[~times.isnan()] for each, times in zip(answers, test.x.times, strict=True)]  # without padding
        if ignored := sum(int((each < 0).sum()) for each in real):
            share = ignored / sum(map(len, real))
            remarks.append(f"{ignored:,} judged frames ({share:.0%}) lie in no interval, and are ignored.")
        names = [*train.names, NOTHING]
        if missing := sorted(set(counts.sum((0, 2)).nonzero()[:, 0].tolist()) - set(y.unique().tolist())):
            remarks.append(f"No frame to learn from has: {', '.join(names[each] for each in missing)}.")
        return Judgement(scores_of(counts), tuple(remarks))


def labelled(times: Tensor, intervals: Tensor, gap: int = -1) -> Tensor:
    """The class of each frame [n].

    Args:
        times: [n] the middle of each frame, in seconds; NaN for padding, which has none.
        intervals: [k, 3] beginning, end and class; the end does not belong to it.
        gap: the class of frames in none.
    """
    inside = (times[:, None] >= intervals[:, 0]) & (times[:, None] < intervals[:, 1])  # [n, k]
    classes = torch.full((len(times),), gap, dtype=torch.int64)
    frame, interval = inside.nonzero(as_tuple=True)
    classes[frame] = intervals[interval, 2].long()
    classes[times.isnan()] = -1
    return classes


def frames_of(tokens: TokenStore, labels: Sequence[Tensor], most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens [m, D] of at most so many frames with a class, their classes [m], and the numbers
    of their samples [m]."""
    y = torch.cat(list(labels))
    at = (y >= 0).nonzero()[:, 0]
    if not len(at):
        raise ValueError(f"No interval holds a frame of the {len(labels):,} samples to learn from; check the seconds.")
    at = at[stratified_sample(y[at], most)]
    sample = torch.arange(len(labels)).repeat_interleave(torch.tensor([len(each) for each in labels]))[at]
    first = tokens.counts.cumsum(0) - tokens.counts
    x = torch.cat([tokens[number][at[sample == number] - first[number]] for number in sample.unique().tolist()])
    return x, y[at], sample


def confusion(classifier: TokenClassifier, tokens: Tensor, labels: Tensor) -> Tensor:
    """Frames of a sample by class and prediction, [K, K].

    Args:
        classifier: of tokens.
        tokens: [n, D].
        labels: [n], -1 for frames that do not count.
    """
    real, count = labels >= 0, len(classifier.bias)
    predicted = classifier.logits(tokens[real]).argmax(dim=1)
    return (labels[real] * count + predicted).bincount(minlength=count * count).view(count, count)


def scores_of(counts: Tensor) -> dict[str, Score]:
    """Balanced accuracy and macro F1 over the classes that judged frames have, of all samples
    together, with resamples of samples.

    Args:
        counts: [Q, K, K] of `confusion`.
    """
    right = counts.diagonal(dim1=1, dim2=2).double()  # [Q, K]
    true, predicted = counts.sum(2).double(), counts.sum(1).double()

    def over_classes(numerator: Tensor, denominator: Tensor, there: Tensor) -> Tensor:
        each = torch.where(there, numerator / denominator.clamp(min=1), 0)
        return torch.where(there.any(1), each.sum(1) / there.sum(1).clamp(min=1), math.nan)

    def accuracy(weights: Tensor) -> Tensor:
        present = weights @ true
        return over_classes(weights @ right, present, present > 0)

    def f1(weights: Tensor) -> Tensor:
        present = weights @ true
        return over_classes(2 * weights @ right, weights @ predicted + present, present > 0)

    return {"accuracy": score([accuracy], len(counts)), "f1": score([f1], len(counts))}
