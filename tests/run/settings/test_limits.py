"""Values of the trainer's arguments: those that train nothing, crash or mean nothing are refused in
one line before anything is built."""

from __future__ import annotations

import inspect
import math
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.record import PLAIN as PLAIN_TYPES
from ssl_lightning.run.settings import limits
from ssl_lightning.testing import TinyEncoder, TinyImages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": 0}, r"max_epochs=0\) trains nothing"),
        ({"max_epochs": -2}, r"max_epochs=-2\) trains nothing"),
        ({"max_steps": 0}, r"max_steps=0\) trains nothing"),
        ({"limit_train_batches": 0}, r"limit_train_batches=0\) trains nothing"),
        ({"limit_train_batches": 0.0}, r"limit_train_batches=0.0\) trains nothing"),
        ({"max_time": "00:00:00:00"}, "max_time='00:00:00:00'.* trains nothing"),
        ({"max_time": timedelta(0)}, "trains nothing"),
        ({"max_time": {"minutes": 0}}, "trains nothing"),
        ({"accumulate_grad_batches": 0}, r"accumulate_grad_batches=0\) must be at least 1"),
        ({"accumulate_grad_batches": -1}, "must be at least 1"),
        ({"log_every_n_steps": 0}, r"log_every_n_steps=0\) must be at least 1"),
        ({"check_val_every_n_epoch": 0}, "must be at least 1"),
        ({"num_nodes": 0}, "must be at least 1"),
        ({"gradient_clip_val": -1.0}, r"gradient_clip_val=-1.0\) must be at least 0"),
        ({"gradient_clip_val": math.nan}, "must be at least 0"),
        ({"gradient_clip_algorithm": "norm"}, "clips nothing without gradient_clip_val"),
        ({"min_epochs": -1}, "must be at least 0"),
        ({"minutes": 0}, r"minutes=0\) is out of range"),
        ({"minutes": -1.5}, r"minutes=-1.5\) is out of range"),
        ({"minutes": math.nan}, "is out of range"),
        ({"minutes": math.inf}, r"minutes=inf\) is out of range"),
        ({"minutes": 3, "max_steps": 10}, r"minutes=3\) and max_steps=10 both end the run"),
        ({"minutes": 3, "max_epochs": 10}, "and max_epochs=10 both end the run"),
        ({"minutes": 3, "max_time": "00:01:00:00"}, "and max_time='00:01:00:00' both end the run"),
        ({"minutes": 3, "callbacks": [Report(minutes=3)]}, r"Report\(minutes=3\) leaves nothing of .*to train"),
        ({"minutes": 3, "callbacks": [Report(minutes=0)]}, "exclude each other"),
        ({"reload_dataloaders_every_n_epochs": -1}, "must be at least 0"),
    ],
)
def test_a_value_with_which_no_run_can_go_on_is_refused_with_its_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        Trainer(accelerator="cpu", **arguments)
    assert "\n" not in str(refusal.value)


PLAIN = [
    name
    for name, parameter in inspect.signature(pl.Trainer.__init__).parameters.items()
    if name not in ("self", "precision", "logger") and {int, float, bool} & set(limits._kinds(parameter.annotation))
]


@pytest.mark.parametrize("name", PLAIN)
def test_text_and_numbers_of_another_type_are_refused(name: str) -> None:
    """`max_epochs="3"` is a TypeError deep in a loop, `max_steps=nan` has no end."""
    kinds = limits._kinds(inspect.signature(pl.Trainer.__init__).parameters[name].annotation)
    wrong: list[Any] = [value for value in ("3", 2.5, True) if type(value) not in kinds]
    assert wrong
    for value in [*wrong, *([[]] if set(kinds) <= set(PLAIN_TYPES) else [])]:
        with pytest.raises(TypeError, match=re.escape(f"Trainer({name}={value!r}) must be")):
            Trainer(accelerator="cpu", **{name: value})


def test_values_at_the_border_are_taken() -> None:
    for arguments in (
        {"max_epochs": -1, "max_steps": 1},
        {"max_epochs": 1, "limit_train_batches": 1e-9},
        {"gradient_clip_val": 0},
        {"gradient_clip_val": math.inf},
        {"max_time": timedelta(seconds=1)},
        {"limit_val_batches": 0},
        {"minutes": 0.5, "max_epochs": -1, "max_steps": -1},
        {"minutes": 3, "callbacks": [Report(minutes=3, enabled=False)]},
        {"gradient_clip_val": 1, "gradient_clip_algorithm": "value"},
    ):
        Trainer(accelerator="cpu", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_check_interval": 0.5}, "has no effect: pretraining has no validation loop"),
        ({"check_val_every_n_epoch": 2}, "has no effect: pretraining has no validation loop"),
        ({"overfit_batches": 2}, "would bring other samples in each epoch"),
    ],
)
def test_arguments_that_mean_something_else_here_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=str(tmp_path), **arguments)
    with pytest.raises(ValueError, match=message):
        trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", "runs/here"])
def test_a_folder_for_runs_that_cannot_be_made_is_named(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / below
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=str(root))
    with pytest.raises(ValueError, match=r"No run can be written to .*file is no folder"):
        trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    with pytest.raises(ValueError, match=r"No run can be written to .*file is no folder"):
        trainer.predict(SimCLR(TinyEncoder()), datamodule=TinyImages())


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may everything
    with pytest.raises(ValueError, match="may not be written to"):
        limits.check_root(tmp_path / "runs")


def test_a_folder_elsewhere_is_refused() -> None:
    """It would become a folder `s3:` here."""
    with pytest.raises(ValueError, match="is not a folder of this machine"):
        limits.check_root("s3://bucket/runs")


@pytest.mark.by_default(3)
@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.max_epochs", "0"],
        ["--trainer.max_steps", "0"],
        ["--trainer.limit_train_batches", "0"],
        ["--trainer.accumulate_grad_batches", "0"],
        ["--trainer.log_every_n_steps", "0"],
        ["--trainer.gradient_clip_val", "-1"],
        ["--trainer.default_root_dir", __file__],
        ["--trainer.val_check_interval", "0.5"],
    ],
)
def test_the_command_line_says_so_in_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model", "simclr", "--data", "digits", "--trainer.accelerator", "cpu", *options]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1 and options[0].rpartition(".")[2] in error, error
