"""A step that a gradient scaler skips moves nothing that follows the weights."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from ssl_lightning.methods.byol import BYOL
from ssl_lightning.methods.moco import MoCo
from ssl_lightning.methods.swav import SwAV
from torch import Tensor, nn

from ssl_lightning.method import SSLMethod
from ssl_lightning.optim.lars import LARS
from ssl_lightning.optim.steps import StepWatch
from ssl_lightning.testing import TinyEncoder, TinyImages


class Overflow(pl.Callback):
    """Makes a gradient of some batches infinite, and keeps the method's state and the learning
    rate after each batch."""

    def __init__(self, batches: tuple[int, ...]) -> None:
        self.batches = batches
        self.batch = 0
        self.states: list[dict[str, Tensor]] = []
        self.rates: list[float] = []

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.batch in self.batches:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            gradients[0].view(-1)[0] = torch.inf

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.batch += 1
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """What changed, apart from the running statistics of norms, which a forward pass updates."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {
        name for name, value in after.items() if not torch.equal(value, before[name]) and not name.endswith(statistics)
    }


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("cls", "init_args", "follows"),
    [
        (BYOL, {"momentum": 0.5}, {"teacher.module.0.conv.weight"}),
        (MoCo, {"momentum": 0.5, "queue_length": 48}, {"teacher.module.0.conv.weight", "queue.features"}),
        (SwAV, {"freeze_epochs": 0.0, "queue_length": 48}, {"prototypes.weight", "queue.features"}),
    ],
)
def test_a_skipped_step_leaves_teacher_queue_and_prototypes_where_they_are(
    cls: type[SSLMethod], init_args: dict[str, Any], follows: set[str], accumulate: int
) -> None:
    """The second of three optimizer steps overflows. The learning rate goes on, as Lightning has
    it."""
    torch.manual_seed(0)
    method = cls(TinyEncoder(), **init_args)
    if accumulate > 1 and method.couples_samples:
        pytest.skip("its batches are not accumulated")
    watch = Overflow((accumulate,))
    pl.Trainer(
        accelerator="cpu",
        max_steps=3,
        accumulate_grad_batches=accumulate,
        plugins=[MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1.0))],
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(method, datamodule=TinyImages())
    first, second, third = watch.states[accumulate - 1 :: accumulate]
    assert moved(first, second) == set()
    assert moved(second, third) >= follows
    assert len(set(watch.rates[accumulate - 1 :: accumulate])) == 3


@pytest.mark.parametrize("kind", ["sgd", "fused", "lars"])
def test_a_step_is_noticed_and_a_skipped_one_too(kind: str) -> None:
    """A fused optimizer that unscales its gradients itself is called even where it will skip."""
    weight = nn.Parameter(torch.ones(3))
    optimizers: dict[str, Any] = {
        "sgd": lambda: torch.optim.SGD([weight], lr=0.1),
        "fused": lambda: torch.optim.AdamW([weight], lr=0.1, fused=True),
        "lars": lambda: LARS([weight], lr=0.1),
    }
    optimizer, scaler = optimizers[kind](), torch.amp.GradScaler("cpu", init_scale=2.0)
    for value, steps in ((1.0, True), (torch.inf, False), (2.0, True), (torch.nan, False)):
        before = weight.detach().clone()
        optimizer.zero_grad()
        scaler.scale((weight * value).sum()).backward()
        with StepWatch(optimizer) as watch:
            scaler.step(optimizer)
        scaler.update()
        assert watch.stepped == steps == (not torch.equal(weight, before))
    with StepWatch(optimizer) as watch:
        pass
    assert not watch.stepped
    with StepWatch(object()) as watch:
        pass
    assert watch.stepped


def test_a_watch_leaves_no_hook_behind() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1)
    with StepWatch(optimizer) as watch:
        pass
    optimizer.step()
    assert not watch.stepped
    with pytest.raises(RuntimeError), StepWatch(optimizer) as watch:
        raise RuntimeError
    optimizer.step()
    assert not watch.stepped
