"""A step that was not finite is taken again, and what is not finite in it is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.report import Report
from ssl_lightning.optim.finite import NotFinite
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.replay import retake
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.methods import MethodKit, tiny_data
from ssl_lightning.testing.runner import class_of

SPOILT = 13


class Spoilt(TinyImages):
    """One of its samples is NaN, in the second view."""

    def make_batch(self, fetched: Any) -> Any:
        batch = super().make_batch(fetched)
        batch["views"][1].x[batch["index"] == SPOILT] = math.nan
        return batch


class Breaks(pl.Callback):
    """Breaks a gradient of the third step, which nobody does at the replay."""

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step == 2:
            next(each.grad for each in pl_module.parameters() if each.grad is not None).view(-1)[0] = math.inf


def bundle_of(root: Path, method: Any, data: Any, *callbacks: pl.Callback, **settings: Any) -> Path:
    """The bundle that a run leaves."""
    changed: dict[str, Any] = {
        "accelerator": "cpu", "precision": "32-true", "max_steps": 12, "default_root_dir": str(root),
        "enable_progress_bar": False, "callbacks": [Report(enabled=False), *callbacks], **settings,
    }  # fmt: skip
    trainer = ssl_lightning.Trainer(**changed)
    with pytest.raises(NotFinite):
        trainer.fit(method, datamodule=data)
    assert trainer.run_folder is not None
    (bundle,) = trainer.run_folder.glob("nan-step-*")
    return bundle


def test_the_sample_the_module_and_the_gradients_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    bundle = bundle_of(tmp_path, SimCLR(TinyEncoder()), Spoilt())
    capsys.readouterr()
    assert main(["replay", str(bundle)]) == 0
    said = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    lines = {first: rest for first, rest in said}
    assert f"the views of sample {SPOILT} hold NaN" in lines["recorded"]
    assert lines["views"].startswith(f"NaN or infinity in sample {SPOILT} (view 2); else at most ")
    assert lines["modules"] == "first not finite: encoder.conv (Conv2d)"
    assert lines["gradients"].startswith("not finite in ") and "encoder.conv.weight" in lines["gradients"]
    assert lines["loss"] == "nan (the run's, bit for bit)"
    assert lines["Reproduced:"] == "the step is not finite."


EVERY = sorted(Registry("ssl_lightning.methods"))


@pytest.mark.by_default(1)
@pytest.mark.parametrize("name", [each if each in ("bert", "moco", "swav", "wav2vec2") else
                                  pytest.param(each, marks=pytest.mark.slow) for each in EVERY])  # fmt: skip
def test_the_loss_of_any_method_is_the_runs_bit_for_bit(name: str, tmp_path: Path) -> None:
    """With dropout, masks and schedules as at that step; and that it is finite here is said."""
    cls = class_of("ssl_lightning.methods", name)
    taken = retake(bundle_of(tmp_path, MethodKit(cls).method(dropout=True), tiny_data(cls), Breaks()))
    (rank,) = taken.ranks
    assert rank.samples == taken.facts.processes[0]["samples"]
    assert math.isfinite(rank.losses[0]) and rank.equals(taken.facts.processes[0])
    assert not taken.reproduced and rank.gradient_norm > 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_in_other_precisions_too(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = bundle_of(tmp_path, SimCLR(TinyEncoder()), TinyImages(), Breaks(), precision=precision)
    capsys.readouterr()
    assert main(["replay", str(bundle)]) == 1
    said = capsys.readouterr().out
    assert "(the run's, bit for bit)" in said and "Not reproduced: here the step is finite." in said


@pytest.mark.parametrize(
    "change",
    [
        {"step": "seven"}, {"precision": "evil"}, {"processes": []}, {"processes": [{"batches": []}]}, {"more": 1},
        {"processes": 3}, {"position": {"position": "x"}}, {"position": {"position": 0, "samples": 5}},
        {"steps_planned": "many"},
    ],
    ids=str,
)  # fmt: skip
def test_a_bundle_that_no_run_writes_is_refused_in_one_line(
    change: dict[str, Any], tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "before.ckpt").write_bytes((bundle / "before.ckpt").read_bytes())
    facts = json.loads((bundle / "replay.json").read_text())
    (tmp_path / "replay.json").write_text(json.dumps({**facts, **change}))
    assert main(["replay", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("ssl-lightning replay: error: ")


def test_a_class_that_is_not_trusted_is_refused(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(bundle / "before.ckpt", weights_only=True)
    checkpoint["config"] = checkpoint["config"].replace("ssl_lightning.testing.tiny.TinyImages", "canarymod.Boom")
    torch.save(checkpoint, tmp_path / "before.ckpt")
    (tmp_path / "replay.json").write_text((bundle / "replay.json").read_text())
    assert main(["replay", str(tmp_path)]) == 2
    assert "names 'canarymod.Boom'" in capsys.readouterr().err


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["replay"], ["replay", "a", "b"], ["replay", str(tmp_path)]):
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(tmp_path_factory.mktemp("run"), SimCLR(TinyEncoder()), TinyImages(), Breaks())
