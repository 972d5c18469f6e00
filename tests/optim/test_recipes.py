"""Each parameter is trained once, with the right decay, at the right rate, and exactly so after a
resume."""

from __future__ import annotations

import io
import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import timm
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

from ssl_lightning.optim.recipes import OptimizerName, OptimizerSpec, parameter_groups, warmup_cosine, warmup_linear

NAMES: tuple[OptimizerName, ...] = ("adamw", "sgd", "lars")


class Net(nn.Module):
    no_weight_decay = {"token", "inner.0.weight"}

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.tied = self.inner[1]


def names(module: nn.Module, weight_decay: float = 0.1) -> dict[float, set[str]]:
    """Names of the parameters by weight decay."""
    name_of = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        group["weight_decay"]: {name_of[id(parameter)] for parameter in group["params"]}
        for group in parameter_groups(module, weight_decay)
    }


def test_biases_norms_and_exempted_parameters_have_no_weight_decay() -> None:
    assert names(nn.Sequential(Net())) == {
        0.1: {"0.conv.weight", "0.inner.1.weight"},
        0.0: {
            "0.token",
            "0.conv.bias",
            "0.norm.weight",
            "0.norm.bias",
            "0.inner.0.weight",
            "0.inner.0.bias",
            "0.inner.1.bias",
        },
    }


def test_timms_method_is_asked_wherever_the_model_sits() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=24, num_heads=2, num_classes=0)
    found = names(nn.ModuleDict({"encoder": vit}))
    assert {"encoder.pos_embed", "encoder.cls_token"} <= found[0.0]
    assert {"encoder.patch_embed.proj.weight", "encoder.blocks.0.attn.qkv.weight"} <= found[0.1]


def test_every_trainable_parameter_is_in_one_group() -> None:
    net = Net()
    listed = [id(parameter) for group in parameter_groups(net, 0.1) for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in net.parameters() if parameter.requires_grad)


def test_settings_for_what_does_not_decay_reach_it_alone() -> None:
    assert [group.get("adapt") for group in parameter_groups(Net(), 0.0, adapt=False)] == [None, False]


def test_lars_adapts_what_may_decay_even_where_nothing_decays() -> None:
    optimizer, _ = OptimizerSpec("lars", weight_decay=0.0).build(Net(), 8, 10, 10)
    assert [(group["adapt"], {p.ndim > 1 for p in group["params"]}) for group in optimizer.param_groups] == [
        (True, {True}),
        (False, {True, False}),  # an exempted matrix among them
    ]


def test_groups_without_parameters_are_left_out() -> None:
    assert [group["weight_decay"] for group in parameter_groups(nn.Linear(2, 2, bias=False), 0.1)] == [0.1]


def test_schedule_rises_to_one_and_falls_along_a_cosine() -> None:
    rates = [warmup_cosine(step, 4, 24, final=0.1) for step in range(30)]
    assert_close(rates[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    assert_close(rates[4:24], [0.1 + 0.9 * (1 + math.cos(math.pi * k / 20)) / 2 for k in range(20)])
    assert_close(rates[24:], [0.1] * 6)


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 0), (5, 5), (7, 3)])
def test_schedule_of_a_very_short_run_is_a_factor(warmup: int, total: int) -> None:
    assert all(0 <= warmup_cosine(step, warmup, total) <= 1 for step in range(10))


@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_grows_with_the_batch(name: OptimizerName) -> None:
    spec = OptimizerSpec(name, lr=0.3, warmup_epochs=2)
    optimizer, schedule = spec.build(Net(), batch_size=64, total_steps=100, steps_an_epoch=2.5)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert_close(rates, [0.3 * 64 / 256 * warmup_cosine(step, 5, 100) for step in range(100)])
    assert_close(max(rates), 0.075)


def test_a_learning_rate_without_a_reference_batch_holds_for_any() -> None:
    assert OptimizerSpec(lr=0.3, reference_batch=None).scaled_lr(64) == 0.3


@pytest.mark.parametrize(
    ("spec", "epochs", "expected"),
    [
        ({"warmup_epochs": 10}, 1_000, 10),
        ({"warmup_epochs": 10}, 30, 3),  # a tenth of what is shorter than ten times the warm-up
        ({"warmup_epochs": 40, "recipe_epochs": 100}, 300, 40),  # MoCo v3's, of which a tenth would be 30
        ({"warmup_epochs": 40, "recipe_epochs": 100}, 20, 8),
        ({"warmup_epochs": 10, "recipe_epochs": 90}, 90, 10),  # the linear probe of MAE
        ({"warmup_epochs": 0}, 90, 0),
    ],
)
def test_the_warm_up_is_the_papers_in_a_run_as_long_as_the_papers(
    spec: dict[str, float], epochs: int, expected: float
) -> None:
    assert OptimizerSpec(**spec).warmup_steps(7 * epochs, 7) == 7 * expected


def test_a_warm_up_that_is_given_is_taken_up_to_half_of_the_run() -> None:
    for recipe_epochs in (None, 100.0):
        spec = OptimizerSpec(warmup_epochs=40, recipe_epochs=recipe_epochs).with_changes(warmup_epochs=8)
        assert [spec.warmup_steps(2 * epochs, 2) for epochs in (100, 16, 10)] == [16, 16, 10]
    with pytest.raises(ValueError, match="warmup_epochs=-1"):
        spec.with_changes(warmup_epochs=-1)
    assert spec.with_changes(lr=0.5, warmup_epochs=None).warmup_steps(200, 2) == 16


def test_a_linear_schedule_falls_to_zero() -> None:
    """As fairseq's and Hugging Face's: from the end of the warm-up to that of the run."""
    from transformers import get_linear_schedule_with_warmup

    optimizer, schedule = OptimizerSpec(lr=1.0, reference_batch=None, schedule="linear", warmup_epochs=2).build(
        Net(), 8, 20, 1
    )
    reference = get_linear_schedule_with_warmup(torch.optim.SGD(Net().parameters(), lr=1.0), 2, 20)
    for _ in range(22):
        step = schedule.last_epoch
        # The reference has no learning rate at all in the first step of its warm-up.
        expected = (step + 1) / 3 if step < 2 else reference.get_last_lr()[0]
        assert schedule.get_last_lr()[0] == pytest.approx(expected) == pytest.approx(warmup_linear(step, 2, 20))
        for each in (optimizer, schedule, reference.optimizer, reference):
            each.step()


def test_warm_up_takes_at_most_a_tenth_and_a_constant_rate_stays() -> None:
    optimizer, schedule = OptimizerSpec(lr=1.0, reference_batch=None, schedule="constant", warmup_epochs=10).build(
        Net(), 8, 20, 5
    )
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert_close(rates, [1 / 3, 2 / 3] + [1.0] * 18)


@pytest.mark.parametrize("name", NAMES)
def test_optimizers_are_those_of_the_paper(name: OptimizerName) -> None:
    """Equal to the plain formula of each, written out, for five steps with a weight and a bias."""
    spec = OptimizerSpec(
        name, lr=0.1, weight_decay=0.2, betas=(0.8, 0.9), momentum=0.7, trust_coefficient=0.03, reference_batch=None,
        schedule="constant", warmup_epochs=0,
    )  # fmt: skip
    layer = nn.Linear(3, 2).double()
    optimizer, _ = spec.build(layer, 1, 5, 1)
    state: list[list[Tensor]] = [
        [p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)] for p in layer.parameters()
    ]
    for t in range(1, 6):
        for parameter, (value, m, v), decay in zip(layer.parameters(), state, (0.2, 0.0), strict=True):
            g = parameter.grad = torch.randn_like(parameter)
            if name != "adamw":
                u = g + decay * value
                trust = 0.03 * value.norm() / u.norm() if name == "lars" and decay else 1.0
                m.mul_(0.7).add_(trust * u)
                value.sub_(0.1 * m)
            else:
                m.mul_(0.8).add_(0.2 * g)
                v.mul_(0.9).add_(0.1 * g * g)
                value.sub_(0.1 * (m / (1 - 0.8**t) / ((v / (1 - 0.9**t)).sqrt() + 1e-8) + decay * value))
        optimizer.step()
    assert_close(list(layer.parameters()), [value for value, _, _ in state], rtol=1e-10, atol=1e-12, check_stride=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_bit_for_bit_the_same(name: OptimizerName) -> None:
    def build() -> tuple[nn.Module, Any, Any]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(7, 33), nn.ReLU(), nn.Linear(33, 5))
        return (net, *OptimizerSpec(name, lr=0.5, weight_decay=0.1).build(net, 256, 20, 1))

    def run(net: nn.Module, optimizer: Any, schedule: Any, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            net(torch.randn(16, 7, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
            schedule.step()

    whole, first, second = build(), build(), build()
    run(*whole, range(20))
    run(*first, range(9))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    run(*second, range(9, 20))
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), second[0].parameters(), strict=True))


class Clipped(LightningModule):
    def __init__(self, name: OptimizerName) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.spec = OptimizerSpec(name)

    def training_step(self, batch: Tensor) -> Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return self.spec.build(self, 2, 2, 2)[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_gradients_can_be_clipped_in_mixed_precision(name: OptimizerName) -> None:
    trainer = Trainer(
        max_steps=2,
        accelerator="cpu",
        precision="bf16-mixed",
        gradient_clip_val=0.1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Clipped(name), DataLoader(torch.randn(4, 4), batch_size=2))
    assert trainer.global_step == 2


def test_settings_are_data() -> None:
    spec = OptimizerSpec("sgd", lr=0.3)
    changed = spec.with_changes(lr=0.1, weight_decay=None)
    assert (changed.name, changed.lr, changed.weight_decay, spec.lr) == ("sgd", 0.1, spec.weight_decay, 0.3)
    with pytest.raises(FrozenInstanceError):
        spec.lr = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"name": "adam"}, "name='adam'.*adamw, sgd, lars"),
        ({"schedule": "step"}, "schedule='step'.*cosine, linear, constant"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"trust_coefficient": 0.0}, "trust_coefficient=0.0. must be above 0"),
        ({"reference_batch": 0}, "reference_batch=0"),
    ],
)
def test_mistakes_are_named(field: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerSpec(**field)
