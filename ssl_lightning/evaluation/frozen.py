"""Logistic regression on frozen features: what a linear probe is, and where fine-tuning begins.

Notation for shapes: M labelled samples, D features, K classes.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.peek import sample
from .budget import FEWEST
from .measures import balanced
from .protocol import logistic_regression
from .regression import OutOfTime

EPSILON = 1e-6
"""Added to the variance of a feature, as BatchNorm does: one that is constant is not divided by
zero."""


class Regression(NamedTuple):
    """Logits of features x [M, D] are ((x - mean) / deviation) @ weight.T + bias."""

    mean: Tensor  # [D]
    deviation: Tensor  # [D]
    weight: Tensor  # [K, D]
    bias: Tensor  # [K]

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """The balanced accuracy on features [M, D] with labels [M]."""
        logits = (x - self.mean) / self.deviation @ self.weight.T + self.bias
        return balanced(logits.argmax(dim=1) == labels, labels)


def regress(x: Tensor, labels: Tensor, num_classes: int, deadline: float = math.inf) -> Regression:
    """Fits the regression of the closing table: on features that are standardised by these samples,
    with C chosen by cross-validation on them.

    Args:
        x: [M, D] features, on the CPU.
        labels: [M] classes, at least two of them.
        num_classes: K; a class without a sample is never predicted.
        deadline: the time on the monotonic clock at which the result is to be there.

    Raises:
        OutOfTime: the deadline has passed.
    """
    deviation = (x.float().var(dim=0, correction=0) + EPSILON).sqrt()
    mean = x.float().mean(dim=0)
    model = logistic_regression(((x - mean) / deviation).double(), labels, deadline)
    weight, bias = torch.zeros(num_classes, x.shape[1]), torch.full((num_classes,), -torch.inf)
    present = model.bias.isfinite().nonzero()[:, 0]
    weight[present], bias[present] = model.weight[:, present].T.float(), model.bias[present].float()
    return Regression(mean, deviation, weight, bias.clamp(min=float(bias[present].min()) - 10))


def regress_in_time(x: Tensor, labels: Tensor, num_classes: int, deadline: float) -> tuple[Regression, int]:
    """Does the same as `regress`, with a quarter of the samples, and so on, where all would take
    too long: each try may take half of the time that is left, and `FEWEST` samples as long as they
    need. Returns the number of samples too."""
    while True:
        half = (time.monotonic() + deadline) / 2 if len(x) > FEWEST else math.inf
        with suppress(OutOfTime):
            return regress(x, labels, num_classes, half), len(x)
        some = sample(len(x), max(FEWEST, len(x) // 4))
        x, labels = x[some], labels[some]
