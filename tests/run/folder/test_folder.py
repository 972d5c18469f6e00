"""Each job has a run folder of its own: those that start together, those that go on, and those that
are many processes.

Run as a script this file is one of the processes: `test_folder.py ROOT CHECKPOINT`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from holding import Holder
from resuming import finished
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.checkpoint import find_newest
from ssl_lightning.run.folder import folder as module
from ssl_lightning.run.folder.folder import new_folder
from ssl_lightning.run.folder.lock import FolderInUse, FolderLock, is_locked
from ssl_lightning.testing import TinyEncoder, TinyImages


def trainer(root: Path, *callbacks: pl.Callback, **settings: Any) -> Trainer:
    options = {"max_epochs": 2, "precision": "32-true", "accelerator": "cpu", "enable_progress_bar": False, **settings}
    off = (Report(enabled=False), KNNProbe(enabled=False), OnlineLinearProbe(enabled=False))
    return Trainer(default_root_dir=str(root), callbacks=[*callbacks, *off], **options)


def method() -> SimCLR:
    return SimCLR(TinyEncoder(), hidden_dim=8, output_dim=4)


def fit(root: Path, *callbacks: pl.Callback, ckpt_path: Any = None, **settings: Any) -> Trainer:
    fitted = trainer(root, *callbacks, **settings)
    fitted.fit(method(), datamodule=TinyImages(), ckpt_path=ckpt_path)
    return fitted


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Jobs that start together.


def test_jobs_that_start_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 processes of 8 threads, at a time that stands still."""
    monkeypatch.setattr(module.time, "strftime", lambda pattern: "2025-01-31_12-00-00")
    parent, start = tmp_path / "runs" / "simclr-digits", os.pipe()
    children = []
    for number in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            os.read(start[0], 1)
            with ThreadPoolExecutor(8) as threads:
                taken = list(threads.map(lambda _: new_folder(parent).name, range(16)))
            (tmp_path / str(number)).write_text("\n".join(taken))
            os._exit(0)
    os.write(start[1], b"....")
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    names = [name for number in range(4) for name in (tmp_path / str(number)).read_text().splitlines()]
    assert len(names) == len(set(names)) == 64 and {path.name for path in parent.iterdir()} == set(names)
    assert {"2025-01-31_12-00-00", "2025-01-31_12-00-00-2", "2025-01-31_12-00-00-64"} <= set(names)


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        new_folder(tmp_path / "file" / "simclr-digits")


# Jobs that go on.


class Look(pl.Callback):
    """Whether another process finds the run's folder locked: at each batch, at the run's end, and
    when it fails."""

    def __init__(self, failing: bool = False) -> None:
        self.failing, self.seen = failing, set[bool]()

    def look(self, trainer: Any) -> None:
        child = os.fork()
        if child == 0:
            os._exit(is_locked(trainer.run_folder))
        self.seen.add(bool(os.waitpid(child, 0)[1]))

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.look(trainer)
        if self.failing:
            raise RuntimeError("fails")

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.look(trainer)

    def on_exception(self, trainer: Any, *args: Any) -> None:
        self.look(trainer)


@pytest.mark.parametrize("failing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_folder_is_locked_until_its_run_has_ended_or_failed(tmp_path: Path, failing: bool) -> None:
    look = Look(failing)
    fitting = trainer(tmp_path, look)
    if failing:
        with pytest.raises(RuntimeError, match="fails"):
            fitting.fit(method(), datamodule=TinyImages())
    else:
        fitting.fit(method(), datamodule=TinyImages())
    assert look.seen == {True}
    assert fitting.run_folder is not None and (fitting.run_folder / ".lock").is_file()
    assert not is_locked(fitting.run_folder)


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A run's folder and its newest checkpoint."""
    folder = fit(tmp_path / "runs").run_folder
    assert folder is not None
    newest = find_newest(folder / "checkpoints")
    assert newest is not None
    yield folder, newest


@pytest.mark.slow
def test_the_second_who_goes_on_in_a_folder_is_refused_and_changes_nothing(
    ended: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, newest = ended
    holder = Holder(folder)
    before = contents(tmp_path)
    try:
        with pytest.raises(FolderInUse, match=f"{folder.name}' is in use by process {holder.pid}"):
            fit(tmp_path / "runs", ckpt_path=newest, max_epochs=3)
        assert contents(tmp_path) == before
    finally:
        holder.kill()
    assert fit(tmp_path / "runs", ckpt_path=newest, max_epochs=3).run_folder == folder


def test_from_an_older_checkpoint_of_a_living_run_one_branches_off(ended: tuple[Path, Path], tmp_path: Path) -> None:
    folder, newest = ended
    holder = Holder(folder)
    before = contents(folder)
    try:
        older = newest.with_name("step-00000004.ckpt")
        assert fit(tmp_path / "runs", ckpt_path=older).run_folder != folder and contents(folder) == before
    finally:
        holder.kill()


def test_auto_does_not_branch_off_where_another_job_was_faster(ended: tuple[Path, Path], tmp_path: Path) -> None:
    """Between its choice of a checkpoint and its start the other has written a newer one."""
    folder, newest = ended
    before = contents(tmp_path)
    late = trainer(tmp_path / "runs", max_epochs=3)
    late.resumes_newest = True
    with pytest.raises(FolderInUse, match=folder.name):
        late.fit(method(), datamodule=TinyImages(), ckpt_path=newest.with_name("step-00000004.ckpt"))
    assert contents(tmp_path) == before


def test_what_a_killed_process_left_half_written_is_removed(ended: tuple[Path, Path], tmp_path: Path) -> None:
    folder, newest = ended
    (folder / "plots").mkdir()
    left = [
        folder / ".metrics.csv.1a.tmp",
        folder / "checkpoints" / ".a.ckpt.2b.tmp",
        folder / "plots" / ".a.png.3.tmp",
    ]
    for path in left:
        path.write_text("half")
    fit(tmp_path / "runs", ckpt_path=newest, max_epochs=3)
    assert not any(path.exists() for path in left)


# Jobs of many processes.


def process(root: Path, checkpoint: Path) -> None:
    """One of two processes of a job that goes on."""
    fitted = fit(root, ckpt_path=checkpoint, max_epochs=3, devices=2, strategy="ddp")
    sys.stdout.write(f"went on in {fitted.run_folder}\n")  # in one piece, while the other writes too


@pytest.mark.slow
def test_all_processes_of_a_job_share_a_lock_and_a_refusal(run: Any, ended: tuple[Path, Path], tmp_path: Path) -> None:
    folder, newest = ended
    lock, script = FolderLock(), [__file__, str(tmp_path / "runs"), str(newest)]
    lock.take(folder)
    refused = run(tmp_path, script=script, processes=2)
    assert refused["code"] == 1
    assert refused["log"].count(f"FolderInUse: The run folder {str(folder)!r} is in use by process {os.getpid()}") == 2
    lock.release()
    log = finished(run(tmp_path, script=script, processes=2))["log"]
    assert log.count(f"went on in {folder}\n") == 2, log


if __name__ == "__main__":
    process(Path(sys.argv[1]), Path(sys.argv[2]))
