"""Batches that are weighed have, together, the gradient of one large batch."""

from __future__ import annotations

import torch
from torch import nn
from torch.testing import assert_close

from ssl_lightning.optim.accumulation import WeightedBatches


def test_the_gradient_is_that_of_the_mean_over_all_tokens() -> None:
    """Three batches of 1, 5 and 2 tokens; each loss is the mean over its tokens, and the
    accumulated losses are divided by 3, as Lightning does."""
    torch.manual_seed(0)
    tokens = torch.randn(8, 4)
    layer, whole = nn.Linear(4, 1).double(), nn.Linear(4, 1).double()
    whole.load_state_dict(layer.state_dict())
    unused = nn.Parameter(torch.ones(2))  # has no gradient
    batches = WeightedBatches()
    for part in tokens.double().split([1, 5, 2]):
        loss = layer(part).square().mean()
        (batches.weigh(loss, torch.tensor(float(len(part)))) / 3).backward()
    batches.divide_gradients([*layer.parameters(), unused], accumulated=3)
    whole(tokens.double()).square().mean().backward()
    for one, other in zip(layer.parameters(), whole.parameters(), strict=True):
        assert_close(one.grad, other.grad)
    assert batches.weights == [] and unused.grad is None


def test_without_weighed_batches_nothing_is_divided() -> None:
    weight = nn.Parameter(torch.ones(2))
    (3 * weight).sum().backward()
    WeightedBatches().divide_gradients([weight], accumulated=2)
    assert weight.grad is not None and weight.grad.tolist() == [3, 3]


def test_batches_that_weigh_nothing_have_no_gradient() -> None:
    weight, batches = nn.Parameter(torch.ones(2)), WeightedBatches()
    batches.weigh((3 * weight).sum(), torch.zeros(())).backward()
    batches.divide_gradients([weight], accumulated=1)
    assert weight.grad is not None and weight.grad.tolist() == [0, 0]
