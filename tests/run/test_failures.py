"""Where a run cannot write it stops with one line, or warns and goes on; the checkpoints that it
has stay.

Run as a script this file is one of two processes: `test_failures.py FOLDER ON_ERROR`.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from disks import files_of_at_most
from resuming import TRIALS, Run
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.data.files.unwritable import Unwritable
from ssl_lightning.distributed import rank
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.archive import is_whole, read
from ssl_lightning.run.checkpoints.checkpoint import find_newest
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder import rows
from ssl_lightning.run.stops.together import Lost
from ssl_lightning.testing import TinyEncoder, TinyImages

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
SEEN = "views.png", "loss.png"
ALL = ["step-00000004.ckpt", "step-00000008.ckpt", "step-00000012.ckpt"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(rows, "SECONDS_AFTER_A_FAILURE", 0.0)


class At(pl.Callback):
    """Does something at the beginning of steps."""

    def __init__(self, do: dict[int, Callable[[Any], None]]) -> None:
        self.do = do

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.do.get(trainer.global_step + 1, lambda trainer: None)(trainer)


def fit(
    root: Path,
    *callbacks: pl.Callback,
    report: bool = False,
    ckpt_path: Any = None,
    devices: int = 1,
    logger: Any = None,
    **checkpoint: Any,
) -> Any:
    """Three epochs of four steps."""
    torch.manual_seed(0)
    off = [cls(enabled=False) for cls in (KNNProbe, OnlineLinearProbe, HeldOut, CollapseMonitor)]
    trainer = ssl_lightning.Trainer(
        max_epochs=3, precision="32-true", accelerator="cpu", enable_progress_bar=False, log_every_n_steps=1,
        default_root_dir=root, devices=devices, strategy="ddp" if devices > 1 else "auto", logger=logger,
        callbacks=[
            *off, *callbacks, Report(enabled=report, labels_only=False, draws=1),
            Checkpoint(**{"keep": 9, **checkpoint}),
        ],
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder(), hidden_dim=8, output_dim=4), datamodule=TinyImages(), ckpt_path=ckpt_path)
    return trainer


def checkpoints(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/*/checkpoints/*"))


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def broken(monkeypatch: Any, word: str) -> At:
    """The disk is full for files with a word in their path, from step 6 to step 9."""
    fsync, state = os.fsync, {"full": False}

    def picky(descriptor: int) -> None:
        if state["full"] and word in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise FULL
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    return At({6: lambda _: state.update(full=True), 10: lambda _: state.update(full=False)})


def test_a_run_that_cannot_write_its_checkpoint_stops_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = (
        r"step-00000008\.ckpt' cannot be written: No space left on device \(it needs 0\.\d MB; .*\)\. Make room there\."
        r" The newest checkpoint is step-00000004\.ckpt\.$"
    )
    with pytest.raises(Unwritable, match=says):
        fit(tmp_path, broken(monkeypatch, "/checkpoints"), keep=1)
    assert checkpoints(tmp_path) == ALL[:1], "nothing else is left"
    monkeypatch.undo()
    (folder,) = tmp_path.glob("*/*")
    resumed = fit(tmp_path, ckpt_path=find_newest(folder / "checkpoints"))
    like = fit(tmp_path / "straight")
    assert resumed.run_folder == folder
    assert (folder / "metrics.csv").read_bytes() == (like.run_folder / "metrics.csv").read_bytes()
    for name, value in like.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.slow
def test_a_run_that_is_to_go_on_tries_again_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest and the kept stay until the next that is written."""
    at = broken(monkeypatch, "/checkpoints")
    with pytest.warns(UserWarning, match=r"Step 8: .*step-00000008\.ckpt' cannot be written: .* The run goes on"):
        trainer = fit(tmp_path, at, keep=1, on_error="warn", keep_every_n_epochs=2, report=True)
    assert checkpoints(tmp_path) == ALL[2:] and trainer.global_step == 12
    assert json.loads((trainer.run_folder / "summary.json").read_text())["failed_writes"] == 1
    assert read(trainer.run_folder / "checkpoints" / ALL[2])["callbacks"]["checkpoint"]["kept"] == []


@pytest.mark.parametrize(
    "what", ["metrics.csv", *(pytest.param(each, marks=pytest.mark.slow) for each in ("summary.json", *SEEN))]
)
def test_other_files_follow_the_same_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Metrics, pictures, the report: no training is lost for them."""
    fsync, write, report = os.fsync, rows.Table._append, what != "metrics.csv"

    def picky(descriptor: int) -> None:
        if what in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise FULL
        fsync(descriptor)

    def torn(self: Any, path: Path, *args: Any) -> None:
        if path.name == what:
            with path.open("ab") as file:
                file.write(b"1,0.")
            raise FULL
        write(self, path, *args)

    monkeypatch.setattr(os, "fsync", picky)
    monkeypatch.setattr(rows.Table, "_append", torn)
    with pytest.raises(Unwritable, match=rf"{what}' cannot be written: No space left"):
        fit(tmp_path / "stop", report=report)
    with pytest.warns(UserWarning, match=rf"{what}' cannot be written: .* The run goes on"):
        trainer = fit(tmp_path / "warn", report=report, on_error="warn")
    assert checkpoints(tmp_path / "warn") == ALL and trainer.global_step == 12


def test_a_picture_that_cannot_be_drawn_never_costs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise KeyError("glyph")

    monkeypatch.setattr(TinyImages, "show", fails)
    with pytest.warns(UserWarning, match=r"views\.png was not drawn, and the run goes on: KeyError: 'glyph'\."):
        assert fit(tmp_path, report=True).global_step == 12


def removed(trainer: Any) -> None:
    shutil.rmtree(trainer.run_folder)


def test_a_run_folder_that_is_removed_stops_the_run_at_once(tmp_path: Path) -> None:
    """At the next row of metrics; nothing is made anew."""
    with pytest.raises(Unwritable, match=r"metrics\.csv' cannot be written: .* The folder was removed"):
        fit(tmp_path, At({6: removed, 8: lambda trainer: pytest.fail("went on")}))
    assert list(tmp_path.glob("*/*")) == []


def test_the_checkpoint_notices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SECONDS_BETWEEN_WRITES", 1e6)
    with pytest.raises(Unwritable, match=r"step-00000008\.ckpt' cannot be written: .* There is no checkpoint yet\."):
        fit(tmp_path, At({6: removed}))
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.parametrize("logger", [None, "csv"])
def test_a_run_that_is_to_go_on_makes_its_folder_anew(tmp_path: Path, logger: str | None) -> None:
    with pytest.warns(UserWarning, match=r"The folder was removed.* The run goes on"):
        trainer = fit(tmp_path, At({6: removed}), on_error="warn", logger=logger)
    folder = trainer.run_folder
    assert checkpoints(tmp_path) == ALL[1:] and (folder / "config.yaml").stat().st_size > 100
    assert steps(folder)[-1] == 12 and steps(folder)[0] >= 5


@pytest.mark.slow
@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_all_processes_stop_or_go_on_where_the_first_cannot_write(run: Run, tmp_path: Path, on_error: str) -> None:
    ended = run(tmp_path, script=[__file__, str(tmp_path), on_error], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    expected = "step-00000008.ckpt' cannot be written: No space left on device" if on_error == "stop" else "ended"
    said = [(tmp_path / f"{number}.txt").read_text() for number in range(2)]
    assert expected in said[0] and (expected in said[1] or said[1] == "1"), "who had it first tells it, the other ends"
    assert checkpoints(tmp_path) == (ALL[:1] if on_error == "stop" else [ALL[0], ALL[2]])


def process(folder: Path, on_error: str) -> None:
    """One of two processes; only the first writes."""
    torch.set_num_threads(1)
    said = "ended"
    try:
        fit(folder, broken(SimpleNamespace(setattr=setattr), "/checkpoints"), devices=2, on_error=on_error)
    except (Unwritable, Lost) as error:
        said = str(error)
    (folder / f"{rank()}.txt").write_text(said)


COMMAND = ["fit", "--model", "simclr", "--data", "ssl_lightning.testing.TinyImages", "--trainer.max_epochs", "3",
           "--trainer.precision", "32-true", "--trainer.accelerator", "cpu", "--report.enabled", "false",
           "--trainer.enable_progress_bar", "false"]  # fmt: skip


def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files stands for the disk: the checkpoint really does not fit."""
    with files_of_at_most(20_000):
        code = main([*COMMAND, "--trainer.default_root_dir", str(tmp_path)])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line.lower()]
    assert (
        code == 2 and line.startswith("ssl-lightning fit: error: ") and "step-00000004.ckpt' cannot be written" in line
    )
    assert "Traceback" not in line and checkpoints(tmp_path) == []
    (folder,) = tmp_path.glob("*/*")
    assert (folder / "config.yaml").stat().st_size > 100 and not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("place", ["config.yaml", "folder"])
def test_a_run_that_cannot_begin_to_write_stops_before_its_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "folder":
        (tmp_path / "file").touch()
    else:
        monkeypatch.setattr(Path, "write_bytes", lambda *args: (_ for _ in ()).throw(FULL))
    root = tmp_path / ("file" if place == "folder" else "runs")
    assert main([*COMMAND, "--checkpoint.on_error", "warn", "--trainer.default_root_dir", str(root)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line.lower()]
    assert "be written" in line and not list(tmp_path.rglob("config.yaml"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_time(small_disk: Path, tmp_path: Path) -> None:
    """With any amount of free space: the newest checkpoint loads, nothing torn is left, and the run
    goes on to the same end once there is room."""
    like, stopped = fit(tmp_path / "straight"), 0
    for kilobytes in random.Random(0).choices(range(4, 100), k=TRIALS):
        root, filler = small_disk / "runs", small_disk / "filler"
        disk = os.statvfs(small_disk)
        filler.write_bytes(bytes(disk.f_frsize * disk.f_bavail - 1024 * kilobytes))
        try:
            fit(root, report=kilobytes % 5 == 0)
        except Unwritable as error:
            stopped += 1
            assert "cannot be written: No space left on device (" in str(error) and "\n" not in str(error)
        assert not list(root.rglob("*.tmp"))
        assert all(path.stat().st_size for path in root.glob("*/*/config.yaml"))
        written = sorted(root.glob("*/*/checkpoints/*.ckpt"))
        assert all(is_whole(path) for path in written)
        filler.unlink()
        if written:
            resumed = fit(root, report=kilobytes % 5 == 0, ckpt_path=written[-1])
            assert resumed.run_folder == written[-1].parents[1]
            assert (resumed.run_folder / "metrics.csv").read_bytes() == (like.run_folder / "metrics.csv").read_bytes()
        shutil.rmtree(root, ignore_errors=True)
    assert stopped > TRIALS / 2


if __name__ == "__main__":
    process(Path(sys.argv[1]), sys.argv[2])
