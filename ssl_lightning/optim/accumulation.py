"""Batches of unequal weight in one optimizer step, accumulated or of several processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..distributed import reduce_mean


class WeightedBatches:
    """Makes the batches of an optimizer step count by their weights, as the parts of one large
    batch do.

    A loss that is a mean over w tokens has the gradient (1 / w) sum_i g_i. The backward passes add
    up the gradients of the losses times their weights, and processes average them; dividing by
    the mean of the weights then gives sum_i g_i / sum w, the gradient of all tokens' mean.
    """

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        """Of the batches since the last optimizer step."""

    def weigh(self, loss: Tensor, weight: Tensor) -> Tensor:
        """The loss of a batch times its weight, a scalar without gradient."""
        self.weights.append(weight)
        return loss * weight

    def divide_gradients(self, parameters: Iterable[nn.Parameter], accumulated: int) -> None:
        """Divides the gradients by the mean weight of all batches, after the last backward pass
        of an optimizer step; nothing where no batch was weighed.

        Args:
            parameters: whose gradients to divide.
            accumulated: number of batches that Lightning divides the losses by.
        """
        if not self.weights:
            return
        mean = reduce_mean(torch.stack(self.weights).sum()) / accumulated
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_div_(gradients, mean.clamp(min=1e-12))
        self.weights = []
