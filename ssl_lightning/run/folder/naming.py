"""Which checkpoint `ckpt_path` names: a file, a run folder, `last` or `best`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ...plugins.messages import did_you_mean
from ...plugins.run_record import run_config
from ..checkpoints.checkpoint import newest_of
from ..checkpoints.retention import best_in
from .folder import kind_name
from .identity import find_last

LIGHTNINGS = ("hpc", "registry")
"""Words, or beginnings of them, that are Lightning's to resolve."""


def checkpoint_of(trainer: Any, path: str | Path | None) -> str | Path | None:
    """The checkpoint file that a path or a word stands for.

    Args:
        trainer: ours, which knows the method and the data by now.
        path: a checkpoint; a run folder: its newest whole checkpoint; `last`: the newest whole
            checkpoint of a run with these settings below `default_root_dir`; `best`: the one that a
            callback of this trainer with a monitor holds for the best, or that such a run kept.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: there is none that the word could mean; or it is an encoder's file.
    """
    if path is None or str(path).startswith(LIGHTNINGS) or "://" in str(path):
        return path
    if path == "last":
        return last_of(trainer, path)
    if path == "best":
        return best_of(trainer) or best_of_last(trainer)
    return check_file(newest_of(path))


def last_of(trainer: Any, word: str) -> Path:
    """The newest whole checkpoint of a run with the settings of this one."""
    method, data = trainer.lightning_module, trainer.datamodule
    config = yaml.safe_load(run_config(method))
    return find_last(Path(trainer.default_root_dir), kind_name(method, data), config, word)


def best_of(trainer: Any) -> str | None:
    """The best checkpoint, by the callbacks of this trainer that follow a metric; None: there is
    none yet."""
    followers = [each for each in trainer.callbacks if getattr(each, "monitor", None)]
    return next((each.best_model_path for each in followers if getattr(each, "best_model_path", None)), None)


def best_of_last(trainer: Any) -> Path:
    """The best checkpoint of the newest run with the settings of this one."""
    folder = last_of(trainer, "best").parent
    best = best_in(folder)
    if best is None:
        raise ValueError(
            f"ckpt_path='best': no metric was followed in {str(folder)!r}. Train with --checkpoint.monitor"
            " probe/linear/top1, or give the path of a checkpoint or of a run folder, or `last`."
        )
    return best


def check_file(path: Path) -> Path:
    """Raises an error in one line where a path is no checkpoint's."""
    if path.suffix == ".safetensors":
        raise ValueError(
            f"{str(path)!r} holds an encoder alone, no checkpoint of a run. Give the checkpoint beside it; the encoder"
            " is for --model.checkpoint, of methods that learn from labels, and for load_encoder."
        )
    if not path.is_file():
        beside = [each.name for each in path.parent.glob("*.ckpt")]
        near = did_you_mean(path.name, beside) or (f" The folder has {', '.join(sorted(beside))}." if beside else "")
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}.{near}")
    return path
