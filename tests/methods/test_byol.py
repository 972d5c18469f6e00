"""BYOL is Algorithm 1 of its paper, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from proofs import assert_same_run, exact, gradients, plain_loop, remembered, tiny
from ssl_lightning.methods.byol import BYOL
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning import Batch
from ssl_lightning.testing import TinyEncoder


def equation_2(p: Tensor, z: Tensor) -> Tensor:
    """arXiv 2006.07733: the squared distance of the normalised prediction and projection, one
    sample at a time."""
    return torch.stack([(a / a.norm() - b / b.norm()).square().sum() for a, b in zip(p, z, strict=True)]).mean()


def lightly(p: Tensor, z: Tensor) -> Tensor:
    return 2 + 2 * NegativeCosineSimilarity()(p, z)


def loss_of(method: Any, batch: Batch, distance: Any = equation_2) -> Tensor:
    """The prediction from each view against what the slow network makes of the other: L + L~."""
    v1, v2 = batch["views"]
    fast, slow = nn.Sequential(method.encoder, method.projector, method.predictor), method.teacher.module
    with torch.no_grad():
        z1, z2 = slow(v1), slow(v2)
    return distance(fast(v1), z2) + distance(fast(v2), z1)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("distance", [equation_2, lightly])
def test_one_step_is_equation_2_and_lightlys_similarity(norm: str, distance: Any) -> None:
    """Loss, and its gradient with respect to every parameter; float64."""
    method, batch = exact(BYOL, norm=norm, hidden_dim=16, output_dim=8)
    loss, slow = method.step(batch)["loss"], loss_of(method, batch, distance)
    assert_close(loss, slow, rtol=1e-12, atol=0)
    assert_close(gradients(loss, method), gradients(slow, method), rtol=1e-8, atol=1e-14)


def test_a_run_is_algorithm_1() -> None:
    """The slow network moves once an optimizer step, by less and less; and accumulated batches are
    one large one."""
    init_args: dict[str, Any] = {"norm": "layer", "momentum": 0.8, "optimizer": "sgd", "lr": 3.0}
    expected = plain_loop(tiny(BYOL, **init_args), loss_of, 1.0, lambda: None, steps=5)
    assert (expected["teacher"][-1] - expected["teacher"][0]).abs().max() > 1e-3
    for accumulate in (1, 2):
        assert_same_run(remembered(tiny(BYOL, **init_args), 5, 16 // accumulate, accumulate), expected)


def test_the_views_differ_in_strength() -> None:
    assert BYOL.views.strengths == ("strong_a", "strong_b")


def test_under_bf16_autocast_loss_and_slow_network_are_float32() -> None:
    (method, batch), (other, _) = (exact(BYOL, samples=32) for _ in range(2))
    exact_loss = other.step(batch)["loss"]
    method, views = method.float(), [view.each(Tensor.float) for view in batch["views"]]
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.step({**batch, "views": views})["loss"]
    loss.backward()
    method.teacher.update(0.5)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), exact_loss, rtol=0.01, atol=0)
    assert {parameter.dtype for parameter in method.teacher.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.5}, r"EMA\(decay=1.5\) must be at least 0 and at most 1"),
        ({"norm": "group"}, "norm='group'.* batch, layer, none"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BYOL(TinyEncoder(), **arguments)
