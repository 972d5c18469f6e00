"""Workers may be forked or started anew: the batches are the same, and nothing of a device goes to
them.

Run as a script this file trains with and without workers:
`test_start_methods.py FOLDER MODALITY AUGMENT_ON METHOD`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from PIL import Image
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn

from ssl_lightning import TextTransformer, Trainer
from ssl_lightning.data.views import Views
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing import TinyEncoder

DATA = Registry("ssl_lightning.datamodules")


class Constants(nn.Module):
    """A transform with a constant, which notes where it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(3))
        self.moved: list[str] = []

    def to(self, device: Any) -> Any:
        self.moved.append(str(device))
        return super().to(device)

    def cpu(self) -> Any:
        self.moved.append("cpu")
        return super().cpu()

    def forward(self, raw: Tensor, key: Tensor) -> Tensor:
        return raw.float()


def test_views_are_sent_to_workers_with_their_constants_on_the_cpu() -> None:
    """A transform that has served on the device stays there, and its copy leaves it."""
    transform = Constants()
    index = torch.arange(2)
    views = Views([transform, transform], seed=3)
    views.batch({"raw": torch.ones(2), "index": index, "pass": index})
    sent = pickle.loads(pickle.dumps(views))
    assert transform.moved[-1] == "cpu" and sent.seed == 3 and len(sent.transforms) == 2
    assert all(each.moved[-1] == "cpu" for each in sent.transforms)
    assert len(transform.moved) == 2, "the run's transform was moved"


def write_images(folder: Path) -> None:
    for number in range(16):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 50), dtype=np.uint8)).save(path)


def write_sounds(folder: Path) -> None:
    for number in range(16):
        path = folder / ("low", "high")[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).normal(size=4000) * 0.1, 8000)


def write_texts(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(40):
        words = np.random.default_rng(number).integers(0, 50, 30)
        (folder / f"{number}.txt").write_text(" ".join(f"word{word}" for word in words))


WRITE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "images": (write_images, "image_folder", {"image_size": 16, "channels": 1}),
    "sound": (write_sounds, "audio_folder", {"sample_rate": 8000, "seconds": 0.2, "mels": 16}),
    "text": (write_texts, "text_files", {"row_length": 16, "vocab_size": 300, "document": "file"}),
}


class Seen(pl.Callback):
    """Keeps the batches of a run."""

    def __init__(self) -> None:
        self.batches: list[list[Tensor]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append([batch["index"], *(view.x.clone() for view in batch["views"])])


def batches(folder: Path, modality: str, augment_on: Any, workers: int) -> list[list[Tensor]]:
    """The batches of a run with probes, over two passes."""
    _, name, init_args = WRITE[modality]
    data = DATA[name](str(folder), batch_size=8, workers=workers, augment_on=augment_on, **init_args)
    encoder: Any = (
        TextTransformer(vocab_size=300, dim=8, depth=1, heads=2, max_length=16) if modality == "text" else TinyEncoder()
    )
    seen = Seen()
    callbacks = [seen, Report(enabled=False), KNNProbe(every_n_steps=2), OnlineLinearProbe(every_n_steps=2)]
    trainer = Trainer(
        accelerator="cpu", precision="32-true", max_steps=4, enable_progress_bar=False, callbacks=callbacks,
        default_root_dir=str(folder.parent / "runs"),
    )  # fmt: skip
    trainer.fit(SimCLR(encoder), datamodule=data)
    return seen.batches


@pytest.mark.parametrize(
    ("modality", "augment_on", "start"),
    [
        ("images", "device", "spawn"),
        *(
            pytest.param(modality, augment_on, start, marks=pytest.mark.slow)
            for modality, augment_on, start in (
                ("images", "worker", "spawn"),
                ("images", "device", "forkserver"),
                ("sound", "device", "spawn"),
                ("sound", "worker", "forkserver"),
                ("text", "auto", "spawn"),
            )
        ),
    ],
)
@pytest.mark.slow
def test_workers_that_are_started_anew_give_the_same_batches(
    modality: str, augment_on: str, start: str, tmp_path: Path
) -> None:
    WRITE[modality][0](tmp_path / "data")
    command = [sys.executable, __file__, str(tmp_path / "data"), modality, augment_on, start]
    environment = {**os.environ, "SSL_LIGHTNING_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == "the same 4 batches"


def main(folder: str, modality: str, augment_on: str, start: str) -> None:
    torch.set_num_threads(1)
    multiprocessing.set_start_method(start)
    alone, with_workers = (batches(Path(folder), modality, augment_on, workers) for workers in (0, 1))
    assert len(alone) == 4
    for one, other in zip(alone, with_workers, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    print("the same 4 batches")


if __name__ == "__main__":
    main(*sys.argv[1:])
