"""A folder of 200,000 image files: how soon a run takes its first step, and what the list of files
costs in memory.

    python benchmarks/files.py            # about 2 minutes on 2 quiet cores

The files are tiny JPEGs, hard links to a few, in 1,000 folders, one for each class. A fresh process
imports everything, then builds data, method and trainer and fits, with a tiny encoder and all
standing callbacks: the seconds, and by how much its memory grew at its highest, count from the end
of the imports to the end of the first step. A worker's memory is what it shares with nobody. The
first run has to make the list, the others find it in the cache (a cache of their own).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from photographs import write_many

SECONDS, MEGABYTES = 3.0, 300.0
"""The bars, with the list cached."""


def child(folder: str, workers: str) -> None:
    """One run; prints its figures as JSON."""
    import pytorch_lightning as pl
    from ssl_lightning.datamodules.image_folder import ImageFolder
    from ssl_lightning.methods.simclr import SimCLR

    from ssl_lightning import Trainer
    from ssl_lightning.encoders.conv import ConvEncoder

    class FirstStep(pl.Callback):
        def on_train_batch_end(self, *args: object) -> None:
            workers = [own_memory(pid) for pid in children()]
            seconds, megabytes = time.perf_counter() - began, memory("status", "VmHWM") - before
            answers.write(json.dumps({"seconds": seconds, "megabytes": megabytes, "worker": max(workers, default=0.0)}))
            answers.flush()
            for pid in children():
                os.kill(int(pid), signal.SIGKILL)
            os._exit(0)

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    before = memory("status", "VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
    began = time.perf_counter()
    data = ImageFolder(root=folder, image_size=32, batch_size=64, workers=int(workers))
    trainer = Trainer(max_steps=1000, accelerator="cpu", callbacks=[FirstStep()])
    trainer.fit(SimCLR(ConvEncoder(width=4)), datamodule=data)


def memory(file: str, *fields: str, pid: str = "self") -> float:
    """The sum of some fields of a process's memory, in MB."""
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.partition(":")[0] in fields) * 1024 / 1e6


def own_memory(pid: str) -> float:
    return memory("smaps_rollup", "Private_Clean", "Private_Dirty", pid=pid)


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def measure(folder: str, workers: int, cache: str) -> dict[str, float]:
    """The figures of a run in a fresh process; `worker` is the largest worker's own memory."""
    command = [sys.executable, __file__, "--child", folder, str(workers)]
    with tempfile.TemporaryDirectory() as runs:
        environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=runs, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    from common import machine

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        write_many(Path(folder), args.files)
        print(f"{machine()}\n{args.files:,} files, written in {time.perf_counter() - began:.0f} s\n", flush=True)
        runs = [measure(folder, args.workers, cache) for _ in range(1 + args.rounds)]
    median = {name: statistics.median(run[name] for run in runs[1:]) for name in runs[0]}
    print(f"| to the end of the first step, {args.workers} workers | s | MB above the imports | MB of a worker's own |")
    print("| --- | --- | --- | --- |")
    for title, run in (("the list is made", runs[0]), (f"the list is cached, median of {args.rounds}", median)):
        print(f"| {title} | {run['seconds']:.2f} | {run['megabytes']:.0f} | {run['worker']:.0f} |")
    met = median["seconds"] <= SECONDS and median["megabytes"] <= MEGABYTES
    print(f"| bar, cached | {SECONDS:.0f} | {MEGABYTES:.0f} | |\n\nThe bars are {'met' if met else 'not met'}.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
