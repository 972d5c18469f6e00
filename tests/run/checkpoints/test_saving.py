"""A checkpoint comes every so many minutes, however many batches an optimizer step takes and
however many processes share them.

Run as a script this file is one of the processes: `test_saving.py FOLDER PROCESSES`.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ssl_lightning import Trainer, View
from ssl_lightning.distributed import rank
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.method import SSLMethod
from ssl_lightning.run.checkpoints import saving
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.testing import TinyEncoder

BATCHES, SECONDS = 65, 12
"""In the one epoch of a run, each of a second; between two checkpoints."""
ACCUMULATED = {1: (1, 4), 2: (1, 2, 3, 4, 5, 8, 10)}
"""Batches per optimizer step, by the number of devices."""


class Mean(SSLMethod):
    """Of the kind that may accumulate, and nearly free."""

    def step(self, batch: Any) -> Any:
        return {"loss": self(batch["views"][0]).mean()}


class Clock(pl.Callback):
    """Goes on by a second with each batch; on other processes than rank 0 it stands still: theirs
    is not asked."""

    now = 0.0

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.now += rank() == 0


def saved(root: Path, processes: int, accumulated: int) -> list[int]:
    """The optimizer steps at which a run of one epoch wrote a checkpoint."""
    clock = Clock()
    saving.time = SimpleNamespace(monotonic=lambda: clock.now)  # type: ignore[assignment]
    trainer = Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto", precision="32-true",
        max_epochs=1, use_distributed_sampler=False, accumulate_grad_batches=accumulated, default_root_dir=str(root),
        enable_progress_bar=False,
        callbacks=[
            clock, Checkpoint(minutes=SECONDS / 60, keep=999), Report(enabled=False), KNNProbe(enabled=False),
            OnlineLinearProbe(enabled=False), HeldOut(enabled=False), CollapseMonitor(enabled=False),
        ],
    )  # fmt: skip
    batches = [{"views": [View(torch.ones(1, 1, 5, 5))]}] * BATCHES
    trainer.fit(Mean(TinyEncoder()), DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))  # type: ignore[arg-type]
    return sorted(int(path.stem.partition("-")[2]) for path in trainer.run_folder.glob("checkpoints/*.ckpt"))  # type: ignore[union-attr]


def process(folder: Path, devices: int) -> None:
    """One of the devices: all runs, one after the other."""
    torch.set_num_threads(1)
    steps = {
        accumulated: saved(folder / str(accumulated), devices, accumulated) for accumulated in ACCUMULATED[devices]
    }
    if rank() == 0:
        (folder / "steps.json").write_text(json.dumps(steps))


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_checkpoint_comes_within_the_epoch(
    run: Any, tmp_path: Path, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the first optimizer step after the time is over; several devices ask rank 0 about every
    50 batches."""
    if devices == 1:
        monkeypatch.setattr(saving, "time", None)  # put back at the end
        process(tmp_path, devices)
    else:
        ended = run(tmp_path, script=[__file__, str(tmp_path), str(devices)], processes=devices)
        assert ended["code"] == 0, ended["log"][-3000:]
    saved_at = json.loads((tmp_path / "steps.json").read_text())
    for accumulated in ACCUMULATED[devices]:
        steps = saved_at[str(accumulated)]
        assert steps[-1] == -(-BATCHES // accumulated), "the run's last step is written in any case"
        batches = [0, *(step * accumulated for step in steps)]
        gaps = [after - before for before, after in pairwise(batches)]
        most = SECONDS + accumulated + (50 if devices > 1 else 0)
        assert len(steps) > 1 and all(gap <= most for gap in gaps), (accumulated, steps)
        assert all(gap >= SECONDS for gap in gaps[:-1]), (accumulated, steps)


if __name__ == "__main__":
    process(Path(sys.argv[1]), int(sys.argv[2]))
