"""Each method of the registry trains on a GPU, the same twice, and resumes bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.callbacks import Checkpoint as LightningCheckpoint
from resuming import differences

from ssl_lightning import Trainer, load_encoder
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.optim.finite import NotFinite
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.methods import tiny_data, tiny_encoder

pytestmark = pytest.mark.gpu
METHODS = Registry("ssl_lightning.methods")
STEPS = 4


class SaveAt(LightningCheckpoint):
    """Saves a checkpoint after a step, and notes where the weights are."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path, self.device = step, path, ""

    def on_train_batch_end(self, trainer: Any, method: Any, *args: Any) -> None:
        self.device = method.device.type
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


def train(
    cls: Any, root: Path, precision: Any, path: Path | None = None, accelerator: str = "cuda", **settings: Any
) -> dict[str, Any]:
    """Trains for `STEPS` steps, or the one of a regression, with every live probe; from a
    checkpoint if there is one. Returns all that equal runs have in common."""
    torch.manual_seed(0)
    method, data = cls(tiny_encoder(cls)), tiny_data(cls, **settings)
    steps = 1 if cls.solved else STEPS
    save = SaveAt(max(1, steps // 2), root / "half.ckpt")
    standing = [
        KNNProbe(bank=32, queries=16, every_n_steps=2),
        OnlineLinearProbe(batch_size=16, queries=16, every_n_steps=2, eval_every_n_steps=2),
        HeldOut(samples=16, every_n_steps=2),
        CollapseMonitor(every_n_steps=2),
        Report(False),
    ]
    trainer = Trainer(
        accelerator=accelerator, devices=1, precision=precision, deterministic=True, max_steps=STEPS,
        log_every_n_steps=2, default_root_dir=root, callbacks=[*standing, save], enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(method, datamodule=data, ckpt_path=path)
    assert save.device == accelerator and trainer.global_step == steps
    return {
        "weights": method.cpu().state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "position": data.position,
        "metrics": (trainer.run_folder / "metrics.csv").read_text().splitlines()[-1],
    }


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_the_same_twice_and_resumed(name: str, precision: str, tmp_path: Path) -> None:
    roots = [tmp_path / each for each in ("one", "two", "resumed")]
    straight = train(METHODS[name], roots[0], precision)
    for value in straight["weights"].values():
        assert not value.is_floating_point() or bool(value.isfinite().all())
    assert differences(straight, train(METHODS[name], roots[1], precision)) == []
    assert differences(straight, train(METHODS[name], roots[2], precision, roots[0] / "half.ckpt")) == []


class Broken(Callback):
    """Breaks a gradient of the third step, and keeps the weights after each."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Any]] = []

    def on_after_backward(self, trainer: Any, method: Any) -> None:
        if trainer.global_step == 2:
            next(each.grad for each in method.parameters() if each.grad is not None).view(-1)[0] = torch.inf

    def on_train_batch_end(self, trainer: Any, method: Any, *args: Any) -> None:
        self.weights.append({name: weight.detach().clone() for name, weight in method.named_parameters()})


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_a_step_that_is_not_finite_is_left_out_on_the_device(optimizer: str, tmp_path: Path) -> None:
    """The host knows a step later; the weights are as before the step."""
    method, broken = METHODS["simclr"](TinyEncoder(), optimizer=optimizer), Broken()
    trainer = Trainer(
        accelerator="cuda", devices=1, precision="32-true", max_steps=6, default_root_dir=tmp_path,
        callbacks=[Report(False), broken], enable_progress_bar=False,
    )  # fmt: skip
    with pytest.raises(NotFinite, match=r"step 3: the loss is .*, but the gradient of "):
        trainer.fit(method, datamodule=TinyImages())
    assert len(broken.weights) == 3  # the fourth step was under way
    for name, weight in method.named_parameters():
        assert torch.equal(weight, broken.weights[1][name]), name


def test_data_on_the_device_changes_nothing(tmp_path: Path) -> None:
    cls = METHODS["simclr"]
    sent, kept = (train(cls, tmp_path / cache, "32-true", cache=cache) for cache in ("none", "device"))
    assert differences(sent, kept) == []


def test_a_run_with_its_report_and_commands(tmp_path: Path) -> None:
    """All that a run does by itself works on a GPU, and what it leaves is read without one."""
    trainer = Trainer(accelerator="cuda", devices=1, max_epochs=2, default_root_dir=tmp_path)
    method, data = METHODS["simclr"](TinyEncoder()), TinyImages()
    trainer.fit(method, datamodule=data)
    folder = trainer.run_folder
    assert folder is not None and (folder / "summary.json").is_file()
    assert next(load_encoder(folder).parameters()).device.type == "cpu"
    for command in (trainer.validate, trainer.test, trainer.predict):
        command(method, datamodule=data)


def test_a_run_begun_on_a_cpu_goes_on_on_a_gpu(tmp_path: Path, full_float32: None) -> None:
    """Its checkpoint names no device; the weights are the other device's but for rounding."""
    cls = METHODS["simclr"]
    here = train(cls, tmp_path / "cpu", "32-true", accelerator="cpu")
    moved = train(cls, tmp_path / "moved", "32-true", tmp_path / "cpu" / "half.ckpt")
    for name, value in moved["weights"].items():
        torch.testing.assert_close(value, here["weights"][name], rtol=1e-2, atol=1e-3, msg=name)
