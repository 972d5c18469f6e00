"""Logistic regression on frozen features: what a linear probe is, and where fine-tuning begins.

Notation for shapes: M labelled samples, D features, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .protocol import _cross_validated, _fit, _regression

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
        """The fraction of features [M, D] whose label [M] has the largest logit."""
        logits = (x - self.mean) / self.deviation @ self.weight.T + self.bias
        return float((logits.argmax(dim=1) == labels).float().mean())


def regress(x: Tensor, labels: Tensor, num_classes: int) -> Regression:
    """Fits the regression of the closing table: on features that are standardised by these samples,
    with C chosen by cross-validation on them.

    Args:
        x: [M, D] features, on the CPU.
        labels: [M] classes, at least two of them.
        num_classes: K; a class without a sample is never predicted.
    """
    from threadpoolctl import threadpool_limits

    x = x.float()
    deviation = (x.var(dim=0, correction=0) + EPSILON).sqrt()
    mean = x.mean(dim=0)
    scaled, y = ((x - mean) / deviation).numpy(), labels.numpy()
    with threadpool_limits(1):
        model = _regression(_cross_validated(scaled, y))
        _fit(model, scaled, y)
    weight, bias = torch.zeros(num_classes, x.shape[1]), torch.full((num_classes,), float("-inf"))
    fitted, offset = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if len(fitted) == 1:  # of two classes scikit-learn gives the logit of the second
        fitted, offset = torch.cat([-fitted, fitted]) / 2, torch.cat([-offset, offset]) / 2
    classes = torch.from_numpy(model.classes_)
    weight[classes], bias[classes] = fitted, offset
    return Regression(mean, deviation, weight, bias.clamp(min=float(offset.min()) - 10))
