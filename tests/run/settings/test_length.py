"""A run that is too short for its settings says so before the first step."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.methods.moco import MoCo
from ssl_lightning.methods.simclr import SimCLR
from ssl_lightning.methods.swav import SwAV
from torch import nn

from ssl_lightning import EMA, Trainer
from ssl_lightning.run.settings.length import kept
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.trainer import STANDING


def said(method: Any, folder: Path, steps: int = 8, **callbacks: Any) -> list[str]:
    """The warnings of a run of 4 steps an epoch, 16 samples each."""
    off = [cls(**callbacks.get(key, {"enabled": False})) for key, cls in STANDING.items()]
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", default_root_dir=str(folder), enable_progress_bar=False, callbacks=off
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(method, datamodule=TinyImages())
    return [str(each.message) for each in caught if "too short" in str(each.message)]


@pytest.mark.parametrize(
    ("length", "symmetric", "steps"),
    [(256, True, 0), (257, True, 0), (258, True, 9), (258, False, 17), (128, False, 0)],
)
def test_a_queue_that_is_never_filled(length: int, symmetric: bool, steps: int, tmp_path: Path) -> None:
    """8 steps of 16 samples fill 256 places with two views each, 128 with one."""
    method = MoCo(TinyEncoder(), queue_length=length, symmetric=symmetric, momentum=0.5)
    lines = said(method, tmp_path)
    assert bool(lines) == bool(steps)
    if steps:
        assert f"MoCo: this run of 8 steps is too short for queue_length={length} ({steps} steps)." in lines[0]


def test_a_queue_that_is_filled_within_the_warned_length_is_full(tmp_path: Path) -> None:
    """The figure is right: after so many steps no feature of the start is left."""
    method = MoCo(TinyEncoder(), queue_length=64, momentum=0.5, output_dim=4)
    first = method.queue.features.clone()
    said(method, tmp_path, steps=1)
    assert bool((method.queue.features == first).all(dim=1).any())
    method = MoCo(TinyEncoder(), queue_length=64, momentum=0.5, output_dim=4)
    assert said(method, tmp_path, steps=2) == [] and not bool((method.queue.features == first).all(dim=1).any())


def test_epochs_that_a_run_does_not_reach(tmp_path: Path) -> None:
    """Prototypes that are frozen to the end, and a queue that is never used."""
    (line,) = said(SwAV(TinyEncoder(), local_views=0, prototypes=8, freeze_epochs=2, queue_length=8), tmp_path)
    assert "freeze_epochs=2 (8 steps); queue_epochs=15 (60 steps)" in line
    assert said(SwAV(TinyEncoder(), local_views=0, prototypes=8, freeze_epochs=1), tmp_path) == []


def test_a_slow_encoder_that_hardly_moves(tmp_path: Path) -> None:
    (line,) = said(MoCo(TinyEncoder(), queue_length=8, momentum=0.999), tmp_path)
    assert "its slow encoder (decay 0.999), which keeps 99 % of its first weights" in line


@pytest.mark.parametrize(("decay", "final", "steps"), [(0.9, 0.9, 7), (0.9, 1.0, 20), (0.99, 1.0, 3000)])
def test_the_share_that_it_keeps_is_that_of_its_updates(decay: float, final: float, steps: int) -> None:
    module = nn.Linear(1, 1, bias=False)
    teacher = EMA(module, decay, final)
    with torch.no_grad():
        teacher.module.weight.fill_(1.0)
        module.weight.zero_()
    for step in range(steps):
        teacher.update(step / steps)
    assert kept(teacher, steps) == pytest.approx(teacher.module.weight.item(), rel=0.02)


def test_a_look_that_never_comes(tmp_path: Path) -> None:
    (line,) = said(SimCLR(TinyEncoder()), tmp_path, health={"every_n_steps": 100}, meter={})
    assert "health.every_n_steps=100 (100 steps)" in line
    assert said(SimCLR(TinyEncoder()), tmp_path, health={}) == []  # the default looks every 10 steps
