"""`ssl-lightning labels`: accuracy against the number of labels, with pretraining and without."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..encoders.published import is_published
from ..evaluation.logged import TABLES, shown_curve
from ..evaluation.plots.label_curve import plot_label_curve
from ..evaluation.supervised import Supervised
from ..evaluation.table import CURVE_ROWS, MISSING
from ..evaluation.untrained import began_beside
from ..evaluation.use.classifying import supervised_methods
from ..evaluation.use.label_curve import LabelCurve
from ..evaluation.use.processes import device_named
from ..evaluation.use.rows import check_picture
from ..plugins.record import class_path
from ..plugins.registry import Registry
from ..run.checkpoints.encoder_file import digest_of
from ..run.loggers.wandb import ID_FILE, add_later
from ..run.pretrained import load_encoder
from ..trainer import STANDING, Trainer
from .rows import print_rows
from .target import data_for

PAUSE = 15.0
"""Seconds between lines on the progress, outside of a terminal."""


def main(options: argparse.Namespace) -> int:
    """Draws the curve that the command line asks for; see `verbs`."""
    run = Path(options.run if is_published(options.run) else Path(options.run).expanduser())
    folder = Path(options.to).expanduser() if options.to else (run if run.is_dir() else Path())
    name = Path(options.data).stem or "data"
    picture = check_picture(folder / f"labels-{name}.png")
    data = data_for(options.run, options.data, options.data_options)
    data.setup("predict")
    networks = {"pretrained": load_encoder(run).float(), **began_beside(run)}
    second = second_step(options.second_step)
    with tempfile.TemporaryDirectory() as root:
        make_trainer = partial(quiet, root, device_named(options.device))
        facts = {"weights": digest_of(networks["pretrained"]), "second_step": class_path(second)}
        most = (options.train_samples, options.test_samples)
        curve = LabelCurve(
            data, networks, second, lambda: load_encoder(run), make_trainer, picture.with_suffix(".json"), facts,
            draws=options.draws, most=most, seconds=60 * options.minutes,
        )  # fmt: skip
        try:
            curve.compute(Telling())
        finally:
            if curve.known:
                _tell(curve, name, picture, options.json)
                _log(run, name, curve.as_json()["rows"])
    return 0


def second_step(name: str | None) -> type[Supervised]:
    """The method that fine-tunes: that of a name, or the first that learns step by step.

    Raises:
        RegistryError, ValueError: there is no such method, or it learns without labels.
    """
    if name is not None:
        cls: Any = Registry("ssl_lightning.methods")[name]
        if not issubclass(cls, Supervised):
            raise ValueError(f"--second-step {name} does not learn from labels; leave it out.")
        return cls
    found = next((each for each in supervised_methods().values() if not each.solved), None)
    if found is None:
        raise ValueError("No method that fine-tunes is installed.")
    return found


def quiet(root: str, device: torch.device, **length: Any) -> Trainer:
    """A trainer that watches, writes and says nothing."""
    watching: dict[str, Any] = STANDING  # each of them takes `enabled`
    where = {"accelerator": "cpu"} if device.type == "cpu" else {"accelerator": "auto", "devices": [device.index or 0]}
    return Trainer(
        default_root_dir=root,
        enable_progress_bar=False,
        callbacks=[callback(enabled=False) for callback in watching.values()],
        **where,
        **length,
    )


class Telling:
    """Says what is computed: each thing in a terminal, and now and then elsewhere."""

    def __init__(self) -> None:
        self.told = 0.0

    def __call__(self, text: str) -> None:
        terminal, now = sys.stderr.isatty(), time.monotonic()
        if terminal or now - self.told > PAUSE:
            self.told = now
            print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)


def _tell(curve: LabelCurve, name: str, picture: Path, as_json: bool) -> None:
    described = curve.as_json()
    subject = f"{name}, {described['samples']:,} {described['split']} samples"
    plot_label_curve(described["rows"], CURVE_ROWS, described["chance"], subject, picture)
    if as_json:
        print(json.dumps({**described, "picture": str(picture), "json": str(curve.file)}))
        return
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(f"Accuracy in %, mean over classes, on {subject}; ± std over draws of labels (their number)")
    cells = {(each["row"], each["level"]): each for each in described["rows"]}
    print_rows(
        [
            {"": "labels", **{level.title: f"{level.labels:,}" for level in curve.levels}},
            *(
                {"": title, **{level.title: _cell(cells.get((row, level.title))) for level in curve.levels}}
                for row, title in CURVE_ROWS.items()
                if any((row, level.title) in cells for level in curve.levels)
            ),
        ]
    )
    print(f"{described['sentence']}\n{picture}")


def _log(run: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Adds the curve to the run's W&B run, where it has one; what fails there is said in a line."""
    if not (run / ID_FILE).is_file():
        return
    values = {f"labels/{name}/{each['row']}/{each['level']}": each["mean"] for each in rows}
    with redirect_stdout(sys.stderr):  # the output may be read as JSON
        try:
            add_later(run, {f"{TABLES}labels-{name}": shown_curve(rows)}, values)
        except (ValueError, OSError, ImportError) as error:
            print(f"The curve was not added to the run's W&B run: {error}")


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return MISSING.strip()
    count = len(cell["draws"])
    spread = f" ± {100 * cell['std']:.1f} ({count})" if count > 1 else " (1)"
    return f"{100 * cell['mean']:.1f}{spread}"
