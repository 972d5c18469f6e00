"""A callback may serve in several runs, one after the other: each begins as if it were new."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.archive import read
from ssl_lightning.run.checkpoints.checkpoint import newest_of
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.meter import Meter
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import TinyEncoder, TinyImages


class Unlabelled(TinyImages):
    """The same images, whose labels nobody knows."""

    def probe_splits(self) -> None:
        return None


class Still(pl.Callback):
    """Ends the run after a step."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.should_stop = trainer.global_step == 3


def run(root: Path, callbacks: list[Any], data: Any = None, **trainer: Any) -> tuple[Any, list[str]]:
    """What a run left in its newest checkpoint, and what it warned of."""
    torch.manual_seed(0)
    fitted = ssl_lightning.Trainer(
        **{"max_steps": 4, "accelerator": "cpu", "precision": "32-true", "default_root_dir": str(root), **trainer},
        enable_progress_bar=False,
        callbacks=[*callbacks, Report(enabled=False)],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted.fit(SimCLR(TinyEncoder()), datamodule=data or TinyImages())
    assert fitted.run_folder is not None
    checkpoint = read(newest_of(fitted.run_folder))
    return checkpoint, [str(each.message) for each in caught if "collapse/" in str(each.message)]


def test_a_second_run_begins_as_if_its_callbacks_were_new(tmp_path: Path) -> None:
    """Alarms are raised again, the probe learns from its first sample, the meter counts from 0."""
    callbacks = [
        OnlineLinearProbe(every_n_steps=1, eval_every_n_steps=2, batch_size=20),
        KNNProbe(every_n_steps=2),
        CollapseMonitor(every_n_steps=1, min_rank=1e6),
        Health(),
        Meter(),
        Checkpoint(),
    ]
    (first, raised), (second, again) = (run(tmp_path / name, callbacks) for name in ("first", "second"))
    assert len(raised) == len(again) == 1
    states = [each["callbacks"] for each in (first, second)]
    assert states[0]["online_probe"]["steps"] == states[1]["online_probe"]["steps"] == 4
    for name, values in states[0]["online_probe"]["heads"][""]["head"].items():
        assert torch.equal(values, states[1]["online_probe"]["heads"][""]["head"][name]), name
    assert states[0]["meter"]["samples"] == states[1]["meter"]["samples"]


@pytest.mark.parametrize("cls", [OnlineLinearProbe, KNNProbe])
def test_data_without_labels_is_not_probed_on_the_labels_of_the_run_before(cls: Any, tmp_path: Path) -> None:
    probe = cls(every_n_steps=1)
    run(tmp_path, [probe])
    checkpoint, _ = run(tmp_path, [probe], Unlabelled())
    assert not [name for name in checkpoint["callbacks"]["metrics"]["metrics"]["columns"] if name.startswith("probe/")]
    assert not checkpoint["callbacks"].get("online_probe", {"heads": {}})["heads"]


def test_a_run_that_stops_where_the_one_before_ended_writes_its_checkpoint(tmp_path: Path) -> None:
    saves = Checkpoint(minutes=0)
    run(tmp_path / "first", [saves], max_steps=3)
    checkpoint, _ = run(tmp_path / "second", [saves, Still()], max_steps=9)
    assert checkpoint["global_step"] == 3
