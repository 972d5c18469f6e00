"""Every public callback of Lightning's: it works in a run, resume included, or it is refused before
training with what to use instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, callbacks
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.run.settings.foreign import REFUSED
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.trainer import STANDING


class Thaws(callbacks.BaseFinetuning):
    """Trains the encoder from the second epoch on."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.encoder)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.encoder, optimizer)


class Counts(callbacks.BasePredictionWriter):
    """Counts the batches that it is given."""

    def __init__(self) -> None:
        super().__init__("batch")
        self.batches = 0

    def write_on_batch_end(self, *_: Any) -> None:
        self.batches += 1


WORKS: dict[str, Callable[[Path], Callback]] = {
    "BasePredictionWriter": lambda folder: Counts(),
    "Callback": lambda folder: callbacks.Callback(),
    "Checkpoint": lambda folder: callbacks.Checkpoint(),
    "DeviceStatsMonitor": lambda folder: callbacks.DeviceStatsMonitor(),
    "EarlyStopping": lambda folder: callbacks.EarlyStopping("collapse/std", mode="max", patience=99),
    "LambdaCallback": lambda folder: callbacks.LambdaCallback(on_train_start=lambda *_: None),
    "LearningRateMonitor": lambda folder: callbacks.LearningRateMonitor("step"),
    "ModelCheckpoint": lambda folder: callbacks.ModelCheckpoint(folder / "kept", monitor="collapse/std", mode="max"),
    "ModelSummary": lambda folder: callbacks.ModelSummary(),
    "OnExceptionCheckpoint": lambda folder: callbacks.OnExceptionCheckpoint(folder / "exception"),
    "ProgressBar": lambda folder: callbacks.ProgressBar(),
    "RichModelSummary": lambda folder: callbacks.RichModelSummary(),
    "RichProgressBar": lambda folder: callbacks.RichProgressBar(),
    "ThroughputMonitor": lambda folder: callbacks.ThroughputMonitor(lambda batch: len(batch["index"])),
    "Timer": lambda folder: callbacks.Timer("00:01:00:00"),
    "TQDMProgressBar": lambda folder: callbacks.TQDMProgressBar(),
}
BREAKS: dict[str, Callable[[], Callback]] = {
    "BackboneFinetuning": callbacks.BackboneFinetuning,
    "BaseFinetuning": Thaws,
    "BatchSizeFinder": callbacks.BatchSizeFinder,
    "EMAWeightAveraging": callbacks.EMAWeightAveraging,
    "GradientAccumulationScheduler": lambda: callbacks.GradientAccumulationScheduler({1: 2}),
    "LearningRateFinder": callbacks.LearningRateFinder,
    "ModelPruning": lambda: callbacks.ModelPruning("l1_unstructured"),
    "SpikeDetection": callbacks.SpikeDetection,
    "StochasticWeightAveraging": lambda: callbacks.StochasticWeightAveraging(0.1),
    "WeightAveraging": callbacks.WeightAveraging,
}


def test_each_is_tried() -> None:
    """A callback that a new version of Lightning brings is looked at before it is listed here."""
    assert sorted([*WORKS, *BREAKS]) == sorted(callbacks.__all__)


@pytest.mark.parametrize("name", BREAKS)
def test_what_would_break_a_run_is_refused_with_what_to_use_instead(name: str) -> None:
    with pytest.raises(ValueError, match=r"The callback \w+ does not work here: .*\.") as refusal:
        Trainer(accelerator="cpu", callbacks=[BREAKS[name]()])
    assert "\n" not in str(refusal.value)


def test_a_callback_that_a_method_brings_is_refused_too(tmp_path: Path) -> None:
    class Averaged(SimCLR):
        def configure_callbacks(self) -> list[Callback]:
            return [callbacks.EMAWeightAveraging()]

    trainer = Trainer(accelerator="cpu", max_steps=1, default_root_dir=str(tmp_path))
    with pytest.raises(ValueError, match="EMAWeightAveraging does not work here"):
        trainer.fit(Averaged(TinyEncoder()), datamodule=TinyImages())
    assert not any(tmp_path.iterdir())


def fit(folder: Path, *more: Callback, ckpt_path: Any = None) -> Trainer:
    off = [STANDING[key](enabled=False) for key in ("report", "online_probe", "knn_probe")]  # type: ignore[call-arg]
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=str(folder), logger="csv", log_every_n_steps=1,
        callbacks=[*off, *more],
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(SimCLR(TinyEncoder(), hidden_dim=8, output_dim=4), datamodule=TinyImages(), ckpt_path=ckpt_path)
    return trainer


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The weights of a run without further callbacks."""
    return dict(fit(tmp_path_factory.mktemp("alone")).lightning_module.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_the_others_work_and_change_nothing(name: str, alone: dict[str, Any], tmp_path: Path) -> None:
    """The run has the weights of one without the callback, resumes from its first epoch to the same
    ones, and is tested and predicted with it."""
    if name == "DeviceStatsMonitor":
        pytest.importorskip("psutil")
    callback = WORKS[name](tmp_path)
    trainer = fit(tmp_path, callback)
    assert trainer.run_folder is not None
    first = trainer.run_folder / "checkpoints" / "step-00000004.ckpt"
    resumed = fit(tmp_path / "again", WORKS[name](tmp_path), ckpt_path=first)
    for each in (trainer, resumed):
        assert all(torch.equal(value, alone[key]) for key, value in each.lightning_module.state_dict().items())
    trainer.predict(trainer.lightning_module, datamodule=TinyImages())
    if isinstance(callback, Counts):
        assert callback.batches == 4


def test_each_refusal_belongs_to_a_callback() -> None:
    refused = {cls.__name__ for cls in REFUSED}
    assert refused <= set(BREAKS) and all(isinstance(BREAKS[name](), tuple(REFUSED)) for name in BREAKS)
