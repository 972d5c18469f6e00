"""TensorBoard in the run folder."""

from __future__ import annotations

import csv
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from ...plugins.arguments import require
from .base import Axes, Config, InRunFolder, Rows, check_installed


class TensorBoard(InRunFolder, TensorBoardLogger):
    """TensorBoard, in `tensorboard` of the run folder: `tensorboard --logdir runs` compares all
    runs. It has pictures, sounds, tables, alarms and the config as text, and under HParams the
    settings.

    Args:
        flush_secs: seconds between writes.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
        ValueError: a negative number of seconds.
    """

    def __init__(self, flush_secs: int = 10) -> None:
        check_installed("tensorboard", "tensorboard")
        require(self, at_least=0, flush_secs=flush_secs)
        super().__init__("", name="tensorboard", version="", default_hp_metric=False, flush_secs=flush_secs)

    def open(self, folder: Path, fits: bool, axes: Axes = dict, metrics: Sequence[str] = ()) -> None:
        super().open(folder, fits, axes, metrics)
        self._root_dir, self._experiment = str(folder), None

    @rank_zero_only
    def log_hyperparams(self, params: Config, metrics: Any = None, step: int | None = None) -> None:  # type: ignore[override]  # a Namespace is never given
        super().log_hyperparams(dict(params), metrics, step)
        if self.folder is None:
            return
        from torch.utils.tensorboard.summary import hparams

        # Without an "experiment", which names the metrics in advance, HParams takes all there are.
        _, start, end = hparams(dict(flat(params)), {})
        for summary in (start, end):
            self.experiment._get_file_writer().add_summary(summary)
        self.experiment.add_text("config", _fenced(yaml.safe_dump(dict(params), sort_keys=False, allow_unicode=True)))

    def log_media(self, name: str, path: Path, step: int) -> None:
        if path.suffix == ".png":
            self.experiment.add_image(name, pixels(path), step, dataformats="HWC")
        elif path.suffix == ".wav":
            waves, rate = samples(path)
            self.experiment.add_audio(name, waves, step, rate)
        elif path.suffix == ".csv":
            columns, *rows = table_in(path)
            self.log_rows(name, columns, rows, step)

    def log_rows(self, name: str, columns: Sequence[str], rows: Rows, step: int) -> None:
        self.experiment.add_text(name, markdown(columns, rows), step)

    def summarise(self, values: Mapping[str, float], headline: Sequence[str], step: int) -> None:
        self.log_metrics({name: values[name] for name in headline if name in values}, step)

    def alert(self, title: str, text: str, step: int) -> None:
        self.experiment.add_text(f"alarms/{title}", text, step)


def flat(config: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, str | float]]:
    """The settings of a nested config as `model.lr`, as far as they are plain values; a list is
    one."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from flat(value, keys if key in ("class_path", "init_args") else (*keys, str(key)))
    elif isinstance(config, (bool, int, float, str)):
        yield ".".join(keys), config
    elif config is not None:
        yield ".".join(keys), str(config)


def pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture as [H, W, 3]."""
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def samples(path: Path) -> tuple[torch.Tensor, int]:
    """A sound of 16 bits as values [1, T] in [-1, 1], and its rate in Hz."""
    with wave.open(str(path)) as file:
        values = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
        return torch.from_numpy(values[:, 0].astype(np.float32) / 2**15)[None], file.getframerate()


def table_in(path: Path) -> list[list[str]]:
    """The rows of a CSV file, the columns' names first."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def markdown(columns: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def _fenced(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
