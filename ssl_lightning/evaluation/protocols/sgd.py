"""A linear probe by SGD with a sweep over learning rates, for sets too large for a regression.

Notation for shapes: M samples, D features, K classes, H heads, one for each learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...augment.random import permutation
from ...data.sources import stratified_split
from ..measures import Outcome, balanced, class_weights
from ..protocol import check_labels, checked
from .base import Judgement, Needs, Protocol, Samples
from .classes import balanced_score

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
"""DINOv2's learning rates, for batches of 256 samples."""
BASE = 256
DEVIATION = 0.01
"""Of the weights at the start."""


@dataclass(frozen=True, kw_only=True)
class SGD(Protocol):
    """A linear classifier for each learning rate is trained by SGD, all in one pass, with momentum
    and a cosine schedule to 0. The one with the highest balanced accuracy on a held-out part of the
    samples to learn from is judged; every class counts alike in the loss.

    All features are divided by one number, so that the mean of their squares is 1, as behind the
    LayerNorm of the transformers for which the learning rates were chosen; without it they would
    suit features of one size alone. They are not standardised one by one.

    Args:
        rates: learning rates, multiplied by batch_size / 256 (DINOv2's 13).
        weight_decay: of weights and biases.
        momentum: of SGD.
        epochs: passes over the samples (DINO: 100).
        batch_size: samples a step.
        held_out: the share of the samples to learn from, of each class, on which the rate is chosen
            and which no head learns from; at most `most_held_out` samples.
        most_held_out: see `held_out`.

    Raises:
        ValueError: a setting is out of its range.
    """

    name: ClassVar[str] = "sgd"
    needs: ClassVar[Needs] = Needs("vectors", "classes")
    source: ClassVar[str] = "Caron et al. 2021 (2104.14294), Appendix F.2; Oquab et al. 2023 (2304.07193), Appendix B.3"
    rates: tuple[float, ...] = RATES
    weight_decay: float = 0.0
    momentum: float = 0.9
    epochs: int = 100
    batch_size: int = 256
    held_out: float = 0.1
    most_held_out: int = 5_000

    def __post_init__(self) -> None:
        ranges = {
            "rates": len(self.rates) > 0 and all(isinstance(rate, (int, float)) and rate > 0 for rate in self.rates),
            "weight_decay": self.weight_decay >= 0,
            "momentum": 0 <= self.momentum < 1,
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "held_out": 0 < self.held_out < 1,
            "most_held_out": self.most_held_out >= 1,
        }
        if wrong := [name for name, right in ranges.items() if not right]:
            raise ValueError(f"{wrong[0]}={getattr(self, wrong[0])} is out of its range; its default is "
                             f"{type(self).__dataclass_fields__[wrong[0]].default}.")  # fmt: skip

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "features": "one scale for all, of mean square 1"}

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        x, y = checked("training", train.x, train.target)
        judged, answers = checked("judged", test.x, test.target)
        check_labels(y, answers)
        count = min(self.most_held_out, max(1, round(self.held_out * len(y))))
        size = x.square().mean().sqrt().clamp(min=1e-12)
        x, judged = x / size, judged / size
        kept, out = stratified_split(y, count, seed)
        check_labels(y[kept], y[out], "held-out")
        weight, bias = self.trained(x[kept], y[kept], int(y.max()) + 1, seed)
        classes = logits(x[out], weight, bias).argmax(dim=2)  # [held out, H]
        chosen = [balanced(each == y[out], y[out]) for each in classes.T]
        best = max(range(len(chosen)), key=chosen.__getitem__)  # of equal ones the smaller rate
        hits = (judged @ weight[:, best] + bias[best]).argmax(dim=1) == answers
        remarks = [
            f"The learning rate {self.rates[best]:g} (x {self.batch_size}/{BASE}) was chosen on {len(out):,} held-out"
            f" samples to learn from ({100 * chosen[best]:.1f} % there)."
        ]
        if len(self.rates) > 1 and best in (0, len(self.rates) - 1):
            remarks.append("It is at an end of those that are tried.")
        return Judgement({"accuracy": balanced_score([Outcome(hits)], answers)}, tuple(remarks))

    def trained(self, x: Tensor, y: Tensor, classes: int, seed: int) -> tuple[Tensor, Tensor]:
        """The heads after all steps: weights [D, H, K] and biases [H, K], float32.

        Args:
            x: [M, D] features.
            y: [M] classes.
            classes: K.
            seed: of the weights at the start, equal for all heads, and of the order of samples.
        """
        generator = torch.Generator().manual_seed(seed)
        size = min(self.batch_size, len(x))
        first = DEVIATION * torch.randn(x.shape[1], 1, classes, generator=generator)
        rates = torch.tensor(self.rates, dtype=torch.float32)[:, None] * self.batch_size / BASE  # [H, 1]
        weight, bias = first.repeat(1, len(rates), 1), torch.zeros(len(rates), classes)
        moved, shifted = torch.zeros_like(weight), torch.zeros_like(bias)
        share, a_pass = class_weights(y, classes)[y].float() / size, len(x) // size
        steps = self.epochs * a_pass
        order = torch.empty(0, dtype=torch.int64)
        for step in range(steps):
            epoch, number = divmod(step, a_pass)
            if number == 0:
                order = permutation(seed, epoch, len(x))
            part = order[number * size : (number + 1) * size]
            z, label = x[part], y[part, None, None].expand(-1, len(rates), 1)
            residual = logits(z, weight, bias).softmax(dim=2)  # [B, H, K]
            residual.scatter_add_(2, label, torch.full_like(residual[:, :, :1], -1.0))
            residual *= share[part, None, None]
            gradient = (z.T @ residual.flatten(1)).view_as(weight)
            moved.mul_(self.momentum).add_(gradient).add_(weight, alpha=self.weight_decay)
            shifted.mul_(self.momentum).add_(residual.sum(dim=0)).add_(bias, alpha=self.weight_decay)
            rate = rates * 0.5 * (1 + math.cos(math.pi * step / steps))
            weight -= rate * moved
            bias -= rate * shifted
        return weight, bias


def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Features [B, D], heads [D, H, K] and [H, K] -> logits [B, H, K]."""
    return (x @ weight.flatten(1)).unflatten(1, bias.shape) + bias
