"""The record of a run in its checkpoints, and the check whether a later run may resume from one."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from .gate import read_yaml
from .moved import renamed
from .record import class_path, config_of


def config_in(checkpoint: dict[str, Any], path: str | Path = "The checkpoint") -> dict[str, Any]:
    """The run's config that a checkpoint holds.

    Raises:
        ValueError: it holds none, so it was not written by this package; or one that no run writes.
    """
    config = read_yaml(str(checkpoint.get("config", "")), repr(str(path)))
    if not isinstance(config, dict) or "model" not in config:
        raise ValueError(f"{str(path)!r} holds no config; it was not written by ssl_lightning.")
    current: dict[str, Any] = renamed(config)
    return current


def run_config(method: Any) -> str:
    """The run's config as YAML: the command line's, or else the one that the objects recorded."""
    trainer = method.trainer
    if getattr(trainer, "config", None):
        return str(trainer.config)
    config = {"model": config_of(method)}
    datamodule = getattr(trainer, "datamodule", None)
    if datamodule is not None:
        config["data"] = config_of(datamodule) if hasattr(datamodule, "init_args") else class_path(type(datamodule))
    if hasattr(trainer, "plain_args"):
        config["trainer"] = trainer.plain_args
    for callback in getattr(trainer, "callbacks", ()):
        if arguments := getattr(callback, "recorded_args", None):
            config[callback.key] = arguments
    return yaml.safe_dump(config, sort_keys=False)


def record_run(method: Any, checkpoint: dict[str, Any]) -> None:
    """Adds the config, the data's artifacts and the resolved settings to a checkpoint that is being
    written."""
    checkpoint["config"] = run_config(method)
    checkpoint["ssl_lightning"] = version("ssl-lightning")
    checkpoint["method"] = class_path(type(method))
    data: Any = getattr(method.trainer, "datamodule", None)
    checkpoint["artifacts"] = data.artifacts() if hasattr(data, "artifacts") else {}
    if names := getattr(data, "class_names", None):
        checkpoint["class_names"] = [str(name) for name in names]
    spec = method.optimizer_spec
    checkpoint["resolved"] = {
        "precision": str(method.trainer.precision),
        "steps": method.trainer.estimated_stepping_batches,
        "schedule": {"schedule": spec.schedule, "recipe_epochs": spec.recipe_epochs},
    }


def check_resume(method: Any, checkpoint: dict[str, Any]) -> None:
    """Refuses a checkpoint that this run could load but cannot resume from.

    Raises:
        ValueError: it is another method's, or (in `fit`) the position in the data would be lost.
    """
    writer, current = checkpoint.get("method"), class_path(type(method))
    if writer is not None and writer != current:
        raise ValueError(
            f"The checkpoint was written by {writer}, but this run's method is {current}. Resume with the method of the"
            " run, or start anew."
        )
    datamodule = getattr(method.trainer, "datamodule", None)
    if method.trainer.state.fn != "fit" or "loops" not in checkpoint:
        return
    if not checkpoint.get("optimizer_states"):
        raise ValueError("The checkpoint holds no state of the optimizer, so that a run cannot go on from it.")
    if datamodule is None or type(datamodule).__qualname__ not in checkpoint:
        name = "plain loaders" if datamodule is None else type(datamodule).__qualname__
        raise ValueError(
            f"The checkpoint holds no position for {name}: resuming would silently start its data anew. "
            "Resume with the datamodule of the run, or use ssl_lightning.load(path) to start from its weights."
        )
