"""Workers are not ended by the signals that stop a run, and none outlives it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssl_lightning.data.shield import STOPPING, shielded
from ssl_lightning.testing import TinyImages


def blocked(pid: int) -> set[int]:
    """The signals that a process has blocked."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigBlk:")[2].split()[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_starts_inside_has_them_blocked_and_this_process_has_not(method: str) -> None:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        with shielded():
            process = multiprocessing.Process(target=time.sleep, args=(60,), daemon=True)
            process.start()
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert set(STOPPING) <= blocked(process.pid)  # type: ignore[arg-type]
    assert not set(STOPPING) & blocked(os.getpid())
    process.kill()
    process.join()


def test_a_worker_goes_on_after_each_of_them() -> None:
    data, others = TinyImages(workers=1), set(multiprocessing.active_children())
    data.setup("fit")
    batches = iter(data.train_dataloader())
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - others
    for signum in STOPPING:
        os.kill(worker.pid, signum)  # type: ignore[arg-type]
    for _ in range(8):
        next(batches)
    assert worker.is_alive()


HOLDS = f"""
import multiprocessing, sys, time
sys.path.insert(0, {os.getcwd()!r})
from ssl_lightning.data.shield import shielded

with shielded():
    worker = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)
    worker.start()
print(worker.pid)
"""


def test_python_ends_with_workers_that_are_still_there() -> None:
    """It asks them to end by SIGTERM, and waits."""
    ended = subprocess.run([sys.executable, "-c", HOLDS], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert not Path(f"/proc/{ended.stdout.strip()}").exists()
