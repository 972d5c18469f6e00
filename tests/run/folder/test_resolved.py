"""`resolved.yaml` repeats a run where the defaults of its classes have changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.byol import BYOL
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import OptimizerSpec
from ssl_lightning.cli.main import main
from ssl_lightning.plugins.archive import read
from ssl_lightning.run.checkpoints.checkpoint import find_newest
from ssl_lightning.run.settings.precision import best_precision

QUIET = ("report", "online_probe", "knn_probe", "held_out")


def trained(root: Path, *options: str) -> Path:
    """The folder of a run."""
    off = [f"--{key}.enabled=false" for key in QUIET]
    assert main(["fit", *options, *off, f"--trainer.default_root_dir={root}", "--trainer.accelerator=cpu"]) == 0
    (folder,) = root.glob("*/*")
    return folder


def weights(folder: Path) -> dict[str, Any]:
    newest = find_newest(folder / "checkpoints")
    assert newest is not None
    return dict(read(newest)["state_dict"])


@pytest.mark.parametrize("method", [SimCLR, pytest.param(BYOL, marks=pytest.mark.slow)])
def test_a_run_is_repeated_bit_for_bit_where_the_defaults_are_others_now(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = method.__name__.lower()
    options = f"--model={name} --data=digits --model.encoder=conv --trainer.max_steps=3 --seed_everything=3".split()
    before = trained(tmp_path / "before", *options)
    first = OptimizerSpec("sgd", lr=5.0, weight_decay=0.3, momentum=0.1, warmup_epochs=0, reference_batch=None)
    monkeypatch.setattr(method, "optimizer_specs", {"sgd": first, **{key: first for key in method.optimizer_specs}})
    monkeypatch.setattr(Digits, "policy", replace(Digits.policy, rotation=90.0, crop_scale=(0.9, 1.0), flip=1.0))
    monkeypatch.setattr(Digits, "default_epochs", 7)
    after = trained(tmp_path / "after", "--config", str(before / "resolved.yaml"))
    one, two = weights(before), weights(after)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    config = yaml.safe_load((before / "resolved.yaml").read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["lr"] and model["optimizer"] and model["hidden_dim"] and data["augmentation"]["crop_scale"]
    assert config["trainer"]["precision"] == best_precision("cpu") and config["trainer"]["max_steps"] == 3
    other = trained(tmp_path / "other", *options)
    three = weights(other)
    assert not all(torch.equal(one[key], three[key]) for key in one), "the defaults did not change anything"
    summary = json.loads((before / "summary.json").read_text())
    assert summary["samples"] == 1400 and summary["classes"] == 10
    assert summary["parameters"] >= summary["parameters/encoder"] > 1000
