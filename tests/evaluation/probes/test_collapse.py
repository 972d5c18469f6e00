"""The collapse monitor: its two numbers, alarms on collapsed encoders, none on healthy ones."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor

import ssl_lightning
from ssl_lightning.data.datamodule import SSLDataModule
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.evaluation.probes import collapse
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.probes.look import ORDER
from ssl_lightning.evaluation.report import Report
from ssl_lightning.nn.spread import effective_rank, spread
from ssl_lightning.run.checkpoints.checkpoint import find_newest
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import View


class Constant(TinyEncoder):
    """The same features for every image."""

    def forward(self, view: View) -> Tensor:
        return super().forward(view) * 0 + 1


class Line(TinyEncoder):
    """Features along one line."""

    def forward(self, view: View) -> Tensor:
        return super().forward(view)[:, :1] * torch.ones(self.dim)


class Broken(TinyEncoder):
    """No number at all."""

    def forward(self, view: View) -> Tensor:
        return super().forward(view) * float("nan")


class Run:
    """A short SimCLR run under a monitor: its metrics by name, and what it warned of."""

    def __init__(
        self,
        root: Path,
        encoder: Encoder,
        data: SSLDataModule,
        monitor: CollapseMonitor,
        steps: int,
        *callbacks: Callback,
        cls: type[SimCLR] = SimCLR,
        ckpt_path: Path | None = None,
        **trainer: Any,
    ) -> None:
        off = [KNNProbe(enabled=False), OnlineLinearProbe(enabled=False), Report(enabled=False)]
        self.trainer = ssl_lightning.Trainer(
            max_steps=steps,
            max_epochs=1000,
            accelerator="cpu",
            precision="32-true",
            default_root_dir=str(root),
            callbacks=[monitor, *callbacks, *off],
            **{"enable_progress_bar": False, "enable_checkpointing": False, **trainer},
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.trainer.fit(cls(encoder, warmup_epochs=0), datamodule=data, ckpt_path=ckpt_path)
        self.alarms = [str(warning.message) for warning in caught if "ollapse" in str(warning.message)]
        self.rows = rows_of(self.trainer)

    def values(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]


def slow_spread(embeddings: Tensor) -> float:
    z = [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in embeddings.tolist()]
    n, d = len(z), len(z[0])
    deviations = []
    for column in zip(*z, strict=True):
        mean = sum(column) / n
        deviations.append((sum((x - mean) ** 2 for x in column) / (n - 1)) ** 0.5)
    return sum(deviations) / d / (1 / d**0.5)


def slow_rank(embeddings: Tensor) -> float:
    z = embeddings.double() / embeddings.double().norm(dim=1, keepdim=True)
    singular = torch.linalg.svdvals(z - z.mean(dim=0, keepdim=True))
    p = [value / float(singular.sum()) for value in singular.tolist()]
    return float(torch.tensor(-sum(value * float(torch.tensor(value).log()) for value in p if value > 0)).exp())


@pytest.mark.parametrize("shape", [(64, 8), (8, 64), (32, 32)])
def test_both_numbers_equal_their_formulas(shape: tuple[int, int]) -> None:
    """On any embeddings, more samples than dimensions or fewer, with directions of very different
    size."""
    torch.manual_seed(0)
    embeddings = torch.randn(shape) * torch.logspace(0, -3, shape[1]) + torch.randn(shape[1])
    assert float(spread(embeddings)) == pytest.approx(slow_spread(embeddings), rel=1e-4)
    assert float(effective_rank(embeddings)) == pytest.approx(slow_rank(embeddings), rel=1e-3)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_rank_of_few_directions_is_not_blurred_by_rounding(rank: int) -> None:
    """Orthogonal directions of equal size count as that many; numerical noise in the 127 others
    does not."""
    directions = torch.linalg.qr(torch.randn(128, rank, generator=torch.Generator().manual_seed(0))).Q
    embeddings = torch.cat((directions.T, -directions.T)).repeat(64 // rank, 1) * 3.0  # [S, 128], mean 0
    assert float(effective_rank(embeddings)) == pytest.approx(rank, rel=1e-3)


def test_what_is_spread_evenly_reads_1_and_what_is_constant_reads_0() -> None:
    normal = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    assert float(spread(normal)) == pytest.approx(1.0, abs=0.02)
    assert float(effective_rank(normal)) == pytest.approx(64, rel=0.02)
    assert float(spread(normal[:1].expand(100, -1))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("cls, cause", [(Constant, "complete collapse"), (Line, "dimensional collapse")])
def test_a_collapsed_encoder_raises_one_alarm_within_50_steps_that_names_cause_and_remedy(
    cls: type[TinyEncoder], cause: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    run = Run(tmp_path, cls(), TinyImages(), CollapseMonitor(), 50)
    assert len(run.alarms) == 1
    alarm = run.alarms[0]
    assert cause in alarm and "SimCLR, step" in alarm
    assert "Lower the learning rate" in alarm and "warm-up" in alarm and "views.png" in alarm
    assert run.trainer.global_step == 50  # told, not stopped


def test_stop_ends_the_run_after_a_checkpoint_of_that_step(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        Constant(),
        TinyImages(),
        CollapseMonitor(every_n_steps=1, patience=3, stop=True),
        50,
        enable_checkpointing=True,
    )
    assert run.trainer.global_step == 3
    assert run.trainer.run_folder is not None
    newest = find_newest(run.trainer.run_folder / "checkpoints")
    assert newest is not None and newest.name == "step-00000003.ckpt"


class Scripted(SimCLR):
    """Its embeddings are constant (c) or healthy (h), step by step."""

    script = "cchccchccc"

    def step(self, batch: Any) -> Any:
        embeddings = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
        if self.script[self.trainer.global_step] == "c":
            embeddings = torch.ones(32, 8)
        return {"loss": super().step(batch)["loss"], "embeddings": embeddings}


def test_low_values_must_follow_each_other_and_one_alarm_is_enough(tmp_path: Path) -> None:
    """Two low looks, a healthy one, then three, and later three more: one alarm, at the sixth step,
    for both measures."""
    run = Run(tmp_path, TinyEncoder(), TinyImages(), CollapseMonitor(every_n_steps=1), 10, cls=Scripted)
    assert [value < 0.05 for value in run.values("collapse/std")] == [each == "c" for each in Scripted.script]
    (alarm,) = run.alarms
    assert alarm.startswith("Scripted, step 6: all samples get nearly the same embedding: complete collapse")
    assert "healthy is at least 0.05). Lower the learning rate" in alarm
    assert re.search(r"The learning rate is now \S*\d\.$", alarm)


@pytest.mark.parametrize("patience", [None, 5])
def test_patience_and_stop_are_those_of_health_where_it_does_not_say(tmp_path: Path, patience: int | None) -> None:
    monitor, health = CollapseMonitor(every_n_steps=1, patience=patience), Health(patience=4, stop=True)
    run = Run(tmp_path, Constant(), TinyImages(), monitor, 9, health)
    assert run.trainer.global_step == (4 if patience is None else 5) and len(run.alarms) == 1
    run = Run(tmp_path, Constant(), TinyImages(), CollapseMonitor(every_n_steps=1, stop=False), 9, health)
    assert run.trainer.global_step == 9


def test_the_count_is_in_the_checkpoint(tmp_path: Path) -> None:
    """A run that goes on counts on, and says nothing twice."""
    first = Run(tmp_path, Constant(), TinyImages(), CollapseMonitor(every_n_steps=1), 2, enable_checkpointing=True)
    for steps, alarms in ((4, 1), (8, 0)):
        newest = find_newest(first.trainer.run_folder / "checkpoints")
        second = Run(
            tmp_path,
            Constant(),
            TinyImages(),
            CollapseMonitor(every_n_steps=1),
            steps,
            ckpt_path=newest,
            enable_checkpointing=True,
        )
        assert len(second.alarms) == alarms and second.trainer.run_folder == first.trainer.run_folder
    assert first.alarms == []


def test_the_rank_is_that_of_some_samples_evenly_spaced(tmp_path: Path) -> None:
    """A batch of 600: a third of it has the rank of all; the rows are not the first ones."""

    class Large(SimCLR):
        def step(self, batch: Any) -> Any:
            return {"loss": super().step(batch)["loss"], "embeddings": embeddings}

    generator = torch.Generator().manual_seed(0)
    embeddings = torch.cat([torch.ones(300, 16), torch.randn(300, 16, generator=generator)])
    run = Run(tmp_path, TinyEncoder(), TinyImages(), CollapseMonitor(every_n_steps=1), 1, cls=Large)
    (std,), (rank,) = run.values("collapse/std"), run.values("collapse/rank")
    assert std == float(spread(embeddings)) and rank == float(effective_rank(embeddings[::3]))


def test_a_look_may_wait_until_the_next_step_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: rows and alarms are the same, and what ends the run ends it one step
    later."""
    monitor = CollapseMonitor(every_n_steps=2)
    torch.manual_seed(0)
    expected = Run(tmp_path / "at once", TinyEncoder(), TinyImages(), monitor, 5)
    monkeypatch.setattr(collapse, "runs_ahead", lambda device: True)
    seen: list[bool] = []

    class Looks(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            seen.append("collapse/std" in trainer.callback_metrics)

    torch.manual_seed(0)
    run = Run(tmp_path / "later", TinyEncoder(), TinyImages(), monitor, 5, Looks())
    assert seen == [False, False, True, True, True]
    assert run.rows == expected.rows and run.values("collapse/std")

    ended = Run(tmp_path, Constant(), TinyImages(), CollapseMonitor(every_n_steps=1, patience=3, stop=True), 50)
    assert ended.trainer.global_step == 4 and ended.alarms[0].startswith("SimCLR, step 3: ")
    assert [row["step"] for row in ended.rows if "collapse/std" in row] == [1, 2, 3, 4]


def test_a_checkpoint_holds_what_is_not_logged_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse, "runs_ahead", lambda device: True)
    monitor = CollapseMonitor(every_n_steps=3)
    torch.manual_seed(0)
    straight = Run(tmp_path / "straight", TinyEncoder(), TinyImages(), monitor, 5, enable_checkpointing=True)

    class SavesAndStops(Checkpoint):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == 3:
                trainer.should_stop = True
                self.save(trainer)

    torch.manual_seed(0)
    stopped = Run(
        tmp_path, TinyEncoder(), TinyImages(), CollapseMonitor(every_n_steps=3), 5, SavesAndStops(),
        enable_checkpointing=True,
    )  # fmt: skip
    assert stopped.trainer.run_folder is not None
    newest = find_newest(stopped.trainer.run_folder / "checkpoints")
    assert newest is not None
    states = torch.load(newest, weights_only=True)["callbacks"]
    assert states["collapse"]["pending"].keys() == {f"collapse/{name}" for name in ORDER}
    assert "collapse/std" not in states["metrics"]["metrics"]
    resumed = Run(
        tmp_path, TinyEncoder(), TinyImages(), CollapseMonitor(every_n_steps=3), 5, ckpt_path=newest,
        enable_checkpointing=True,
    )  # fmt: skip
    for name in states["collapse"]["pending"]:
        assert straight.values(name) == resumed.values(name) == stopped.values(name) != []


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "name, seed",
    [
        ("tiny", 0),
        ("tiny", 1),
        ("tiny", 2),
        ("digits", 0),
        pytest.param("digits", 1, marks=pytest.mark.slow),
        pytest.param("resnet18", 0, marks=pytest.mark.slow),
        pytest.param("resnet18", 1, marks=pytest.mark.slow),
        pytest.param("vit", 0, marks=pytest.mark.slow),
        pytest.param("vit", 1, marks=pytest.mark.slow),
    ],
)
def test_healthy_runs_raise_no_alarm_from_their_first_step_on(name: str, seed: int, tmp_path: Path) -> None:
    """The thresholds lie far below what untrained networks and the first, fastest changes show: at
    every step, not each tenth. (`tiny` has 8 features, and images that differ in brightness
    only.)"""
    torch.manual_seed(seed)
    encoder, data, steps = {
        "tiny": lambda: (TinyEncoder(), TinyImages(seed=seed), 30),
        "digits": lambda: (ConvEncoder(channels=1), Digits(seed=seed), 8),
        "resnet18": lambda: (
            TimmEncoder("resnet18", channels=1, small_images=True),
            Digits(seed=seed, batch_size=32),
            2,
        ),
        "vit": lambda: (
            TimmEncoder("vit_tiny_patch16_224", channels=1, image_size=16, patch_size=4),
            Digits(seed=seed, batch_size=32),
            2,
        ),
    }[name]()
    run = Run(tmp_path, encoder, data, CollapseMonitor(every_n_steps=1, patience=1), steps)
    std, rank = run.values("collapse/std"), run.values("collapse/rank")
    assert len(std) == len(rank) == steps and run.alarms == []
    lowest = {alarm.name: alarm.low for alarm in CollapseMonitor().alarms}
    assert min(std) > 4 * lowest["std"]
    assert min(rank) > (1 if name == "tiny" else 4) * lowest["rank"]


def test_embeddings_that_are_no_numbers_leave_the_word_to_the_loss(tmp_path: Path) -> None:
    """The error is the one that names step and remedy; no alarm speaks of collapse before it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
            Run(tmp_path, Broken(), TinyImages(), CollapseMonitor(every_n_steps=1), 8, log_every_n_steps=4)
    assert not [each for each in caught if "ollapse" in str(each.message)]


def test_switched_off_it_logs_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, TinyEncoder(), TinyImages(), CollapseMonitor(enabled=False), 10)
    assert run.values("train/loss") and not run.values("collapse/std")


def test_a_method_without_embeddings_is_not_watched(tmp_path: Path) -> None:
    class Silent(SimCLR):
        def step(self, batch: Any) -> Any:
            return {"loss": super().step(batch)["loss"]}

    trainer = ssl_lightning.Trainer(
        max_steps=10,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(Silent(TinyEncoder()), datamodule=TinyImages())
    assert "train/loss" in trainer.callback_metrics and "collapse/std" not in trainer.callback_metrics
