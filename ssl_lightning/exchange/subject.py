"""What is exported: the encoder of a run, how its data is prepared, and samples to try it on."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..data.datamodule import SSLDataModule
from ..data.given import Given
from ..data.peek import peek
from ..data.preparation import Preparation
from ..encoders.base import Encoder
from ..encoders.published import is_published
from ..plugins.archive import read
from ..plugins.rebuild import rebuild
from ..plugins.run_record import config_in
from ..run.checkpoints.checkpoint import find_newest
from ..run.pretrained import artifacts_of, load_encoder
from ..run.reading import arguments_for, data_class_of
from ..types import View
from .inputs import Inputs, inputs_of
from .made_up import made_up_view

SAMPLES = 4
"""Samples on which features are compared."""


class Subject(NamedTuple):
    """An encoder, with all that a format and a card tell of it.

    Args:
        run: what the user named: a run folder, a checkpoint, a file, published weights.
        encoder: in eval mode, float32.
        artifacts: the text files, by name, that it needs.
        preparation: of one item; None: nothing says how.
        view: of a few samples, prepared as by the run.
        samples: which these are, for the card.
        facts: what the run left: scores, and which checkpoint it is.
    """

    run: str
    encoder: Encoder
    artifacts: dict[str, str]
    preparation: Preparation | None
    view: View
    samples: str
    facts: dict[str, Any]

    @property
    def inputs(self) -> Inputs:
        """The samples as tensors, one a row."""
        return inputs_of(self.view, self.encoder)

    @property
    def told(self) -> dict[str, Any]:
        """The facts of the preparation by name; empty where there is none."""
        return {} if self.preparation is None else self.preparation.facts


def subject_of(run: str | Path) -> Subject:
    """Loads what a user wants to export.

    Raises:
        FileNotFoundError, ValueError: there is no such run, or it is damaged.
    """
    encoder = load_encoder(run).float()
    artifacts = {} if is_published(run) else artifacts_of(run)
    data = reader_of(run)
    with torch.no_grad():
        view, samples = samples_of(run, data, encoder)
    told = None if data is None else data.preparation()
    return Subject(str(run), encoder, artifacts, told, view, samples, facts_of(run))


def reader_of(run: str | Path) -> Given | None:
    """The data that reads single items as a run does; None: nothing says which."""
    try:
        cls = data_class_of(run)
        if cls.reads_items() is None:
            return None
        given = cls.of_items()
        return given(**arguments_for(given, run))
    except (OSError, ValueError):
        return None


def samples_of(run: str | Path, data: Given | None, encoder: Encoder) -> tuple[View, str]:
    """The view of a few samples: of the run's own data if it is still there, else of items that are
    made up, else of random values of the shape that the encoder takes; and which they are."""
    with suppress(Exception):  # of a data set that is gone, or not installed any more: others do
        return real_view(run)
    if data is not None:
        with suppress(NotImplementedError):  # data of somebody else's kind
            source = data.take(data.made_up(SAMPLES))
            return peek(data, source, torch.arange(SAMPLES), "cpu")["views"][0], f"{SAMPLES} made-up items"
    return made_up_view(encoder, SAMPLES), f"{SAMPLES} samples of random values"


def real_view(run: str | Path) -> tuple[View, str]:
    """The view of samples of the data that a run was trained on; nothing is downloaded.

    Raises:
        Exception: whatever the data set raises where its files are gone.
    """
    path = Path(run)
    checkpoint = (
        path if path.suffix == ".ckpt" else find_newest((path if path.is_dir() else path.parent) / "checkpoints")
    )
    if is_published(run) or checkpoint is None:
        raise FileNotFoundError(f"{str(run)!r} does not say what its data is.")
    config = config_in(read(checkpoint), checkpoint)["data"]
    config = {"class_path": config} if isinstance(config, str) else config
    cls = data_class_of(checkpoint)
    settings = {**(config.get("init_args") or {}), **arguments_for(cls, checkpoint), "workers": 0}
    data: SSLDataModule = rebuild({**config, "init_args": settings})
    sources = ((split, data.source(split)) for split in ("test", "val", "train"))
    split, source = next((split, source) for split, source in sources if source is not None)
    index = torch.arange(min(SAMPLES, len(source)))
    view = peek(data, data.opened(source), index, "cpu")["views"][0]
    return view, f"{len(index)} samples of {type(data).__name__}, {split} split"


def facts_of(run: str | Path) -> dict[str, Any]:
    """What `summary.json` beside a run's encoder holds; empty where there is none."""
    path = Path(run)
    folder = path if path.is_dir() else path.parent.parent if path.parent.name == "checkpoints" else path.parent
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}
