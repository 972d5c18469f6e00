"""Alarms on what a method logs: after so many looks in a row, once, with value, bounds, cause and
remedy; and a run may end by one."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
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
from ssl_lightning.run.checkpoints.checkpoint import find_newest
from ssl_lightning.run.folder.metrics import log_metrics
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.trainer import STANDING
from ssl_lightning.types import Alarm, Batch, Step

ALARM = Alarm("usage", "nothing is in use", "Raise --model.usage", low=0.25, high=4.0)


class Scripted(SimCLR):
    """Logs the numbers that it is given, one a batch; None stands for NaN."""

    alarms = (Alarm("absent", "not logged", "Do nothing", low=1.0), ALARM)

    def __init__(self, encoder: TinyEncoder, *, usage: tuple[float | None, ...] = (1.0,), **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.usage = tuple(math.nan if value is None else value for value in usage)

    def step(self, batch: Batch) -> Step:
        value = self.usage[min(self.trainer.global_step, len(self.usage) - 1)]
        return {
            "loss": super().step(batch)["loss"],
            "logs": {"usage": torch.tensor(value) if self.trainer.global_step % 2 else value},
        }


def fitted(
    root: Path, usage: tuple[float, ...], *callbacks: pl.Callback, ckpt_path: Path | None = None, **health: Any
) -> tuple[list[str], Any, Health]:
    """What was warned of, the trainer, and the callback, after a run of at most 9 steps."""
    watch = Health(**{"every_n_steps": 1, "patience": 3, **health})
    others = [
        KNNProbe(enabled=False),
        OnlineLinearProbe(enabled=False),
        CollapseMonitor(enabled=False),
        Report(enabled=False),
    ]
    trainer = ssl_lightning.Trainer(
        max_steps=9,
        max_epochs=1000,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(root),
        callbacks=[watch, *callbacks, *others],
        enable_progress_bar=False,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(Scripted(TinyEncoder(), usage=usage), datamodule=TinyImages(), ckpt_path=ckpt_path)
    return [str(each.message) for each in caught if "in use" in str(each.message)], trainer, watch


def test_values_within_the_bounds_are_healthy() -> None:
    assert [ALARM.healthy(value) for value in (0.25, 1.0, 4.0)] == [True] * 3
    assert [ALARM.healthy(value) for value in (0.24, 4.1, math.nan, math.inf, -math.inf)] == [False] * 5
    assert Alarm("a", "b", "c", low=1.0).healthy(math.inf) and Alarm("a", "b", "c", high=1.0).healthy(-5.0)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"low": 0.1}, "at least 0.1"),
        ({"high": 9}, "at most 9"),
        ({"low": 0.1, "high": 9}, "at least 0.1 and at most 9"),
    ],
)
def test_the_sentence_names_value_bounds_cause_and_remedy(bounds: dict[str, float], said: str) -> None:
    alarm = Alarm("usage", "nothing is in use", "Raise --model.usage", **bounds)
    assert (
        alarm.sentence(0.0123456) == f"nothing is in use (train/usage 0.0123, healthy is {said}). Raise --model.usage."
    )


@pytest.mark.parametrize(
    ("usage", "step"),
    [
        ((1.0, 0.1, 0.1, 1.0, 0.1, 9.0, 0.1, 0.1, 0.1), 7),
        ((None, None, None, 1.0, None, None, None), 3),
        ((0.1, 0.1, 1.0, 0.1, 0.1, 1.0), 0),
    ],
    ids=["once", "NaN", "never so often in a row"],
)  # fmt: skip
def test_an_alarm_is_raised_once_after_so_many_looks_in_a_row(
    tmp_path: Path, usage: tuple[float, ...], step: int
) -> None:
    said, trainer, _ = fitted(tmp_path, usage)
    assert trainer.global_step == 9
    assert [each.partition(":")[0] for each in said] == ([f"Scripted, step {step}"] if step else [])
    kept = trainer.run_folder / "alarms.txt"
    assert (kept.read_text().splitlines() if step else kept.exists()) == (said if step else False)


def test_looks_are_so_many_steps_apart_and_may_be_off(tmp_path: Path) -> None:
    (said,), _, _ = fitted(tmp_path / "apart", (1.0, 0.1, 1.0, 0.1, 1.0, 0.1), every_n_steps=2, patience=2)
    assert said.startswith("Scripted, step 4: nothing is in use (train/usage 0.1")
    assert fitted(tmp_path / "off", (0.1,), enabled=False)[0] == []
    assert STANDING["health"] is Health


def test_a_run_may_end_by_an_alarm_and_goes_on_knowing_of_it(tmp_path: Path) -> None:
    """Its checkpoint is there; the run that goes on says nothing twice, and counts on from where it
    was."""
    said, trainer, _ = fitted(tmp_path, (1.0, 0.1), stop=True)
    assert len(said) == 1 and trainer.global_step == 4
    newest = find_newest(trainer.run_folder / "checkpoints")
    assert newest is not None
    again, trainer, watch = fitted(tmp_path, (1.0, 0.1), ckpt_path=Path(newest))
    assert again == [] and trainer.global_step == 9 and watch.outside == {"train/usage": 3}


class Gauge(pl.Callback):
    """A user's own callback: logs a value at every other step, and gives alarms for it."""

    def __init__(self, *alarms: Alarm) -> None:
        self.alarms = alarms

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step % 2 == 0:
            log_metrics(trainer, {"gauge/pressure": float(trainer.global_step)})


HIGH = Alarm("pressure", "the pressure is in use", "Open a valve", high=3.0, group="gauge")


def test_a_callback_gives_alarms_on_what_it_logs(tmp_path: Path) -> None:
    """Whenever it logs, wherever it stands among the callbacks; its patience and its stop are its
    own or else those of `health`."""
    said, trainer, watch = fitted(tmp_path, (1.0,), Gauge(HIGH), every_n_steps=100, patience=2)
    assert [each.partition(" The")[0] for each in said] == [
        "Scripted, step 6: the pressure is in use (gauge/pressure 6, healthy is at most 3). Open a valve."
    ]
    assert trainer.global_step == 9 and watch.outside == {"gauge/pressure": 2}
    said, trainer, _ = fitted(tmp_path, (1.0,), Gauge(replace(HIGH, patience=1, stop=True)), patience=3)
    assert len(said) == 1 and trainer.global_step == 4
    said, trainer, _ = fitted(tmp_path, (0.1,), Gauge(replace(HIGH, patience=9, stop=False)), stop=True)
    assert len(said) == 1 and trainer.global_step == 3  # the method's, which does not say
    assert fitted(tmp_path, (1.0,), Gauge(HIGH), enabled=False, patience=1)[0] == []


def test_several_alarms_of_one_value_count_each_for_itself(tmp_path: Path) -> None:
    """Too low and too high have causes and remedies of their own."""
    low = Alarm("pressure", "no pump is in use", "Start a pump", low=5.0, group="gauge")
    said, _, watch = fitted(tmp_path, (1.0,), Gauge(HIGH, low), patience=2)
    assert [each.partition("(")[0].partition(": ")[2] for each in said] == [
        "no pump is in use ",
        "the pressure is in use ",
    ]
    assert watch.outside["gauge/pressure"] == watch.outside["gauge/pressure-2"] == 2


def test_a_remedy_is_told_once_where_several_alarms_have_it(tmp_path: Path) -> None:
    """By the first that is given; those with another remedy are told besides."""
    burst, leak = replace(HIGH, cause="a pipe is in use"), replace(HIGH, cause="a leak is in use", remedy="Close it")
    said, _, _ = fitted(tmp_path, (1.0,), Gauge(HIGH, burst, leak), patience=1)
    assert [each.partition("(")[0].partition(": ")[2] for each in said] == [
        "the pressure is in use ",
        "a leak is in use ",
    ]


@pytest.mark.parametrize("wrong", [{"every_n_steps": 0}, {"patience": 0}], ids=str)
def test_mistakes_are_told(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"Health\((every_n_steps|patience)=0\) must be at least 1"):
        Health(**wrong)  # type: ignore[arg-type]
