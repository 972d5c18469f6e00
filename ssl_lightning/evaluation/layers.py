"""A probe on a learned weighted sum of an encoder's layers, which sees what any layer has learned
and not the last one alone.

Notation for shapes: M labelled samples, Q queries, L layers, D features, K classes.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.sources import labelled_draw
from ..encoders.base import Encoder
from .measures import Outcome, class_weights
from .protocol import in_time, regressed, standardised
from .table import Cell, Show, silent

DECAY = 1e-3
"""L2 penalty of the linear classifier that is trained jointly with the layer weights."""
UPDATES = 100
AT_ONCE = 5_000
"""The layer weights are learned from at most this many samples: there are few weights."""


def has_layers(network: Any) -> TypeGuard[Encoder]:
    """Whether a network is an encoder that returns the features of each layer, to be weighed."""
    if not isinstance(network, Encoder) or not network.weighs_layers:
        return False
    return type(network).layer_features is not Encoder.layer_features


def layer_weights(x: Tensor, y: Tensor) -> Tensor:
    """Learns a weight for each layer, a softmax over layers, together with a linear classifier on
    the weighted sum (Yang et al. 2021, SUPERB, arXiv 2105.01051, Section 3).

    Args:
        x: [M, L, D] standardised features of each layer.
        y: [M] classes, from 0.

    Returns:
        [L] weights, which sum to 1.
    """
    score, weight = torch.zeros(x.shape[1], requires_grad=True), class_weights(y)
    matrix = torch.zeros(x.shape[2], int(y.max()) + 1, requires_grad=True)
    bias = torch.zeros(int(y.max()) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([score, matrix, bias], max_iter=UPDATES, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        mixed = torch.einsum("mld,l->md", x, score.softmax(0))
        value = F.cross_entropy(mixed @ matrix + bias, y, weight) + DECAY * matrix.square().sum() / 2
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return score.detach().softmax(0)


def layered_row(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    labels_per_class: int = 10,
    draws: int = 5,
    seed: int = 0,
    deadline: float = math.inf,
    show: Show = silent,
) -> dict[str, Cell]:
    """The linear cells of a closing row, on weighted sums of layers.

    For each cell the weights are learned from that cell's labels alone; the rest is as in
    `closing_row`, with the same draws of labels.

    Args:
        train_x: [M, L, D] features of each layer (`Encoder.layer_features`).
        train_y: [M] classes, from 0.
        test_x: [Q, L, D] features.
        test_y: [Q] classes.
        labels_per_class: number of labels per class in `linear_10`.
        draws: number of draws of labels.
        seed: fixes the draws.
        deadline, show: as in `closing_row`.
    """
    x, test = standardised(train_x.float(), test_x.float())

    def result(labelled: Tensor) -> Outcome:
        few = len(labelled) <= AT_ONCE
        chosen = labelled if few else drawn(AT_ONCE // len(train_y.unique()), 0)
        weights = layer_weights(x[chosen], train_y[chosen])
        mixed, mixed_test = standardised(*(torch.einsum("mld,l->md", part, weights) for part in (x, test)))
        return regressed(mixed[labelled], train_y[labelled], mixed_test, test_y, deadline)

    def drawn(per_class: int, draw: int) -> Tensor:
        return torch.from_numpy(labelled_draw(train_y.numpy(), per_class, seed, draw))

    return in_time(
        {
            f"linear_{labels_per_class}": (result, [drawn(labels_per_class, draw) for draw in range(draws)]),
            "linear": (result, [torch.arange(len(train_y))]),
        },
        test_y,
        deadline,
        show,
    )
