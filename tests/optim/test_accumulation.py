"""Losses that are weighed have, together, the gradient of one large batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning.optim.accumulation import WeightedLosses

PARTS = [1, 5, 2]


def one_step(layer: nn.Module, batches: list[list[tuple[Tensor, Any]]], accumulated: int, scale: float = 1.0) -> None:
    """What a run does with the losses of accumulated batches."""
    losses = WeightedLosses()
    for batch in batches:
        loss = losses.weigh(batch, accumulated)
        losses.differentiate(layer.parameters(), lambda each: each * scale)
        (scale * loss / accumulated).backward()
    losses.finish(layer.parameters(), accumulated)
    assert losses.batches == 0 and not losses.weights and not losses.gradients


def layers() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    layer, whole = nn.Linear(4, 2).double(), nn.Linear(4, 2).double()
    whole.load_state_dict(layer.state_dict())
    return layer, whole


def same_gradients(one: nn.Module, other: nn.Module, factor: float = 1.0) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert_close(a.grad, factor * b.grad)


@pytest.mark.parametrize("accumulated", [3, 4], ids=["complete", "the last of an epoch"])
def test_the_gradient_is_that_of_the_mean_over_all_tokens(accumulated: int) -> None:
    """Three batches of 1, 5 and 2 tokens; each loss is the mean over its tokens."""
    layer, whole = layers()
    tokens = torch.randn(8, 4).double()
    layer.unused = nn.Parameter(torch.ones(2))
    batches = [[(layer(part).square().mean(), torch.tensor(float(len(part))))] for part in tokens.split(PARTS)]
    one_step(layer, batches, accumulated)
    whole(tokens).square().mean().backward()
    assert layer.unused.grad is None
    del layer.unused
    same_gradients(layer, whole)


@pytest.mark.parametrize("first", ["tokens", "samples"])
@pytest.mark.parametrize("accumulated", [3, 5], ids=["complete", "the last of an epoch"])
def test_each_loss_has_its_own_weight(first: str, accumulated: int) -> None:
    """A mean over tokens, one over samples, and a loss that has no weight."""
    layer, whole = layers()
    tokens, samples = torch.randn(8, 4).double(), torch.randn(6, 4).double()
    batches = []
    for part, few in zip(tokens.split(PARTS), samples.split([3, 1, 2]), strict=True):
        by_tokens, by_samples = layer(part)[:, 0].square().mean(), layer(few)[:, 1].exp().mean()
        weighed = [(by_tokens, len(part)), (by_samples, torch.tensor(float(len(few)))), (layer.bias.sum(), None)]
        batches.append(weighed if first == "tokens" else weighed[::-1])
    one_step(layer, batches, accumulated, scale=1024.0)
    (whole(tokens)[:, 0].square().mean() + whole(samples)[:, 1].exp().mean() + whole.bias.sum()).backward()
    same_gradients(layer, whole, 1024.0)


def test_losses_of_one_weight_are_one_loss() -> None:
    """One backward pass then suffices."""
    layer, _ = layers()
    losses, weight = WeightedLosses(), torch.tensor(3.0)
    losses.weigh([(layer.bias.sum(), weight), (layer.weight.sum(), weight)], 2)
    assert losses.others == []


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_an_incomplete_step_is_the_mean_of_its_batches(count: int) -> None:
    """Without weights, at the end of an epoch: of 4 batches there may be fewer."""
    layer, whole = layers()
    batches = torch.randn(count, 3, 4).double()
    one_step(layer, [[(layer(batch).square().mean(), None)] for batch in batches], 4)
    whole(batches).square().mean().backward()
    same_gradients(layer, whole)


def test_complete_steps_without_weights_are_left_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(2))
    losses, loss = WeightedLosses(), (3 * weight).sum()
    assert losses.weigh([(loss, None)], 1) is loss
    loss.backward()
    losses.finish([weight], accumulated=1)
    assert weight.grad is not None and weight.grad.tolist() == [3, 3]


@pytest.mark.parametrize("weights", [[0.0], [0.0, 0.0], [0.0, 8.0]])
def test_batches_that_weigh_nothing_have_no_gradient(weights: list[float]) -> None:
    weight, losses = nn.Parameter(torch.ones(2)), WeightedLosses()
    for each in weights:
        (losses.weigh([((3 + each) * weight.sum(), torch.tensor(each))], len(weights)) / len(weights)).backward()
    losses.finish([weight], len(weights))
    assert weight.grad is not None and weight.grad.tolist() == ([11, 11] if any(weights) else [0, 0])


@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("tokens", [1.0, 300.0, 5e5])
def test_weights_do_not_enlarge_what_is_differentiated(tokens: float, accumulated: int) -> None:
    """However many tokens a batch has: float16 would overflow, and the scaler skip the step."""
    losses = WeightedLosses()
    weights = [tokens * (1 + 0.2 * number) for number in range(accumulated)]
    sizes = [float(losses.weigh([(torch.tensor(2.0), each)], accumulated)) for each in weights]
    assert all(1.0 <= size <= 5.0 for size in sizes)
    assert all(b / a == pytest.approx(d / c) for (a, b), (c, d) in zip(pairwise(sizes), pairwise(weights), strict=True))
