"""MoCo v3 is Algorithm 1 of its paper, step by step, and keeps a vision transformer's patches as
they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from proofs import assert_same_run, cosine, exact, gradients, plain_loop, remembered, tiny
from ssl_lightning.methods.moco_v3 import MoCoV3
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning import Batch, Encoder, View
from ssl_lightning.testing import TinyEncoder

TAU = 0.2


def ctr(q: Tensor, k: Tensor) -> Tensor:
    """arXiv 2104.02057, Algorithm 1: 2 tau times the cross entropy of q k^T / tau with the
    diagonal, one query at a time."""
    loss = q.new_zeros(())
    for i in range(len(q)):
        s = torch.stack([cosine(q[i], key) / TAU for key in k])
        loss = loss - torch.log(s[i].exp() / s.exp().sum())
    return 2 * TAU * loss / len(q)


def loss_of(method: Any, batch: Batch) -> Tensor:
    """ctr(q1, k2) + ctr(q2, k1); a key has no predictor and no gradient."""
    fast, slow = nn.Sequential(method.encoder, method.projector, method.predictor), method.teacher.module
    q1, q2 = (fast(view) for view in batch["views"])
    with torch.no_grad():
        k1, k2 = (slow(view) for view in batch["views"])
    return ctr(q1, k2) + ctr(q2, k1)


@pytest.mark.parametrize(("norm", "projector_layers"), [("batch", 3), ("batch", 2), ("none", 3)])
def test_one_step_is_algorithm_1(norm: str, projector_layers: int) -> None:
    """Loss, and its gradient with respect to every parameter; float64."""
    method, batch = exact(MoCoV3, norm=norm, projector_layers=projector_layers, hidden_dim=16, output_dim=8)
    loss, slow = method.step(batch)["loss"], loss_of(method, batch)
    assert_close(loss, slow, rtol=1e-12, atol=0)
    assert_close(gradients(loss, method), gradients(slow, method), rtol=1e-8, atol=1e-14)


def test_a_run_is_algorithm_1() -> None:
    """The slow encoder moves after each optimizer step, by less and less."""
    init_args: dict[str, Any] = {"norm": "layer", "momentum": 0.8, "optimizer": "lars", "lr": 30.0}
    expected = plain_loop(tiny(MoCoV3, **init_args), loss_of, 1.0, lambda: None, steps=5)
    assert (expected["teacher"][-1] - expected["teacher"][0]).abs().max() > 1e-3
    assert_same_run(remembered(tiny(MoCoV3, **init_args), 5), expected)


def test_accumulation_is_refused_with_the_reason() -> None:
    with pytest.raises(
        MisconfigurationException, match="accumulate_grad_batches=2 changes the loss of MoCoV3: its negatives come from"
    ):
        remembered(tiny(MoCoV3), 1, 8, 2)


class Patches(Encoder):
    """The beginning of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 8
        self.patch_embedding = nn.Conv2d(1, 8, 4, stride=4)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))

    def forward(self, view: View) -> Tensor:
        features: Tensor = self.mlp(self.patch_embedding(view.x).flatten(2).transpose(1, 2).relu()).mean(dim=1)
        return features


def test_the_heads_are_those_of_the_authors_code() -> None:
    """A transformer: three layers and two, BatchNorm without parameters at both ends. A ResNet: two
    layers each, and no norm at the predictor's end. No linear layer has a bias."""
    both, one = ("BatchNorm1d", "BatchNorm1d"), ("BatchNorm1d", "Linear")
    for encoder, layers, ends in ((Patches(), 3, both), (TinyEncoder(), 2, one)):
        method = MoCoV3(encoder)
        heads = (method.projector, method.predictor)
        assert [sum(isinstance(layer, nn.Linear) for layer in head) for head in heads] == [layers, 2]
        assert tuple(type(head[-1]).__name__ for head in heads) == ends
        for head in heads:
            assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))
            assert not [*head[-1].parameters()] or isinstance(head[-1], nn.Linear)


@pytest.mark.parametrize("freeze", [True, False])
def test_the_patch_embedding_stays_unless_it_is_to_learn(freeze: bool) -> None:
    """Bitwise, weight decay and slow encoder included (two processes:
    test_momentum_processes.py)."""
    method = MoCoV3(Patches(), norm="layer", lr=1.0, weight_decay=0.5, freeze_patch_embedding=freeze)
    before = {name: value.clone().double() for name, value in method.state_dict().items()}
    after = remembered(method, 3)["state"]
    places = [
        f"{place}.patch_embedding.{name}" for place in ("encoder", "teacher.module.0") for name in ("weight", "bias")
    ]
    assert [torch.equal(before[place], after[place]) for place in places] == [freeze] * 4
    assert not torch.equal(before["encoder.mlp.0.weight"], after["encoder.mlp.0.weight"])


def test_under_bf16_autocast_loss_and_slow_encoder_are_float32() -> None:
    (method, batch), (other, _) = (exact(MoCoV3, samples=32) for _ in range(2))
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
        ({"temperature": 0.0}, r"MoCoV3\(temperature=0\.0\) must be above 0"),
        ({"projector_layers": 0}, r"MoCoV3\(projector_layers=0\) must be at least 1"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoCoV3(TinyEncoder(), **arguments)
