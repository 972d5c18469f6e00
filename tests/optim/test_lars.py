"""LARS is the formula of its docstring, for all parameters at once, and goes on exactly where it
was."""

from __future__ import annotations

import io
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightly.utils.lars import LARS as LightlyLARS
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning.optim.lars import LARS
from ssl_lightning.optim.recipes import warmup_cosine
from ssl_lightning.testing import TinyEncoder, TinyImages

SHAPES = [(4, 3, 3, 3), (5, 7), (5,), (1, 1, 6), (2, 2)]


def weights(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[nn.Parameter]:
    """Some of each size; the last one is zero, and one has its channels last in memory."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]
    made[0] = made[0].to(memory_format=torch.channels_last)
    return [nn.Parameter(each) for each in (*made[:-1], torch.zeros_like(made[-1]))]


def grouped(parameters: list[nn.Parameter], **settings: Any) -> list[dict[str, Any]]:
    """Vectors neither decay nor adapt."""
    some, plain = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim == 1]
    return [{"params": some, **settings}, {"params": plain, "weight_decay": 0.0, "adapt": False}]


def give_gradients(parameters: list[nn.Parameter], step: int) -> None:
    """Random ones; those of one parameter are zero in every third step, and another has none in
    every fourth, the first among them."""
    generator = torch.Generator().manual_seed(100 + step)
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        if number == 1 and step % 3 == 1:
            parameter.grad.zero_()
        if number == 3 and step % 4 == 0:
            parameter.grad = None


def rate(step: int) -> float:
    return 0.5 * warmup_cosine(step, 4, 20)


def train(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        give_gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()


def by_hand(
    parameters: list[nn.Parameter], steps: int, weight_decay: float, eta: float, m: float = 0.9
) -> list[Tensor]:
    """The formula, one parameter after the other, in Python's numbers."""
    values = [parameter.detach().clone() for parameter in parameters]
    buffers = [torch.zeros_like(value) for value in values]
    for step in range(steps):
        give_gradients(parameters, step)
        for w, v, parameter in zip(values, buffers, parameters, strict=True):
            if parameter.grad is None:
                continue
            u, trust = parameter.grad.clone(), 1.0
            if w.ndim > 1:
                u += weight_decay * w
                length, of_update = float(w.square().sum()) ** 0.5, float(u.square().sum()) ** 0.5
                if length > 0 and of_update > 0:
                    trust = eta * length / of_update
            v.mul_(m).add_(trust * u)
            w.sub_(rate(step) * v)
    return values


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("eta", [1e-3, 0.05])
def test_twenty_steps_are_those_of_the_formula(weight_decay: float, eta: float) -> None:
    """With a schedule, momentum, zero weights, zero gradients and missing ones."""
    parameters = weights()
    expected = by_hand(weights(), 20, weight_decay, eta)
    train(LARS(grouped(parameters, weight_decay=weight_decay), 0.0, trust_coefficient=eta), parameters, range(20))
    assert_close([p.detach() for p in parameters], expected, rtol=1e-12, atol=1e-14)
    assert all((new.detach() != old.detach()).any() for new, old in zip(parameters, weights(), strict=True))


def test_float32_keeps_to_the_formula_in_float64() -> None:
    parameters = weights(torch.float32)
    expected = by_hand(weights(), 20, 0.3, 0.05)
    train(LARS(grouped(parameters, weight_decay=0.3), 0.0, trust_coefficient=0.05), parameters, range(20))
    assert_close([p.detach().double() for p in parameters], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_take_one_step_to_their_rounding(dtype: torch.dtype) -> None:
    """Lengths are taken in float32: this gradient's is 192,000, beyond float16."""
    parameter = nn.Parameter(torch.full((64, 64), 0.5, dtype=dtype))
    parameter.grad = torch.full_like(parameter, 3000.0)
    LARS([parameter], 1.0, trust_coefficient=0.1).step()
    assert parameter.dtype == dtype
    assert_close(parameter.detach().double(), torch.full((64, 64), 0.45, dtype=torch.float64), rtol=2**-8, atol=0)


def test_a_step_moves_a_weight_by_a_part_of_its_length_whatever_the_gradients() -> None:
    """You et al. 2017, Section 4: independent of the gradient's scale."""
    for scale in (1e-20, 1.0, 1e15):  # in float32; the squares of the first underflow in a naive sum
        parameter = nn.Parameter(torch.ones(3, 3))
        parameter.grad = scale * torch.eye(3)
        LARS([parameter], 2.0, trust_coefficient=0.01).step()
        assert_close((1 - parameter.detach()).norm(), torch.tensor(2 * 0.01 * 3.0), rtol=1e-4, atol=0)


def test_a_group_that_does_not_adapt_is_sgd_with_momentum_at_any_schedule() -> None:
    mine, theirs = weights(torch.float32), weights(torch.float32)
    train(LARS(mine, 0.0, weight_decay=0.1, adapt=False), mine, range(20))
    train(torch.optim.SGD(theirs, 0.0, momentum=0.9, weight_decay=0.1, foreach=True), theirs, range(20))
    assert_close([p.detach() for p in mine], [p.detach() for p in theirs], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("weight_decay", [1e-6, 0.3])
def test_it_agrees_with_lightly_where_their_formulas_do(weight_decay: float) -> None:
    """Lightly divides by |g| + beta |w| + 1e-8, the paper's Algorithm 1, where the authors' code
    divides by |g + beta w|: equal for a gradient along the weight. And it leaves out the decay, not
    only the ratio, where a norm is zero: no zeros here."""
    mine, theirs = (
        nn.Parameter(torch.randn(5, 7, dtype=torch.float64)),
        nn.Parameter(torch.empty(5, 7, dtype=torch.float64)),
    )
    theirs.data.copy_(mine.data)
    optimizers = (
        LARS([mine], 0.0, weight_decay=weight_decay),
        LightlyLARS([theirs], 0.0, momentum=0.9, weight_decay=weight_decay),
    )
    for step in range(20):
        for parameter, optimizer in zip((mine, theirs), optimizers, strict=True):
            parameter.grad = (step + 1) * parameter.detach()
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.step()
    assert_close(mine.detach(), theirs.detach(), rtol=1e-8, atol=0)


def test_gradients_stay_as_they_are() -> None:
    parameters = weights()
    give_gradients(parameters, 2)
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    LARS(parameters, 0.1, weight_decay=0.5).step()
    assert all(torch.equal(p.grad, old) for p, old in zip(parameters, before, strict=True) if p.grad is not None)


def test_precisions_may_be_mixed_in_a_group() -> None:
    alone = weights(torch.float64)
    train(LARS(alone, 0.0, weight_decay=0.1), alone, range(5))
    mixed, others = weights(torch.float64), weights(torch.float32, seed=1)
    optimizer = LARS([p for pair in zip(others, mixed, strict=True) for p in pair], 0.0, weight_decay=0.1)
    for step in range(5):
        give_gradients(others, step)
        train(optimizer, mixed, range(step, step + 1))
    assert all(torch.equal(a, b) for a, b in zip(alone, mixed, strict=True))


def test_a_run_resumed_midway_ends_bit_for_bit_the_same() -> None:
    """Also where a parameter has had no gradient yet, and through a file that is read with
    weights_only."""
    whole = weights(torch.float32)
    train(LARS(grouped(whole, weight_decay=0.1), 0.0), whole, range(20))
    for stop in (1, 9):
        first, second = weights(torch.float32), weights(torch.float32, seed=5)
        optimizer = LARS(grouped(first, weight_decay=0.1), 0.0)
        train(optimizer, first, range(stop))
        file = io.BytesIO()
        torch.save({"weights": [p.detach() for p in first], "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        for parameter, value in zip(second, loaded["weights"], strict=True):
            parameter.data = value
        resumed = LARS(grouped(second, weight_decay=7.0), 0.0, momentum=0.1)
        resumed.load_state_dict(loaded["optimizer"])
        train(resumed, second, range(stop, 20))
        assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


def test_an_overflowed_gradient_is_skipped_by_a_scaler() -> None:
    """And a whole one is unscaled before its length is taken."""
    parameters, plain = weights(torch.float32), weights(torch.float32)
    optimizer, other = LARS(parameters, 0.1, weight_decay=0.5), LARS(plain, 0.1, weight_decay=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step, overflow in ((2, False), (3, True)):
        give_gradients(parameters, step)
        give_gradients(plain, step)
        scaler.scale(torch.zeros(()))  # makes the scale
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.mul_(float("inf") if overflow else 1024.0)
        if not overflow:
            other.step()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 512.0
    assert_close([p.detach() for p in parameters], [p.detach() for p in plain], rtol=1e-6, atol=1e-7)


def test_the_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([parameter], 0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4.0
    assert (parameter < 1).all()


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.values.append(float(outputs["loss"]))


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "settings", [{}, {"precision": "bf16-mixed", "gradient_clip_val": 1.0}], ids=["32", "bf16, clipped"]
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_simclr_learns_with_lars(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    # 80 small steps: a weight turns by lr * 1e-3 in each, and the paper's 0.3 is meant for a
    # thousand times as many.
    method, losses = SimCLR(TinyEncoder(), optimizer="lars", lr=30.0, temperature=0.5), Losses()
    before = [p.detach().clone() for p in method.parameters()]
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(**{"accelerator": "cpu", "max_epochs": 20, "callbacks": [losses], **quiet, **settings})
    trainer.fit(method, datamodule=TinyImages(samples=64))
    (optimizer,) = trainer.optimizers
    assert isinstance(optimizer, LARS)
    assert [(group["adapt"], group["weight_decay"]) for group in optimizer.param_groups] == [(True, 1e-6), (False, 0.0)]
    assert all((new != old).any() for new, old in zip(method.parameters(), before, strict=True))
    assert sum(losses.values[-8:]) < sum(losses.values[:8]) - 8 * 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": -1.0}, r"LARS\(lr=-1.0\) must be at least 0"),
        ({"momentum": 1.0}, r"momentum=1.0\) must be at least 0 and below 1"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"trust_coefficient": 0.0}, "trust_coefficient=0.0. must be above 0"),
    ],
)
def test_mistakes_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LARS(weights(), **{"lr": 0.1, **wrong})  # type: ignore[arg-type]
