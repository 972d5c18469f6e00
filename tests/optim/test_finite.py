"""Exactly what is NaN or infinite counts, and an optimizer leaves out a step on the device."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_lightning.optim.finite import (
    Statistics,
    carried_by_gradients,
    gradients_of,
    not_finite,
    skips_on_device,
)
from ssl_lightning.optim.recipes import OptimizerName, OptimizerSpec

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_nan_and_infinity_count_and_large_values_do_not(dtype: torch.dtype) -> None:
    largest = torch.full((3, 5), min(1e18, torch.finfo(dtype).max), dtype=dtype)
    others = [torch.ones(4), torch.zeros(2, 2, dtype=torch.bfloat16), largest]
    assert not_finite(others, CPU) == 0 and not_finite([], CPU) == 0
    for value in (math.nan, math.inf, -math.inf):
        wrong = largest.clone()
        wrong[2, 4] = value
        assert not_finite([*others, wrong], CPU) == 1


def test_a_loss_that_is_not_finite_makes_its_gradients_so_and_no_other() -> None:
    weight = torch.randn(5, requires_grad=True)
    for added in (0.0, math.nan, math.inf):
        loss = weight.square().sum() + added  # has no gradient of its own
        (plain,) = torch.autograd.grad(loss, weight, retain_graph=True)
        carried = carried_by_gradients(loss)
        (gradient,) = torch.autograd.grad(carried, weight)
        assert plain.isfinite().all()
        if added:
            assert gradient.isnan().all()
        else:
            assert torch.equal(gradient, plain) and torch.equal(carried, loss)


def stepped(name: OptimizerName, flags: list[float | None]) -> tuple[list[Tensor], Any]:
    """Weights and state after as many steps; those with a flag of 1 have NaN for gradients."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer: Any = OptimizerSpec(name, weight_decay=0.1).build(module, 256, 100, 10)[0]
    for step, flag in enumerate(flags):
        for parameter in module.parameters():
            generator = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=generator) * (math.nan if flag else 1.0)
        if flag is not None:
            optimizer.found_inf = torch.tensor(flag)
        optimizer.step()
        if flag is not None:
            del optimizer.found_inf
    assert skips_on_device(optimizer) and len(gradients_of(optimizer)) == 4
    return [weight.detach() for weight in module.parameters()], optimizer.state_dict()["state"]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_step_is_left_out_on_the_device(name: OptimizerName) -> None:
    """Weights and state, the number of steps among it, are those before it, bit for bit; a flag of
    0 changes nothing."""
    (weights, state), (again, same) = stepped(name, [None, None]), stepped(name, [None, None, 1.0])
    for one, other in zip(weights, again, strict=True):
        assert torch.equal(one, other)
    for number, values in state.items():
        assert all(torch.equal(value, same[number][key]) for key, value in values.items())
    for one, other in zip(weights, stepped(name, [None, 0.0])[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_an_optimizer_that_cannot_is_known() -> None:
    assert not skips_on_device(torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1))


def test_running_statistics_are_set_back() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False))
    statistics, before = Statistics(module), copy.deepcopy(module.state_dict())
    module(torch.full((4, 3), math.nan))
    assert module.state_dict()["0.running_mean"].isnan().all()
    statistics.restore()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module(torch.randn(4, 3))
    statistics.keep()
    module(torch.randn(4, 3))
    statistics.restore()
    assert module.state_dict()["0.num_batches_tracked"] == 1
