"""The identity of a run, by which `--resume auto` finds the run to continue."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...plugins.arguments import argument_defaults
from ...plugins.gate import read_yaml
from ...plugins.moved import renamed
from ...plugins.record import Recorded
from ..checkpoints.checkpoint import find_newest
from .lock import in_use, is_locked

TRAINER = {
    "precision": "auto",
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "gradient_clip_algorithm": None,
    "limit_train_batches": None,
    "overfit_batches": 0.0,
    "sync_batchnorm": False,
}
"""Arguments of the trainer that shape what is learned, with their defaults."""
START = {"weights": None, "heads": True, "optimizer": False, "frozen_epochs": 0.0}
"""What a run starts from, which shapes what is learned too, with the defaults."""
MOST = 3
"""Differences that a message names."""


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a run: the settings that shape what it learns, by dotted key
    (`model.temperature`).

    They are the method, its encoder and the data with all their arguments, given or not, the seed,
    and what `TRAINER` and `START` list. What may differ when the same run moves to another machine
    is not part of it: devices, nodes, strategy, workers and other arguments that a class calls
    `incidental`, the folder of the runs, loggers. Nor is what only watches: callbacks, probes, the
    report, how often checkpoints are written. Precision counts as the user gave it: `auto` is the
    same on every machine. A path to data counts, since other data may lie there. The length of a
    run does not count: a run may be extended.

    Args:
        config: of a run, as its `config.yaml` holds it.
    """
    data, trainer, start = config.get("data"), config.get("trainer") or {}, config.get("start") or {}
    of_model, of_data = settings(config["model"], "model"), settings(data, "data")
    return {
        **of_model,
        **of_data,
        **{f"trainer.{name}": trainer.get(name, default) for name, default in TRAINER.items()},
        **{f"start.{name}": start.get(name, default) for name, default in START.items()},
        "seed_everything": config.get("seed_everything", of_data.get("data.seed")),
    }


def settings(value: Any, key: str) -> dict[str, Any]:
    """A part of a config, flat, with the defaults of classes for arguments that are not given."""
    if not isinstance(value, dict):
        return {key: list(value) if isinstance(value, tuple) else value}
    flat: dict[str, Any] = {}
    if "class_path" in value:
        flat[key] = value["class_path"]
        value = _arguments(value)
    for name, item in value.items():
        flat |= settings(item, f"{key}.{name}")
    return flat


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    """What a class is built with, apart from what it calls incidental. A recorded config imports
    nothing: a class that this run does not use differs anyway."""
    given = {**(value.get("init_args") or {}), **(value.get("dict_kwargs") or {})}
    module, _, name = str(value["class_path"]).rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    if not (isinstance(cls, type) and issubclass(cls, Recorded)):
        return given
    arguments = {**argument_defaults(cls), **given}
    return {name: item for name, item in arguments.items() if name not in cls.incidental}


class RecordedRun(NamedTuple):
    """A run on disk, and how it differs from the one to be started."""

    folder: Path
    differences: list[str]
    """Such as `model.temperature 0.5, not 0.2`."""
    as_long: bool
    """Whether it was to last as long."""


def find_resume(root: str | Path, method: str, data: str, config: Mapping[str, Any]) -> tuple[Path | None, str]:
    """Finds the newest whole checkpoint of the newest run with the identity of this config, and
    says so in a line; without one it returns None, and the line says why.

    A run of the same length takes precedence over one that would be extended.

    Args:
        root: `default_root_dir`.
        method, data: short names.
        config: of the run to be started, as its `config.yaml` will hold it.

    Raises:
        FolderInUse: another process writes into the run's folder. A run of another length is then
            another job's, and is skipped.
    """
    runs = _runs(Path(root), f"{method}-{data}".replace(":", "-"), config)
    same = [run for run in runs if not run.differences]
    for run in sorted(same, key=lambda run: not run.as_long):
        if is_locked(run.folder):
            if run.as_long:
                raise in_use(run.folder)
        elif newest := find_newest(run.folder / "checkpoints"):
            return newest, f"Resuming from {newest}."
    others = [run for run in runs if run.differences]
    if not others:
        return None, f"--resume auto: there is no checkpoint of {method} on {data} yet; starting anew."
    return None, (
        "--resume auto: there is no checkpoint of these settings yet; starting anew."
        f" {_others(others, f'{method} on {data}')}"
    )


def find_last(root: Path, name: str, config: Mapping[str, Any], word: str) -> Path:
    """The newest whole checkpoint of the newest run with the identity of this config; of runs of
    the same length first.

    Args:
        root: the folder of all runs.
        name: `<method>-<data>`.
        config: of the run, as its `config.yaml` holds it.
        word: what asks for it, for the error.

    Raises:
        ValueError: there is none.
    """
    runs = _runs(root, name, config)
    for run in sorted((run for run in runs if not run.differences), key=lambda run: not run.as_long):
        if newest := find_newest(run.folder / "checkpoints"):
            return newest
    others = [run for run in runs if run.differences]
    raise ValueError(
        f"ckpt_path={word!r}: there is no checkpoint of a run with these settings in {str(root / name)!r}."
        f" {_others(others, name) if others else 'Leave it out to start anew.'}"
    )


def _others(others: list[RecordedRun], name: str) -> str:
    """How the runs on disk differ, in a sentence."""
    nearest = min(others, key=lambda run: len(run.differences))
    more = f"; and {len(nearest.differences) - MOST} more" * (len(nearest.differences) > MOST)
    count = f"{len(others)} runs of {name} have" if len(others) > 1 else f"A run of {name} has"
    return f"{count} other settings ({nearest.folder.name}: {'; '.join(nearest.differences[:MOST])}{more})."


def _runs(root: Path, name: str, config: Mapping[str, Any]) -> list[RecordedRun]:
    """The runs of a method on a kind of data, the newest first, compared with the one to be
    started. Where the data is a user's, the name of its folder may follow in their folder's."""
    wanted, length = identity(config), _length(config)
    runs = []
    parents = [each for each in root.glob("*") if each.name == name or each.name.startswith(f"{name}-")]
    folders = [folder for parent in parents for folder in parent.glob("*/checkpoints")]
    for checkpoints in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            text = (checkpoints.parent / "config.yaml").read_text(encoding="utf-8")
            recorded = renamed(read_yaml(text, "config.yaml"))
            before = identity(recorded)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a run that has just begun, or another program's file
        differences = [
            f"{key} {_shown(before.get(key))}, not {_shown(wanted.get(key))}"
            for key in {**wanted, **before}
            if before.get(key) != wanted.get(key)
        ]
        runs.append(RecordedRun(checkpoints.parent, differences, _length(recorded) == length))
    return runs


def _length(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """How long a run was to last: epochs, steps, and time, in all or of training."""
    trainer = config.get("trainer") or {}
    steps = trainer.get("max_steps")
    return trainer.get("max_epochs"), -1 if steps is None else steps, trainer.get("minutes"), trainer.get("max_time")


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
