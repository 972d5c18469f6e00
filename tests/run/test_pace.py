"""A run that only a time ends: its steps are planned, and all that counts by them ends with it.

Run as a script this file is one of two processes: `test_pace.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from resuming import differences
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.checkpoints.checkpoint import newest_of
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.run.pace import Pace
from ssl_lightning.run.standing import Standing
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.methods import tiny_data, tiny_encoder
from ssl_lightning.trainer import STANDING

OFF: dict[str, Any] = {"enabled": False}


class Clock(pl.Callback):
    """Steps that take a second, or as long as one says, by a clock of their own; it keeps the
    learning rate of each."""

    def __init__(self, seconds: Callable[[int], float] = lambda step: 1.0, stop: int = 0, start: float = 0.0) -> None:
        self.seconds, self.stop, self.start, self.now = seconds, stop, start, 1000.0
        self.rates: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def setup(self, *args: Any, **kwargs: Any) -> None:
        self.now += self.start

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.now += self.seconds(trainer.global_step + 1)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.stop


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Trainer, Clock]]:
    def run(clock: Clock | None = None, seconds: int = 40, method: Any = None, **kwargs: Any) -> tuple[Trainer, Clock]:
        clock = clock or Clock()
        ckpt_path, data = kwargs.pop("ckpt_path", None), kwargs.pop("data", None) or TinyImages()
        for module in ("pytorch_lightning.callbacks.timer", "ssl_lightning.run.pace", "ssl_lightning.trainer"):
            monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=clock.monotonic))
        off = [cls(**OFF) for key, cls in STANDING.items() if key not in ("checkpoint", "knn_probe", "meter")]
        trainer = Trainer(
            **({} if "minutes" in kwargs else {"max_time": {"seconds": seconds}}), accelerator="cpu",
            default_root_dir=str(tmp_path), enable_progress_bar=False,
            callbacks=[clock, *off, KNNProbe(every_n_steps=30), *kwargs.pop("callbacks", [])], **kwargs,
        )  # fmt: skip
        torch.manual_seed(0)
        trainer.fit(method or SimCLR(TinyEncoder()), datamodule=data, ckpt_path=ckpt_path)
        return trainer, clock

    return run


def test_schedule_and_probes_end_with_the_time(fit: Any) -> None:
    """40 seconds for steps of 1, of which 3 % are kept. SimCLR warms up for a tenth."""
    trainer, clock = fit()
    assert 37 <= trainer.global_step <= 39 and trainer.global_step == trainer.estimated_stepping_batches
    assert max(clock.rates) == clock.rates[trainer.global_step // 10]
    assert clock.rates[-1] < 0.01 * max(clock.rates) and trainer.lightning_module.progress == 1
    assert [row["step"] for row in rows_of(trainer) if "probe/knn/top1" in row] == [30, trainer.global_step]


@pytest.mark.parametrize("slow", [1, 21])
def test_the_plan_follows_the_speed(slow: int, fit: Any) -> None:
    """A first step of 15 seconds; or steps that take twice as long from the 21st on."""
    trainer, clock = fit(Clock(lambda step: 15.0 if step == slow == 1 else 2.0 if step >= slow > 1 else 1.0))
    most = 1 + 25 if slow == 1 else 20 + 20 // 2
    assert 0.9 * most <= trainer.global_step <= most and clock.now <= 1040
    assert clock.rates[-1] < 0.02 * max(clock.rates)


def test_a_run_of_few_slow_steps_ends_with_its_schedule(fit: Any) -> None:
    """8 seconds each: the first alone tells that there are 4."""
    trainer, clock = fit(Clock(lambda step: 8.0))
    assert trainer.global_step == 4 and clock.rates[1:] == sorted(clock.rates[1:], reverse=True)
    assert clock.rates[-1] < 0.2 * clock.rates[1] / 0.85 and clock.rates[0] < clock.rates[1]


def test_a_time_that_ends_too_early_is_told(fit: Any) -> None:
    with pytest.warns(UserWarning, match=r"The time ended the run at step 15 of the \d+ that its learning-rate"):
        fit(Clock(lambda step: 30.0 if step == 15 else 1.0))


def test_a_resumed_run_keeps_its_plan(fit: Any) -> None:
    """Bit for bit: another speed before the next look changes nothing."""
    whole, _ = fit()
    stopped, _ = fit(Clock(stop=17))
    again, clock = fit(ckpt_path=str(stopped.run_folder / "checkpoints" / "step-00000017.ckpt"))
    assert again.global_step == whole.global_step and len(clock.rates) == whole.global_step - 17
    assert differences(whole.lightning_module.state_dict(), again.lightning_module.state_dict()) == []


def test_with_more_time_a_resumed_run_is_planned_anew_and_says_so(fit: Any) -> None:
    ended, _ = fit()
    checkpoint = str(ended.run_folder / "checkpoints" / f"step-{ended.global_step:08d}.ckpt")
    with pytest.warns(UserWarning, match=r"planned for \d+ steps and goes on to a time: its learning-rate schedule"):
        again, _ = fit(seconds=60, ckpt_path=checkpoint)
    assert 57 <= again.global_step <= 59


def test_each_fit_of_a_trainer_has_its_time(fit: Any) -> None:
    """And steps of its own: its schedule, its warm-up and its probes are those of the first."""
    trainer, clock = fit(seconds=20)
    first = trainer.global_step
    weights = trainer.lightning_module.state_dict()
    torch.manual_seed(0)
    again = SimCLR(TinyEncoder())
    trainer.fit(again, datamodule=TinyImages())
    assert trainer.global_step == first and clock.rates[first:] == clock.rates[:first]
    assert differences(again.state_dict(), weights) == []


@pytest.mark.parametrize("length", [{"max_steps": 5}, {"max_epochs": 2}])
def test_each_fit_of_a_trainer_trains(length: dict[str, int], fit: Any) -> None:
    """Anew another method, or one whose run had ended; a longer run of the same goes on."""
    trainer, clock = fit(seconds=1000, **length)
    first, weights, again = trainer.global_step, trainer.lightning_module.state_dict(), trainer.lightning_module
    torch.manual_seed(0)
    other = SimCLR(TinyEncoder())
    trainer.fit(other, datamodule=TinyImages())
    assert trainer.global_step == first and differences(other.state_dict(), weights) == []
    trainer.fit(other, datamodule=TinyImages())
    assert trainer.global_step == first and len(clock.rates) == 3 * first
    assert differences(other.state_dict(), again.state_dict()) != []
    trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = -1, first + 1
    trainer.fit(other, datamodule=TinyImages())
    assert trainer.global_step == first + 1 and len(clock.rates) == 3 * first + 1


def test_another_method_begins_anew_where_the_last_was_stopped(fit: Any) -> None:
    trainer, clock = fit(Clock(stop=2), seconds=1000, max_steps=5)
    clock.stop = 0
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert trainer.global_step == 5 and len(clock.rates) == 2 + 5


def test_with_a_number_of_steps_the_time_only_ends_the_run(fit: Any) -> None:
    trainer, clock = fit(seconds=20, max_steps=100)
    assert trainer.global_step == 20 and clock.rates[-1] > 0.8 * max(clock.rates)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(Registry("ssl_lightning.methods")))
def test_every_method_trains_by_time_alone(name: str, fit: Any) -> None:
    cls = Registry("ssl_lightning.methods")[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer, _ = fit(seconds=8, method=cls(tiny_encoder(cls)), data=tiny_data(cls))
    assert trainer.global_step in ((1,) if name == "linear_probe" else (7, 8))


class Table(Standing):
    """Takes half as long as the training."""

    def seconds_after(self, trainer: Any, seconds: float) -> float:
        return seconds / 2


def test_of_a_run_s_minutes_the_training_gets_what_start_table_and_pictures_leave(fit: Any) -> None:
    """2 minutes, a tenth of them for pictures, 63 seconds before the first step: 30 to train, and
    15 for the table."""
    trainer, clock = fit(Clock(start=63), minutes=2, callbacks=[Table()])
    assert 27 <= trainer.global_step <= 30 and clock.rates[-1] < 0.01 * max(clock.rates)
    pace = next(each for each in trainer.callbacks if isinstance(each, Pace))
    assert pace.ends - clock.now == pytest.approx(120 - 12 - 63 - trainer.global_step)


class Regression(Standing):
    """Takes 30 seconds before the first step, and knows then that it takes as long at the end."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.took = clock, 0.0

    def on_train_start(self, *args: Any) -> None:
        self.took = 30.0
        self.clock.now += self.took

    def seconds_after(self, trainer: Any, seconds: float) -> float:
        return self.took


def test_what_a_run_does_before_its_first_step_counts(fit: Any) -> None:
    """2 minutes, a tenth of them for pictures, 30 seconds before and after the steps: 48 to
    train."""
    clock = Clock()
    trainer, _ = fit(clock, minutes=2, callbacks=[Regression(clock)])
    assert 44 <= trainer.global_step <= 48 and clock.rates[-1] < 0.01 * max(clock.rates)
    assert clock.now - 1000 + 30 + 12 <= 120


def test_a_resumed_run_has_the_minutes_that_are_left(fit: Any) -> None:
    """36 seconds to train, of 60 with 6 for pictures and 18 for the table."""
    stopped, _ = fit(Clock(stop=12), minutes=1, callbacks=[Table()])
    again, clock = fit(minutes=1, callbacks=[Table()], ckpt_path=newest_of(stopped.run_folder))
    assert 33 <= again.global_step <= 36 and len(clock.rates) == again.global_step - 12


def test_minutes_that_the_start_has_used_up_are_told(fit: Any) -> None:
    with pytest.raises(Exception, match=r"Trainer\(minutes=1\) leaves no time to train: until the first step .* 60 s"):
        fit(Clock(start=60), minutes=1)


@pytest.mark.slow
def test_all_processes_have_one_plan(run: Any, tmp_path: Path) -> None:
    """By clocks that differ: the second process begins late, and its steps take longer."""
    ended = run(tmp_path, script=[__file__, str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and first[-1][0] > 20
    steps, rates = first[-1][1], [rate for *_, rate in first]
    assert len(first) == steps and rates[-1] < 0.05 * max(rates)


class Seen(pl.Callback):
    """Plan and learning rate of each step; rank 1 takes its time."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, float]] = []

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        time.sleep(0.02 * trainer.global_rank)
        self.steps.append((trainer.global_step + 1, trainer.max_steps, trainer.optimizers[0].param_groups[0]["lr"]))


def process(folder: Path) -> None:
    seen = Seen()
    trainer = Trainer(
        max_time={"seconds": 4}, accelerator="cpu", devices=2, strategy="ddp", default_root_dir=str(folder),
        enable_progress_bar=False, callbacks=[seen, *(cls(**OFF) for cls in STANDING.values())],
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(seen.steps))


if __name__ == "__main__":
    torch.set_num_threads(1)
    process(Path(sys.argv[1]))
