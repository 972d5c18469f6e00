"""What SimCLR and BYOL learn in the time that is left, at most 2 minutes each: kNN and a linear
probe, beside the untrained encoder and the pixels.

Fashion-MNIST, if `SSL_LIGHTNING_DATA` names the folder that has it (50,000 of its images); else
textures made on the spot. A run has as many steps as the time allows by the rate of a short one, so
that its learning rate has fallen to zero at the end.
"""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from common import quiet
from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
from torch import Tensor, nn

from ssl_lightning import ConvEncoder, SSLDataModule, SSLMethod, TimmEncoder
from ssl_lightning.data.peek import embed
from ssl_lightning.evaluation import protocol
from ssl_lightning.plugins.registry import Registry

from .clock import DEVICE, FULL, bar, now
from .made import Textures
from .sheet import Sheet
from .trained import trainer, without_probes

IMAGES, BATCH, JUDGED, MOST, TRIAL = (50_000, 512, 5_000, 120.0, 60) if FULL else (120, 16, 20, 1.0, 3)
EVALUATION = 25.0 if FULL else 5.0
"""Seconds to keep for the rows of the table, of all encoders together."""
COLUMNS = ("knn", "linear")


def data() -> tuple[SSLDataModule, str]:
    root = Path(os.environ.get("SSL_LIGHTNING_DATA", "data")) / "fashion_mnist"
    settings: dict[str, Any] = {"batch_size": BATCH, "cache": "device"}
    if (root / "FashionMNIST" / "raw").is_dir():
        clothes = FashionMNIST(str(root), download=False, samples=IMAGES, **settings)
        return clothes, f"{IMAGES:,} images of Fashion-MNIST"
    return Textures(count=IMAGES, **settings), f"{IMAGES:,} textures made on the spot"


class Pace(pl.Callback):
    """Notes the seconds a step after the first third of a run."""

    def on_train_batch_end(self, run: pl.Trainer, *args: Any) -> None:
        if run.global_step == run.max_steps // 3:
            self.began = now()
        if run.global_step == run.max_steps:
            self.seconds = (now() - self.began) / (run.max_steps - run.max_steps // 3)


def train(method: SSLMethod, source: SSLDataModule, steps: int) -> float:
    """Trains, and returns the seconds a step."""
    pace = Pace()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, quiet():
        trainer(root, "bf16-mixed", [*without_probes(), pace], max_steps=steps).fit(method, datamodule=source)
    return pace.seconds


def judge(encoder: nn.Module | None, source: SSLDataModule) -> dict[str, float]:
    """Accuracies in %, of an encoder's features or, without one, of the pixels."""
    parts: list[Tensor] = []
    for split in ("train", "test"):
        samples = source.split(split)
        assert samples is not None and samples.labels is not None
        index = torch.arange(min(JUDGED, len(samples)))
        if encoder is None:
            features = source.raw_features(samples.fetch(index))
        else:
            features = embed(encoder.to(DEVICE), source, samples, index, DEVICE)
        parts += [features, samples.labels[index]]
    row = protocol.closing_row(*parts, draws=1)
    return {column: 100 * row[column]["mean"] for column in COLUMNS}


def run(sheet: Sheet, names: list[str]) -> None:
    if not FULL:
        protocol.STRENGTHS = (1.0,)
    source, title = data()
    channels = 1 if isinstance(source, FashionMNIST) else 3
    torch.manual_seed(0)
    encoder = (
        TimmEncoder("resnet18", small_images=True, channels=channels)
        if FULL
        else ConvEncoder(width=8, depth=2, channels=channels)
    )
    wanted = names or ["simclr", "byol"]
    source.serve(Registry("ssl_lightning.methods")[wanted[0]](copy.deepcopy(encoder)))
    rows = {"pixels": judge(None, source), "untrained": judge(copy.deepcopy(encoder), source)}
    for row, accuracies in rows.items():
        sheet.tell(f"{title}: {row}", "", words(accuracies), **accuracies)
    for number, name in enumerate(wanted):
        trial, method = (Registry("ssl_lightning.methods")[name](copy.deepcopy(encoder)) for _ in range(2))
        a_step = train(trial, source, TRIAL)
        seconds = min(MOST, (sheet.left - EVALUATION) / (len(wanted) - number))
        steps = max(TRIAL, int(0.9 * seconds / a_step))
        began = now()
        train(method, source, steps)
        took = now() - began
        accuracies = judge(method.backbone, source)
        least = min(accuracies[column] - rows["untrained"][column] for column in COLUMNS)
        sheet.tell(
            f"{title}: {name}, {steps:,} steps ({steps * BATCH / len(source.training_split):.1f} passes)",
            "above the untrained encoder",
            f"{words(accuracies)}; {took:.0f} s",
            bar(least > 0),
            seconds=took,
            **accuracies,
        )


def words(accuracies: dict[str, float]) -> str:
    return ", ".join(f"{column} {value:.1f} %" for column, value in accuracies.items())
