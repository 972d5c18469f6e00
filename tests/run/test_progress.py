"""What a run says while it goes on, and how it measures its speed."""

from __future__ import annotations

import io
import math
import re
import sys
import threading
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar, Timer, TQDMProgressBar
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sources import InMemory, Source
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.checkpoint import newest_of
from ssl_lightning.run.folder.metrics import speed_of
from ssl_lightning.run.forecast import duration, first_forecast
from ssl_lightning.run.meter import Meter, run_totals
from ssl_lightning.run.pace import done_of
from ssl_lightning.run.progress import Progress
from ssl_lightning.run.standing import Standing
from ssl_lightning.testing import TinyEncoder, TinyImages, TinyText


class Slow(InMemory):
    """Takes its time to fetch."""

    seconds = 0.0

    def fetch(self, index: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return super().fetch(index)


class SlowImages(TinyImages):
    """Tiny images whose training samples take their time."""

    seconds = 0.05

    def source(self, split: Split) -> Source | None:
        images = super().source(split)
        assert isinstance(images, InMemory)
        slow = Slow(images.samples, images.labels)
        slow.seconds = self.seconds if split == "train" else 0.0
        return slow


class Busy(SimCLR):
    """Takes its time to compute."""

    def step(self, batch: Any) -> Any:
        time.sleep(0.05)
        return super().step(batch)


def fit(
    root: Path,
    *callbacks: pl.Callback,
    method: SimCLR | None = None,
    data: TinyImages | None = None,
    ckpt_path: Path | None = None,
    **kwargs: Any,
) -> ssl_lightning.Trainer:
    off = [
        KNNProbe(enabled=False),
        OnlineLinearProbe(enabled=False),
        CollapseMonitor(enabled=False),
        Report(enabled=False),
    ]
    watchers = [each for each in off if not any(isinstance(own, type(each)) for own in callbacks)]
    trainer = ssl_lightning.Trainer(
        **{
            "max_steps": 100,
            "max_epochs": 1000,
            "accelerator": "cpu",
            "precision": "32-true",
            "default_root_dir": str(root),
            **kwargs,
        },
        callbacks=[*watchers, *callbacks],
    )
    trainer.fit(method or SimCLR(TinyEncoder()), datamodule=data or TinyImages(), ckpt_path=ckpt_path)
    return trainer


class Terminal(io.StringIO):
    """A terminal that remembers when it was drawn on."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.drawn += [text] if text.startswith("\r\x1b[Kstep") else []
        return super().write(text)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 120])
def test_a_run_of_any_length_prints_a_dozen_lines_into_a_file(
    steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, KNNProbe(every_n_steps=50), max_steps=steps, enable_checkpointing=False)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert 3 <= len(lines) <= 16 and "\x1b" not in out and "\r" not in out
    steps_said = [int(match[1]) for line in lines if (match := re.match(r"step ([\d,]+)/", line))]
    assert steps_said == sorted(set(steps_said)) and steps_said[-1] == steps and len(steps_said) <= 10


def test_the_first_lines_say_what_is_trained_on_what_and_for_how_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = fit(tmp_path, max_steps=-1, max_epochs=10)
    first, data, _, _, folder, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("simclr-")
    for fact in ("64 samples", "16 in a batch", "40 steps (4 an epoch)", "TinyEncoder", "cpu", "32-true"):
        assert fact in first, fact
    parameters = sum(parameter.numel() for parameter in TinyEncoder().parameters())
    assert f"{parameters:,} parameters" in first
    assert data == "TinyImages, train: 64 samples for pretraining (labels of 4 classes)."
    assert folder == f"run folder: {trainer.run_folder}"
    expected = next(line for line in rest if line.startswith("expected time: about "))
    assert "for the remaining 29 steps" in expected
    assert rest.index(expected) <= 3


def test_progress_lines_hold_the_newest_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(
        tmp_path, KNNProbe(every_n_steps=10), OnlineLinearProbe(every_n_steps=5, eval_every_n_steps=10), max_steps=30
    )
    last = capsys.readouterr().out.splitlines()[-1]
    for name, text in (
        ("train/loss", "loss {:.3f}"),
        ("probe/knn/top1", "kNN {:.1f} %"),
        ("probe/linear/top1", "linear {:.1f} %"),
    ):
        value = float(trainer.callback_metrics[name])
        assert text.format(value if name == "train/loss" else 100 * value) in last
    assert "step 30/30" in last and "samples/s" in last and "waiting for data" in last and "0 s left" in last


@pytest.mark.slow
def test_a_terminal_is_drawn_on_twice_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 20 ms by an own clock: 100 of them take 2 seconds, however long they really take."""
    terminal, clock = Terminal(), iter(range(10**6))
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(
        "ssl_lightning.run.progress.time",
        SimpleNamespace(monotonic=lambda: 1000 + 0.02 * next(clock), perf_counter=time.perf_counter),
    )
    progress = Progress()
    trainer = fit(tmp_path, progress, enable_progress_bar=True, enable_checkpointing=False)
    assert sum(isinstance(callback, Progress) for callback in trainer.callbacks) == 1
    assert next(clock) == 101
    assert 3 <= len(terminal.drawn) <= 5
    assert all("\n" not in text and len(text) <= 125 for text in terminal.drawn)
    assert terminal.getvalue().endswith("\r\x1b[K")  # wiped, for what comes after


def test_without_progress_bar_a_run_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, enable_progress_bar=False, max_steps=20)
    assert capsys.readouterr().out == ""


def seconds_a_step(trainer: ssl_lightning.Trainer) -> tuple[float, float]:
    """The least, over the rows, of the time that a step waited for data, and of the rest: a busy
    machine makes both longer, never shorter. The first row has 4 steps and 3 pauses between."""
    rows = speed_of(trainer)
    assert len(rows) == 5 and all(0 <= row["speed/data_wait"] <= 1 for row in rows)
    steps = [(16 / row["speed/samples_per_s"], row["speed/data_wait"]) for row in rows]
    return min(seconds * wait for seconds, wait in steps), min(seconds * (1 - wait) for seconds, wait in steps)


def test_a_run_that_waits_for_its_data_says_so(tmp_path: Path) -> None:
    waited, _ = seconds_a_step(fit(tmp_path, data=SlowImages(), max_steps=20, log_every_n_steps=4))
    assert waited > 0.7 * SlowImages.seconds


@pytest.mark.slow
def test_time_to_compute_is_not_waiting_for_data(tmp_path: Path) -> None:
    _, rest = seconds_a_step(fit(tmp_path, method=Busy(TinyEncoder()), max_steps=20, log_every_n_steps=4))
    assert rest > 0.7 * 0.05


class Dawdle(pl.Callback):
    """Takes its time between two steps, as the writing of a checkpoint does."""

    def on_train_batch_end(self, *args: Any) -> None:
        time.sleep(0.05)


@pytest.mark.slow
def test_time_that_callbacks_take_is_not_waiting_for_data(tmp_path: Path) -> None:
    _, rest = seconds_a_step(fit(tmp_path, Dawdle(), max_steps=20, log_every_n_steps=4))
    assert rest > 0.7 * 0.05


def test_a_progress_bar_of_your_own_takes_the_place_of_ours(tmp_path: Path) -> None:
    own = TQDMProgressBar(refresh_rate=0)
    trainer = fit(tmp_path, own, max_steps=2)
    assert [callback for callback in trainer.callbacks if isinstance(callback, ProgressBar)] == [own]


def test_samples_a_second_are_those_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that a busy machine does not move: each look at it takes 50 ms."""
    looks = count()
    monkeypatch.setattr("ssl_lightning.run.meter.time", SimpleNamespace(perf_counter=lambda: 0.05 * next(looks)))
    trainer = fit(tmp_path, max_steps=20)
    rates = [row["speed/samples_per_s"] for row in speed_of(trainer)]
    seconds, samples = run_totals(trainer)
    assert samples == 20 * 16 and all(0 < rate < 16 / 0.05 for rate in rates)
    assert len(rates) == 2 and 2 / sum(1 / rate for rate in rates) == pytest.approx(samples / seconds, rel=0.1)


def test_tokens_a_second_count_real_places_alone(tmp_path: Path) -> None:
    encoder = TextTransformer(vocab_size=40, dim=8, depth=1, heads=2, max_length=16)
    data = TinyText(samples=16)
    (row,) = speed_of(fit(tmp_path, method=SimCLR(encoder), data=data, max_steps=10))  # type: ignore[arg-type]  # any data will do
    lengths = data.training_split.fetch(
        torch.arange(16)
    ).lengths  # each batch holds all samples; a fifth of the inner tokens is deleted
    real = float((lengths - 2).sum() * 0.8 + 32)
    assert row["speed/tokens_per_s"] / row["speed/samples_per_s"] == pytest.approx(real / 16, rel=0.05)


def test_the_meter_is_switched_off_by_a_flag(tmp_path: Path) -> None:
    trainer = fit(tmp_path, Meter(enabled=False), max_steps=20)
    assert speed_of(trainer) == [] and not {"speed/samples_per_s", "speed/data_wait"} & set(trainer.callback_metrics)
    assert run_totals(trainer)[1] == 20 * 16


class Gone(Timer):
    """40 seconds of 100 have gone."""

    def time_elapsed(self, stage: str = "train") -> float:
        return 40.0


@pytest.mark.parametrize(("total", "steps"), [(math.inf, "?"), (1000, "1,000")])
def test_max_time_limits_the_time_that_is_said(total: float, steps: str) -> None:
    """A step takes 10 s, and the table at most twice the training: 120 s."""

    class Table(Standing):
        def seconds_after(self, trainer: Any, seconds: float) -> float:
            return 2 * seconds

    trainer = SimpleNamespace(
        global_step=5, estimated_stepping_batches=total, callback_metrics={},
        callbacks=[Gone({"seconds": 100}), Timer(), Table()],
    )  # fmt: skip
    progress = Progress()
    progress._started = 1000.0
    assert progress.line(trainer, 1040.0) == f"step 5/{steps} | 1 min 0 s left, then the table, at most 2 min 0 s"
    assert done_of(trainer) == pytest.approx(0.4)
    trainer.callbacks, trainer.estimated_stepping_batches = [], 7
    assert progress.line(trainer, 1040.0) == "step 5/7 | 20 s left" and done_of(trainer) == pytest.approx(5 / 7)


def test_the_first_step_tells_what_a_run_will_take_and_how_a_long_one_is_made_short() -> None:
    def told(seconds: float, steps: float, *callbacks: Any) -> str:
        trainer = SimpleNamespace(estimated_stepping_batches=steps, global_step=1, callbacks=callbacks)
        return first_forecast(trainer, seconds)

    assert told(4.0, 101) == "the first step took 4 s: at most about 6 min 40 s to go"
    long = told(30.0, 20_001)
    assert "about 166 h 40 min to go" in long and "--minutes 60 does all within an hour" in long
    assert told(30.0, math.inf, Gone({"seconds": 100})) == "the first step took 30 s: at most about 1 min 0 s to go"


@pytest.mark.slow
def test_a_slow_first_step_is_forecast_at_once_and_slow_steps_are_told_each_minute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 40 s by an own clock: 100 of them, in a file."""
    clock = iter(range(1000, 10**6, 40))
    monkeypatch.setattr("ssl_lightning.run.progress.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    fit(tmp_path, enable_checkpointing=False)
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("step", "the first", "expected"))
    ]
    assert lines[0].startswith("the first step took 40 s: at most about 1 h 6 min to go")
    steps = [int(match[1]) for line in lines if (match := re.match(r"step (\d+)/", line))]
    assert steps[:4] == [2, 4, 6, 9] and len(steps) < 30 and steps[-1] == 100
    assert next(number for number, line in enumerate(lines) if line.startswith("expected")) <= 3


def test_every_printed_line_has_the_loss_of_its_steps_and_figures_that_are_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of metrics come each 10 steps, lines each 2; the probe looks at steps 5, 10, ..."""
    fit(tmp_path, KNNProbe(every_n_steps=5), max_steps=20, enable_checkpointing=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    losses = [match[1] for line in lines if (match := re.search(r"loss (\d+\.\d+)", line))]
    assert len(lines) == len(losses) == len(set(losses)) == 10
    assert ["kNN" in line for line in lines] == [step in (6, 10, 16, 20) for step in range(2, 21, 2)]
    assert all("samples/s" in line for line in lines)


def test_a_resumed_run_whose_epochs_have_fewer_steps_than_it_is_old_is_refused(tmp_path: Path) -> None:
    """Four times the batch size: 10 epochs are 20 steps, and the checkpoint is of step 32. Its line
    said "step 33/20 | -1 s left", and its learning rate was zero."""
    settings: dict[str, Any] = {"max_steps": -1, "enable_progress_bar": False}
    first = fit(tmp_path, max_epochs=4, data=TinyImages(batch_size=8), **settings)
    with pytest.raises(Exception, match="checkpoint is of step 32, and max_epochs=10 are 20 steps of this batch size"):
        fit(tmp_path, max_epochs=10, data=TinyImages(batch_size=32), ckpt_path=newest_of(first.run_folder), **settings)


def test_a_run_that_ends_early_prints_where_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 33

    fit(tmp_path, Stop(), enable_checkpointing=False)
    assert capsys.readouterr().out.splitlines()[-1].startswith("step 33/100 | loss")


def test_before_its_first_step_a_run_says_what_it_is_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(TinyImages):
        def setup(self, stage: str) -> None:
            time.sleep(0.2)
            super().setup(stage)

    monkeypatch.setattr("ssl_lightning.run.heartbeat.PAUSES", (0.05, 60.0))
    fit(tmp_path, data=Late(), max_steps=1, enable_checkpointing=False)
    assert capsys.readouterr().out.splitlines()[0] == "opening the data: 0 s so far"
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat" and thread.is_alive()]


@pytest.mark.parametrize(
    "seconds, said",
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599, "59 min 59 s"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations_read_as_a_person_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
