"""Losses of unequal weight in one optimizer step, of accumulated batches or several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..distributed import reduce_mean

LEAST = 1e-12
"""A mean weight below this is that of batches that all weigh nothing."""


class WeightedLosses:
    """Makes the losses of an optimizer step count by their weights, as the parts of one large batch
    do.

    A loss that is a mean over w tokens has the gradient (1 / w) sum_i g_i. Processes average the
    gradients; where a loss is multiplied by w over the mean of all processes' w, this average is
    sum_i g_i / sum w, the gradient of all tokens' mean.

    Of accumulated batches the sum of the weights is known at the end alone. Their losses are
    multiplied by their weights, in units of about the first batch's so that float16 gradients do
    not overflow, and the gradients are divided by the mean of these. Losses of different weights
    then need gradients of their own: those of the first loss are where torch keeps them, those of
    the others here.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.batches = 0
        """Since the last optimizer step."""
        self.unit: Tensor | None = None  # [L] of the L losses that differ in weight
        self.weights: list[Tensor] = []  # [L] of each batch, in units
        self.others: list[Tensor] = []
        self.gradients: list[list[Tensor]] = []

    def weigh(self, losses: Iterable[tuple[Tensor, Tensor | float | None]], accumulated: int) -> Tensor:
        """The losses of a batch as one, for its backward pass.

        Args:
            losses: scalars, each with its weight, a scalar; None: 1. Those of one and the same
                weight are one loss.
            accumulated: number of batches of an optimizer step. Their losses are divided by it
                afterwards, as Lightning does.
        """
        together: dict[int, tuple[Tensor, Tensor | float | None]] = {}
        for loss, weight in losses:
            before = together.get(id(weight))
            together[id(weight)] = (loss if before is None else before[0] + loss, weight)
        sums = [loss for loss, _ in together.values()]
        self.batches += 1
        if list(together) == [id(None)]:
            return sums[0]
        weights = torch.stack([scalar(1.0 if weight is None else weight, loss) for loss, weight in together.values()])
        if self.unit is None:
            self.unit = reduce_mean(weights).clamp(min=LEAST)
            if accumulated > 1:  # a power of 2 changes no digit
                self.unit = torch.where(self.unit > LEAST, self.unit, 1).log2().round().exp2()
        weights = weights / self.unit
        first, *others = (loss * weight for loss, weight in zip(sums, weights, strict=True))
        if accumulated == 1:
            return sum(others, first)
        self.weights.append(weights)
        self.others = [loss / accumulated for loss in others]
        # All parameters get a gradient with the first, as processes that exchange gradients expect.
        return sum((0 * loss for loss in others), first)

    def differentiate(self, parameters: Iterable[nn.Parameter], scale: Callable[[Tensor], Tensor]) -> None:
        """Adds up the gradients of the losses that do not weigh as the first one does; before the
        backward pass of that.

        Args:
            parameters: all that are trained.
            scale: multiplies a loss as the first one is multiplied, against underflow in float16.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad] if self.others else []
        for number, loss in enumerate(self.others):
            gradients = torch.autograd.grad(scale(loss), trained, retain_graph=True, materialize_grads=True)
            if number == len(self.gradients):
                self.gradients.append([gradient.clone() for gradient in gradients])  # some are views
            else:
                torch._foreach_add_(self.gradients[number], gradients)
        self.others = []

    def finish(self, parameters: Iterable[nn.Parameter], accumulated: int) -> None:
        """Makes the gradients of an optimizer step, after its last backward pass, those of the
        weighted means. Fewer batches than usual, at the end of an epoch, have a mean too.

        Args:
            parameters: all that are trained.
            accumulated: as in `weigh`.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        with_gradient = [parameter.grad for parameter in trained if parameter.grad is not None]
        if self.weights:
            means = reduce_mean(torch.stack(self.weights).sum(dim=0)) / accumulated
            first, *others = means.clamp(min=LEAST)
            torch._foreach_div_(with_gradient, first)
            for gradients, mean in zip(self.gradients, others, strict=True):
                whole = reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]) / mean)
                for parameter, part in zip(trained, whole.split([each.numel() for each in gradients]), strict=True):
                    part = part.view_as(parameter)
                    parameter.grad = part.clone() if parameter.grad is None else parameter.grad.add_(part)
        elif 0 < self.batches < accumulated:
            torch._foreach_div_(with_gradient, self.batches / accumulated)
        self._clear()


def scalar(weight: Tensor | float, loss: Tensor) -> Tensor:
    """A weight as a scalar without gradient, of at least float32, beside its loss."""
    dtype = torch.promote_types(loss.dtype, torch.float32)
    if isinstance(weight, Tensor):
        return weight.detach().to(loss.device, dtype)
    return torch.full((), weight, dtype=dtype, device=loss.device)
