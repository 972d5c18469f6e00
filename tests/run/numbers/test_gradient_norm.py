"""The gradients' norm in `metrics.csv`: what it is, and that looking at it changes nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.evaluation.report import Report
from ssl_lightning.optim import finite
from ssl_lightning.run.folder import metrics
from ssl_lightning.run.numbers import guard
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import TinyEncoder, TinyImages


class Norms(Callback):
    """The norm of all gradients of each step, as PyTorch computes it to clip them."""

    def __init__(self) -> None:
        self.norms: dict[int, float] = {}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        self.norms[trainer.global_step + 1] = float(torch.nn.utils.get_total_norm(gradients))


def fit(root: Path, steps: int = 5, ckpt_path: Path | None = None, **kwargs: Any) -> tuple[Any, Norms]:
    torch.manual_seed(0)
    norms = Norms()
    callbacks = [Report(enabled=False), Health(enabled=kwargs.pop("watched", True)), norms]
    trainer = ssl_lightning.Trainer(
        **{"max_steps": steps, "accelerator": "cpu", "precision": "32-true", "default_root_dir": str(root),
           "log_every_n_steps": 2, "enable_progress_bar": False, **kwargs},
        callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages(samples=96), ckpt_path=ckpt_path)
    return trainer, norms


def rows(trainer: Any) -> dict[int, dict[str, str]]:
    with (trainer.run_folder / "metrics.csv").open() as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


@pytest.mark.parametrize("settings", [{}, {"gradient_clip_val": 0.01}, {"watched": False}])
def test_a_row_has_the_norm_of_its_steps_gradients_before_they_are_clipped(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    trainer, norms = fit(tmp_path, **settings)
    logged = {step: float(row["train/grad_norm"]) for step, row in rows(trainer).items() if row["train/grad_norm"]}
    assert logged.keys() == ({2, 4} if settings.get("watched") is False else {2, 4, 5})
    assert logged == pytest.approx({step: norms.norms[step] for step in logged}, rel=1e-5)


def test_training_is_bit_for_bit_the_same_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, _ = fit(tmp_path / "looked")
    monkeypatch.setattr(metrics.Metrics, "gradient_norm", lambda self: None)
    without, _ = fit(tmp_path / "without")
    weights = (each.lightning_module.state_dict() for each in (looked, without))
    assert all(torch.equal(one, other) for one, other in zip(*(each.values() for each in weights), strict=True))
    assert "train/grad_norm" not in rows(without)[2]


def test_a_step_without_a_row_computes_nothing_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(metrics, "total_length", lambda each: calls.append(1) or finite.total_length(each))
    looks: list[int] = []
    monkeypatch.setattr(guard, "lengths_of", lambda each: looks.append(1) or finite.lengths_of(each))
    fit(tmp_path, enable_checkpointing=False)
    assert len(calls) == 3, "the rows of the steps 2, 4 and 5"
    assert len(looks) == 5, "the guard's own look, once a step"


def test_a_resumed_run_writes_the_row_that_an_undisturbed_one_does(tmp_path: Path) -> None:
    whole, _ = fit(tmp_path / "whole", steps=5)
    newest = max((whole.run_folder / "checkpoints").glob("*.ckpt"))
    resumed, _ = fit(tmp_path / "resumed", steps=5, ckpt_path=newest)
    assert rows(resumed)[5]["train/grad_norm"] == rows(whole)[5]["train/grad_norm"] != ""
