"""A step that is not finite changes nothing, stops the run in one line or is left out, and leaves
a bundle; weights that are not finite are never written.

Run as a script this file is one of two processes: `test_guard.py FOLDER KIND`.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.precision import MixedPrecision
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.distributed import rank
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.optim.finite import NotFinite
from ssl_lightning.plugins.archive import read
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.run.numbers.guard import Guard
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.run.replay import retake
from ssl_lightning.run.stops.together import Lost
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.methods import MethodKit, tiny_data
from ssl_lightning.testing.runner import class_of
from ssl_lightning.types import Batch, Step

AT = 7
"""The step that is not finite; an epoch has four."""
KINDS = ("loss", "infinite loss", "constant", "gradient")


class Breaks(SimCLR):
    """Gives what is not finite at some steps, on one of the processes."""

    kind = "none"
    at: tuple[int, ...] = (AT,)
    on_rank = 0

    @property
    def now(self) -> bool:
        return self.global_step + 1 in self.at and rank() == self.on_rank

    def step(self, batch: Batch) -> Step:
        if self.now and self.kind == "weight":  # of one process: a bit flips
            self.encoder.get_parameter("conv.weight").data[0] = math.nan
        loss = super().step(batch)["loss"]
        if self.now and self.kind in ("loss", "infinite loss"):
            loss = loss * (math.nan if self.kind == "loss" else math.inf)
        if self.now and self.kind == "constant":  # whose gradients are finite
            loss = loss + math.nan
        logs = {"odd": math.nan if self.now and self.kind == "logged" else 1.0}
        return {"loss": loss, "logs": logs}

    def on_after_backward(self) -> None:
        if self.now and self.kind == "gradient":
            weight: Any = self.encoder.get_parameter("conv.weight")
            weight.grad.view(-1)[3] = math.inf


class States(pl.Callback):
    """Keeps what a step may change, after each step; and clears the gradients of some by hand."""

    def __init__(self, cleared: tuple[int, ...] = ()) -> None:
        self.cleared, self.after = cleared, dict[int, Any]()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step + 1 in self.cleared:
            for parameter in pl_module.parameters():
                parameter.grad = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.after.setdefault(trainer.global_step, state(pl_module, trainer))


def state(module: Any, trainer: Any) -> Any:
    return copy.deepcopy((module.state_dict(), trainer.optimizers[0].state_dict()["state"]))


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Bit for bit."""
    assert type(one) is type(other), path
    if isinstance(one, Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, (dict, list, tuple)):
        pairs = one.items() if isinstance(one, dict) else enumerate(one)
        assert len(one) == len(other), path
        for key, value in pairs:
            assert_same(value, other[key], f"{path}/{key}")
    else:
        assert one == other, path


def quiet_trainer(root: Path, *callbacks: pl.Callback, steps: int = 12, **settings: Any) -> Any:
    classes: Any = (KNNProbe, OnlineLinearProbe, CollapseMonitor, HeldOut, Report)
    off = [each(enabled=False) for each in classes]
    changed: dict[str, Any] = {
        "accelerator": "cpu", "precision": "32-true", "max_steps": steps, "default_root_dir": str(root),
        "enable_progress_bar": False, "callbacks": [*off, *callbacks], "log_every_n_steps": 3, **settings,
    }  # fmt: skip
    return ssl_lightning.Trainer(**changed)


def broken(kind: str, optimizer: str = "adamw", **changes: Any) -> Breaks:
    torch.manual_seed(0)
    method = Breaks(TinyEncoder(), optimizer=optimizer, hidden_dim=16, output_dim=8)
    method.kind = kind
    vars(method).update(changes)
    return method


def stopped(trainer: Any, method: Any, data: Any = None) -> str:
    """The line with which a run stops."""
    with pytest.raises(NotFinite) as caught:
        trainer.fit(method, datamodule=data or TinyImages())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# It stops.


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_not_finite_changes_nothing_and_stops_the_run(tmp_path: Path, kind: str) -> None:
    states, method = States(), broken(kind)
    trainer = quiet_trainer(tmp_path, states)
    line = stopped(trainer, method)
    value = {"loss": "nan", "infinite loss": "inf", "constant": "nan"}.get(kind)
    expected = f"the loss is {value}. " if value else "but the gradient of encoder.conv.weight is not finite. "
    assert line.startswith("Breaks, step 7: ") and expected in line and "Try a lower learning rate" in line
    assert_same(state(method, trainer), states.after[AT - 1])
    folder = trainer.run_folder
    assert folder is not None and names(folder / "checkpoints") == ["step-00000004.ckpt"]
    bundle = folder / "nan-step-00000007"
    assert f"Newest checkpoint: {folder / 'checkpoints' / 'step-00000004.ckpt'}." in line and str(bundle) in line
    assert names(bundle) == ["before.ckpt", "replay.json"]
    assert_same(dict(read(bundle / "before.ckpt")["state_dict"]), dict(states.after[AT - 1][0]))


def test_accumulated_batches_count_as_one_step(tmp_path: Path) -> None:
    """The first of two is not finite, and the second hides nothing."""

    class Accumulates(Breaks):
        couples_samples = ""
        batches = 0

        def step(self, batch: Batch) -> Step:
            self.batches += 1
            loss = super().step(batch)["loss"]
            return {"loss": loss * (math.nan if self.batches == 5 else 1.0)}

    states, method = States(), Accumulates(TinyEncoder())
    trainer = quiet_trainer(tmp_path, states, accumulate_grad_batches=2)
    assert "step 3: the loss is nan" in stopped(trainer, method)
    assert_same(state(method, trainer), states.after[2])
    facts = json.loads((trainer.run_folder / "nan-step-00000003" / "replay.json").read_text())
    assert facts["processes"][0]["batches"] == [4, 5] and facts["position"]["position"] == 64
    assert [math.isnan(loss) for loss in facts["processes"][0]["losses"]] == [True, False]


def test_the_last_step_and_a_plain_trainer_stop_too(tmp_path: Path) -> None:
    stopped(quiet_trainer(tmp_path, steps=AT), broken("loss"))
    plain = pl.Trainer(
        accelerator="cpu", max_steps=9, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    assert "There is no checkpoint yet." in stopped(plain, broken("gradient"))


def test_a_logged_value_is_not_a_fault(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path)
    trainer.fit(broken("logged"), datamodule=TinyImages())
    assert trainer.global_step == 12 and any(math.isnan(row.get("train/odd", 0.0)) for row in rows_of(trainer))


# Weights that an update makes infinite.


@pytest.mark.parametrize("steps", [1, 9], ids=["last", "next"])
def test_weights_made_infinite_by_an_update_are_met_and_never_written(tmp_path: Path, steps: int) -> None:
    method = SimCLR(TinyEncoder(), optimizer="adamw", lr=1e300, warmup_epochs=0)
    trainer = quiet_trainer(tmp_path, Checkpoint(minutes=0.0), steps=steps)
    line = stopped(trainer, method)
    assert "the weights are not finite after step 1 (first encoder." in line and "learning rate" in line
    assert names(trainer.run_folder / "checkpoints") == []
    assert not list(trainer.run_folder.glob("nan-*"))


@pytest.mark.parametrize("lightnings", [False, True], ids=["ours", "Lightning's"])
def test_without_the_watch_no_such_checkpoint_is_written(tmp_path: Path, lightnings: bool) -> None:
    other = ModelCheckpoint(dirpath=tmp_path / "elsewhere", every_n_train_steps=1, save_top_k=-1)
    callbacks = [other, Checkpoint(enabled=False)] if lightnings else [Checkpoint(minutes=1e-9)]
    trainer = quiet_trainer(tmp_path, Health(enabled=False), *callbacks)
    line = stopped(trainer, broken("gradient"))
    assert "the weights are not finite after step 7 (first encoder." in line
    folder = tmp_path / "elsewhere" if lightnings else trainer.run_folder / "checkpoints"
    assert len(names(folder)) == (6 if lightnings else 2)
    for path in folder.iterdir():
        assert all(bool(value.isfinite().all()) for value in read(path)["state_dict"].values())


def test_buffers_of_infinities_are_written_as_they_are(tmp_path: Path) -> None:
    method = broken("none")
    method.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    quiet_trainer(tmp_path, steps=2).fit(method, datamodule=TinyImages())
    method.register_buffer("broken", torch.tensor([0.0, math.nan]))
    assert "first broken" in stopped(quiet_trainer(tmp_path, steps=2), method)


# It is left out.


def skipping(root: Path, kind: str, *callbacks: pl.Callback, at: tuple[int, ...] = (AT,), **health: Any) -> Any:
    trainer = quiet_trainer(root, Health(on_nan="skip", **health), *callbacks)
    method = broken(kind, at=at)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(method, datamodule=TinyImages())
    return trainer, method, [str(each.message) for each in caught if "left out" in str(each.message)]


def test_a_step_is_left_out_warned_of_and_counted(tmp_path: Path) -> None:
    """The run ends as one whose gradients were cleared by hand at that step; its mean loss is that
    of the other steps."""
    states = States()
    trainer, method, said = skipping(tmp_path / "skips", "constant", states)
    assert len(said) == 1 and said[0].startswith("Breaks, step 7: the loss is nan.") and "1. of at most 10" in said[0]
    assert_same(states.after[AT], states.after[AT - 1])
    reference, cleared = broken("none"), quiet_trainer(tmp_path / "cleared", States(cleared=(AT,)))
    cleared.fit(reference, datamodule=TinyImages())
    parameters = dict(reference.named_parameters())
    for name, weight in method.named_parameters():
        assert torch.equal(weight, parameters[name]), name
    rows = rows_of(trainer)
    assert [row["health/skipped"] for row in rows if "health/skipped" in row] == [1.0]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert [row["step"] for row in rows if "train/loss" in row] == [3, 6, 9, 12]
    newest = sorted((trainer.run_folder / "checkpoints").iterdir())[-1]
    assert read(newest)["callbacks"]["health"]["skipped"] == 1


def test_only_so_many_steps_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=r"step 8: .* Training stops, after 2 that were left out"):
        skipping(tmp_path, "loss", at=(3, 5, 8), skips=2)


def test_settings_are_checked() -> None:
    for wrong in ({"on_nan": "ignore"}, {"skips": 0}):
        with pytest.raises(ValueError, match=rf"Health\({next(iter(wrong))}="):
            Health(**wrong)  # type: ignore[arg-type]


METHODS = sorted(Registry("ssl_lightning.methods"))


class Poison(pl.Callback):
    """Puts a NaN into the views of a step; into a gradient where the views are ids."""

    def __init__(self, at: int = 2, on_rank: int = 0) -> None:
        self.at, self.on_rank = at, on_rank

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == self.at and rank() == self.on_rank:
            for view in batch["views"]:
                if view.x.is_floating_point():
                    view.x[1].fill_(math.nan)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step + 1 == self.at and rank() == self.on_rank:
            next(each.grad for each in pl_module.parameters() if each.grad is not None).view(-1)[0] = math.nan


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_any_method_on_a_sample_with_nan_changes_nothing(name: str) -> None:
    """Weights, optimizer, teachers, queues, prototypes and running statistics stay, bit for bit;
    the step after it moves them."""
    cls, states = class_of("ssl_lightning.methods", name), States()
    if cls.solved:
        pytest.skip("its one step moves nothing: it is solved by regression")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(
            accelerator="cpu", max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[Health(on_nan="skip"), Poison(), states],
        ).fit(MethodKit(cls).method(), datamodule=tiny_data(cls))  # fmt: skip
    assert_same(states.after[2], states.after[1])
    assert any(not torch.equal(value, states.after[1][0][key]) for key, value in states.after[3][0].items())


def test_the_sample_is_named(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, Poison())
    line = stopped(trainer, broken("none"))
    facts = json.loads((trainer.run_folder / "nan-step-00000002" / "replay.json").read_text())
    sample = facts["processes"][0]["samples"][0][1]
    assert facts["processes"][0]["bad_samples"] == [sample]
    assert f"since the views of sample {sample} hold NaN or infinity. Mend or remove it." in line


# As on an accelerator: nothing waits, and the host knows a step later.


@pytest.mark.parametrize(
    "optimizer", ["adamw", *(pytest.param(each, marks=pytest.mark.slow) for each in ("lars", "sgd"))]
)
def test_the_device_leaves_the_step_out_until_the_host_knows(
    tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "looks_at_once", False)
    healthy = States()
    quiet_trainer(tmp_path, healthy).fit(broken("none", optimizer), datamodule=TinyImages())
    monkeypatch.undo()
    at_once = States()
    quiet_trainer(tmp_path, at_once).fit(broken("none", optimizer), datamodule=TinyImages())
    if optimizer != "lars":  # its sum is rounded twice
        assert_same(healthy.after, at_once.after)
    monkeypatch.setattr(Guard, "looks_at_once", False)
    for steps in (12, AT):
        states, method = States(), broken("gradient", optimizer)
        trainer = quiet_trainer(tmp_path, states, steps=steps)
        line = stopped(trainer, method)
        assert "step 7: " in line and max(states.after) == 7
        now, before = state(method, trainer), states.after[AT - 1]
        for name, weight in method.named_parameters():
            assert torch.equal(weight, before[0][name]), name
        assert_same(now[1], before[1])
        assert "step-00000004.ckpt" in names(trainer.run_folder / "checkpoints")[-1]


# float16: the scaler's own skips are no faults.


def test_an_overflow_that_the_scaler_handles_is_not_a_fault_and_many_are() -> None:
    def run(kind: str, at: tuple[int, ...], scale: float) -> int:
        trainer = pl.Trainer(
            accelerator="cpu", max_steps=6, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))],
        )  # fmt: skip
        trainer.fit(broken(kind, at=at), datamodule=TinyImages())
        return trainer.global_step

    assert run("gradient", (2, 4), 1.0) == 6
    with pytest.raises(NotFinite, match=r"step 3: the loss is nan"):
        run("constant", (1, 2, 3, 4), 2.0**-12)


# Several processes.


def process(folder: Path, kind: str) -> None:
    states = States()
    if kind == "sample":  # of classes that a replay finds elsewhere
        torch.manual_seed(0)
        method: Any = SimCLR(TinyEncoder())
    else:
        method = broken(kind, on_rank=1)
    trainer = quiet_trainer(folder, states, Poison(AT if kind == "sample" else 0, 1), devices=2, strategy="ddp")
    with pytest.raises((NotFinite, Lost)) as caught:  # who had it first tells it, the other ends
        trainer.fit(method, datamodule=TinyImages())
    line = str(caught.value) if caught.type is NotFinite else ""
    for name, weight in method.named_parameters():
        assert kind == "weight" or torch.equal(weight, states.after[AT - 1][0][name]), name
    if rank() == 0:  # whose running statistics the others take over as a step begins
        assert_same(state(method, trainer), states.after[AT - 1])
    (folder / f"{rank()}.txt").write_text(f"{max(states.after)}|{line}")


def processes_stop(folder: Path, run: Any, kind: str) -> tuple[str, Path]:
    """The line of both, and the bundle."""
    ended = run(folder, script=[__file__, str(folder), kind], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    line = line_of_both(folder)
    assert ", step 7: " in line
    (bundle,) = folder.glob("*/*/nan-step-00000007")
    return line, bundle


def line_of_both(folder: Path) -> str:
    """The line of one, or of both, which stop after step 6."""
    steps, _, lines = zip(*((folder / f"{number}.txt").read_text().partition("|") for number in range(2)), strict=True)
    (line,) = {line for line in lines if line}
    assert steps == ("6", "6")
    return line


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gradient", *KINDS[:3]])
def test_both_processes_stop_at_the_step_at_which_one_is_not_finite(tmp_path: Path, run: Any, kind: str) -> None:
    line, bundle = processes_stop(tmp_path, run, kind)
    loss = "the loss is inf on rank 1." if kind == "infinite loss" else "the loss is nan on rank 1."
    assert ("the gradient of encoder.conv.weight" if kind == "gradient" else loss) in line
    ranks = json.loads((bundle / "replay.json").read_text())["processes"]
    if kind == "constant":
        assert [math.isnan(each["losses"][0]) for each in ranks] == [False, True]
    assert not set(ranks[0]["samples"][0]) & set(ranks[1]["samples"][0])


@pytest.mark.slow
def test_weights_of_one_process_end_both(tmp_path: Path, run: Any) -> None:
    ended = run(tmp_path, script=[__file__, str(tmp_path), "weight"], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    assert "the weights are not finite after step 6 (first encoder.conv.weight)" in line_of_both(tmp_path)


@pytest.mark.slow
def test_a_step_of_two_processes_is_taken_again_one_by_one(tmp_path: Path, run: Any) -> None:
    line, bundle = processes_stop(tmp_path, run, "sample")
    assert "on rank 1, since the views of sample" in line
    taken = retake(bundle)
    assert [each.samples for each in taken.ranks] == [each["samples"] for each in taken.facts.processes]
    assert taken.couples and not taken.reproduced  # the NaN came from a callback


# On the command line.


def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([
        "fit", "--model", "simclr", "--data", "digits", "--model.lr", "1e300", "--model.optimizer", "adamw",
        "--trainer.max_steps", "4", "--trainer.default_root_dir", str(tmp_path), "--report.enabled", "false",
        "--online_probe.enabled", "false", "--knn_probe.enabled", "false", "--trainer.accelerator", "cpu",
        "--trainer.precision", "32-true",
    ])  # fmt: skip
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(said) == 1 and "error: SimCLR: the weights are not finite after step" in said[0], said


def test_a_copy_of_a_method_is_not_watched(tmp_path: Path) -> None:
    method = broken("none")
    quiet_trainer(tmp_path, steps=1).fit(method, datamodule=TinyImages())
    assert copy.deepcopy(method)._guard is None


if __name__ == "__main__":
    process(Path(sys.argv[1]), sys.argv[2])
