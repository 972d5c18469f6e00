"""Does a long run stay as it began? Memory, open files, threads and the size and time of a
checkpoint over many small steps.

    python benchmarks/long_run.py --steps 20000
    python benchmarks/long_run.py --rows 10 1000000    # the time of a save after so many rows

The first prints a line for every tenth of the run, the second one for each number of rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO
from ssl_lightning.run.checkpoints.names import ours
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder.rows import Table
from ssl_lightning.testing import TinyEncoder, TinyImages


def resident() -> float:
    """Megabytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int:
    """Open files, sockets and pipes."""
    return len(os.listdir("/proc/self/fd"))


class Watch(pl.Callback):
    """Notes, ten times a run, its step, memory, handles, threads, and the size of its newest
    checkpoint."""

    def __init__(self, steps: int) -> None:
        self.every, self.seen = steps // 10, list[tuple[int, float, int, int, int]]()

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step and trainer.global_step % self.every == 0:
            newest = ours(trainer.run_folder / "checkpoints")[:1]
            size = newest[0].stat().st_size if newest else 0
            self.seen.append((trainer.global_step, resident(), handles(), threading.active_count(), size))
            print("{:>8,} steps {:8.1f} MB {:4} handles {:3} threads, checkpoint {:,} bytes".format(*self.seen[-1]))


def train(root: str, steps: int) -> Watch:
    """A run that logs, probes and saves often."""
    watch = Watch(steps)
    trainer = ssl_lightning.Trainer(
        max_steps=steps, precision="32-true", accelerator="cpu", log_every_n_steps=5, enable_progress_bar=False,
        default_root_dir=root,
        callbacks=[Report(enabled=False), Checkpoint(every_n_epochs=max(1, steps // 400)), watch],
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder(), hidden_dim=8, output_dim=4), datamodule=TinyImages())
    return watch


def save_after(folder: Path, rows: int) -> None:
    """A table of many rows, and a checkpoint with its state."""
    table = Table()
    table.open(folder / f"{rows}.csv", {})
    began = time.perf_counter()
    for step in range(rows):
        table.add(step, {"train/loss": 1 / (step + 1), "train/lr": 1e-3, "probe/knn/top1": step / rows})
    added, seconds = time.perf_counter() - began, []
    for _ in range(5):
        table.add(rows, {"train/loss": 0.1})
        began = time.perf_counter()
        AtomicIO().save_checkpoint({"state": table.state(), "weights": torch.ones(1000)}, folder / "a.ckpt")
        seconds.append(time.perf_counter() - began)
    size = (folder / "a.ckpt").stat().st_size
    began = time.perf_counter()
    resumed = Table()
    resumed.open(folder / f"{rows}.csv", table.state())
    opened = time.perf_counter() - began
    print(
        f"{rows:>9,} rows: {1e6 * added / rows:5.1f} us a row, save {1e3 * min(seconds):6.2f} to"
        f" {1e3 * max(seconds):6.2f} ms, {size:,} bytes; {opened:5.2f} s to resume; {resident():,.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--rows", type=int, nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        for rows in args.rows:
            save_after(Path(root), rows)
        if args.steps:
            train(root, args.steps)


if __name__ == "__main__":
    main()
