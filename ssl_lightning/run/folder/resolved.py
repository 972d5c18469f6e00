"""What a run was made with: the settings that nobody gave, as they were resolved, and its sizes."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ...data.datamodule import SSLDataModule
from ...plugins.record import Recorded, config_of
from ...plugins.run_record import run_config

TRAINER = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
"""Settings of Lightning's Trainer that shape what is learned, and that it keeps as attributes."""


def resolved_config(trainer: Any) -> dict[str, Any]:
    """The run's config with nothing left open: a later version, whose defaults may differ, repeats
    the run by it."""
    config: dict[str, Any] = yaml.safe_load(run_config(trainer.lightning_module))
    for key, value in (("model", trainer.lightning_module), ("data", trainer.datamodule)):
        if isinstance(value, Recorded):
            config[key] = config_of(value, resolved=True)
    lengths = {name: getattr(trainer, name) for name in TRAINER}
    if any(getattr(callback, "by_time", False) for callback in trainer.callbacks):
        lengths["max_steps"] = -1  # planned by the speed of a machine (`run.pace`)
    given = config.get("trainer") or {}
    config["trainer"] = {**given, **lengths, "precision": str(trainer.precision)}
    if "seed_everything" not in config and "PL_GLOBAL_SEED" in os.environ:  # Lightning's `seed_everything` sets it
        config["seed_everything"] = int(os.environ["PL_GLOBAL_SEED"])
    return config


def resolved_text(trainer: Any) -> str:
    """`resolved.yaml`: the config under a line that says what it is."""
    head = f"# ssl-lightning {version('ssl-lightning')}: ssl-lightning fit --config resolved.yaml repeats the run."
    return f"{head}\n{yaml.safe_dump(resolved_config(trainer), sort_keys=False, allow_unicode=True)}"


def sizes(trainer: Any) -> dict[str, int]:
    """Numbers of training samples, of classes and of parameters."""
    method, data = trainer.lightning_module, trainer.datamodule
    numbers = {
        "parameters": sum(each.numel() for each in method.parameters() if each.requires_grad),
        "parameters/encoder": sum(each.numel() for each in method.backbone.parameters()),
    }
    if isinstance(data, SSLDataModule):
        numbers["samples"] = len(data.training_split)
        labels = getattr(data.split("train"), "labels", None)
        if labels is not None and len(labels):
            numbers["classes"] = len(labels[labels >= 0].unique())
    return numbers


@cache
def commit() -> dict[str, str]:
    """The git commit of this package, where it is used from a checkout: with `-dirty` where files
    differ from it."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return {}
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, or not ours to read
        return {}
    return {"versions/commit": done.stdout.strip()}
