"""`ssl-lightning runs`: each run's state and figures from its files, and checkpoints that go only
where nobody needs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder.lock import FAILED, FolderLock
from ssl_lightning.run.stops.signals import Stopped, current
from ssl_lightning.testing import TinyEncoder, TinyImages

STEPS = (3, 6, 9)
METRICS = "step,train/loss,probe/linear/top1,probe/knn/top1\n3,1.5,,\n6,1.2,0.5,0.75\n9,1.1,0.7,\n12,1.0"
Listed = Callable[..., list[dict[str, Any]]]


def make(folder: Path, steps: tuple[int, ...] = STEPS, **files: str) -> Path:
    """A run folder with whole checkpoints; of its files None removes one."""
    settings = {"top": 1, "keep_every_n_epochs": 0}
    config = {
        "trainer": {"max_epochs": 3},
        "model": {"class_path": "ssl_lightning.methods.simclr.SimCLR", "init_args": {"temperature": 0.5}},
        "data": {"class_path": "ssl_lightning.datamodules.digits.Digits"},
        "checkpoint": settings,
    }
    (folder / "checkpoints").mkdir(parents=True)
    for step in steps:
        torch.save({"global_step": step, "x": torch.zeros(1000)}, folder / "checkpoints" / f"step-{step:08d}.ckpt")
    texts = {
        "config.yaml": yaml.safe_dump(config, sort_keys=False),
        ".lock": "process 7 on host since 2026",
        "metrics.csv": METRICS,
    }
    for name, text in {**texts, **files}.items():
        (folder / name).write_text(text)
    return folder


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture
def listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Listed:
    def call(*argv: object) -> list[dict[str, Any]]:
        assert main(["runs", str(tmp_path), "--json", *map(str, argv)]) == 0
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return rows

    return call


@pytest.fixture
def holder(tmp_path: Path):
    """Locks a run folder from another process."""
    processes = []
    code = (
        "import sys, time; from pathlib import Path; from ssl_lightning.run.folder.lock import FolderLock\n"
        "FolderLock().take(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )

    def hold(folder: Path) -> None:
        process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"

    yield hold
    for process in processes:
        process.kill()
        process.wait()


# States.


def test_running_done_failed_and_killed_are_told_from_the_files(
    tmp_path: Path, listed: Listed, holder: Callable[[Path], None]
) -> None:
    make(tmp_path / "simclr-digits" / "killed")
    make(tmp_path / "simclr-digits" / "done", **{"summary.json": '{"steps": 12}'})
    make(tmp_path / "simclr-digits" / "extended, then killed", **{"summary.json": '{"steps": 6}'})
    make(tmp_path / "simclr-digits" / "failed", **{".lock": f"process 7 on h\n{FAILED}ValueError: no such thing"})
    holder(make(tmp_path / "simclr-digits" / "running", **{"summary.json": '{"steps": 12}'}))
    began = time.monotonic()
    rows = {row["run"].removeprefix("simclr-digits/"): row for row in listed()}
    assert time.monotonic() - began < 0.9, "a lock is waited for"
    assert {name: row["state"] for name, row in rows.items()} == {
        "killed": "killed", "done": "done", "extended, then killed": "killed", "failed": "failed", "running": "running",
    }  # fmt: skip
    assert rows["failed"]["note"] == "ValueError: no such thing" and rows["killed"]["note"] == ""
    facts = {"method": "simclr", "data": "digits", "step": 12, "best": 0.75, "probe": "probe/knn/top1"}
    assert {key: rows["killed"][key] for key in facts} == facts
    assert rows["killed"]["size"] == sum(
        path.stat().st_size for path in (tmp_path / "simclr-digits" / "killed").rglob("*") if path.is_file()
    )


class Fails(pl.Callback):
    """Raises an error before the last of four steps, after a signal if one is named."""

    def __init__(self, error: BaseException | None, signum: int | None) -> None:
        self.error, self.signum = error, signum

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        listener = current()
        if self.error is not None and trainer.global_step == 3 and listener is not None:
            listener.noted = self.signum
            raise self.error


def fit(root: Path, error: BaseException | None = None, signum: int | None = None, **settings: Any) -> Path:
    callbacks = [Report(enabled=False), Checkpoint(**settings), Fails(error, signum)]
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=callbacks, max_epochs=2, default_root_dir=root, **quiet)
    with pytest.raises(Stopped if signum else type(error)) if error else nullcontext():
        trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages(samples=32, batch_size=16))
    assert trainer.run_folder is not None
    return trainer.run_folder


def test_a_run_that_fails_says_so_in_its_folder_and_one_that_is_stopped_does_not(
    tmp_path: Path, listed: Listed
) -> None:
    folder = fit(tmp_path / "fails", ValueError("a defect\nof two lines"))
    (row,) = listed()
    assert (row["state"], row["note"]) == ("failed", "ValueError: a defect of two lines")
    assert row["step"] == 2 and row["method"] == "simclr"
    fit(tmp_path / "stops", Stopped(15))
    fit(tmp_path / "fails of it", RuntimeError("a worker was ended by the signal"), 15)
    fit(tmp_path / "ends")
    states = {row["run"].partition("/")[0]: row["state"] for row in listed()}
    assert states == {"fails": "failed", "stops": "killed", "fails of it": "killed", "ends": "done"}
    FolderLock().take(folder)  # the next job there begins anew
    assert {row["run"].partition("/")[0]: row["state"] for row in listed()}["fails"] == "killed"


# Folders that are not as a run leaves them.


def test_damage_is_a_row_with_a_note_or_a_line_with_the_reason(
    tmp_path: Path, listed: Listed, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a" / "no method", **{"config.yaml": "trainer: [", "summary.json": "{"})
    make(tmp_path / "a" / "bytes", **{"metrics.csv": "step\n\n3;\n"})
    (tmp_path / "a" / "bytes" / "config.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a" / "bytes" / "metrics.csv").write_bytes(bytes(range(256)))
    (tmp_path / "a" / "new").mkdir()
    (tmp_path / "a" / "new" / ".lock").write_text("process 1")
    make(tmp_path / "a" / "list", **{"summary.json": "[1]"})
    outside = make(tmp_path.parent / f"{tmp_path.name}-outside")
    make(tmp_path / "a" / "links")
    for name in ("config.yaml", ".lock"):
        (tmp_path / "a" / "links" / name).unlink()
        (tmp_path / "a" / "links" / name).symlink_to(outside / name)
    (tmp_path / "linked").symlink_to(outside.parent)
    os.mkfifo(tmp_path / "a" / "list" / "pipe")
    (tmp_path / "a" / "list" / "metrics.csv").unlink()
    os.mkfifo(tmp_path / "a" / "list" / "metrics.csv")
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "photos" / "cats" / "config.yaml").write_text("x")
    (tmp_path / "notes.txt").touch()
    assert main(["runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    notes = {line.split("\t")[0]: line.split("\t")[-1] for line in out.splitlines()[1:]}
    assert notes == {
        "a/no method": "config.yaml names no method; summary.json is damaged",
        "a/bytes": "config.yaml cannot be read (it is not text)",
        "a/new": "there is no file config.yaml",
        "a/list": "summary.json is damaged",
        "a/links": "there is no file config.yaml",
    }
    assert sorted(err.splitlines()) == [
        f"Left out, a link: {tmp_path / 'linked'}.",
        f"Left out, without a run 4 folders deep: {tmp_path / 'photos'}.",
    ]
    assert {row["state"] for row in listed()} == {"killed"}


@pytest.mark.parametrize("level", ["", "simclr-digits", "simclr-digits/one"])
def test_the_root_may_be_any_folder_above_a_run_or_the_run(
    level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "sweep" / "simclr-digits" / "one")
    assert main(["runs", str(tmp_path / "sweep" / level), "--json"]) == 0
    assert [row["method"] for row in json.loads(capsys.readouterr().out)] == ["simclr"]


def test_no_runs_are_an_empty_list_and_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == [] and err == f"There is no run under {str(tmp_path)!r}.\n"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "There is no folder 'runs'"),
        (["nothing"], "There is no folder 'nothing'"),
        (["run"], "Did you mean 'runs2'?"),
        (["a/b/c"], "There is no folder 'a/b/c'"),
        (["file"], "'file' is a file"),
        (["file/x"], "There is no folder 'file/x'"),
        (["gone"], "There is no folder 'gone'"),
        (["x" * 5000], "There is no folder"),
        (["a\nb"], r"'a\nb'"),
        ([""], "'.' cannot"),
        (["runs2", "more"], "Unrecognized arguments: more"),
        (["runs2", "--yes"], "give both"),
        (["runs2", "--prune"], "give --yes"),
        (["runs2", "--prune", "--json"], "give --yes"),
        (["runs2", "--prun"], "Did you mean '--prune'?"),
        (["runs2", "--json=1"], "ignored explicit argument '1'"),
        (["runs2", "--check"], "no option --check"),
        (["nothing", "--prune", "--yes"], "There is no folder 'nothing'"),
        (["file", "--prune", "--yes"], "'file' is a file"),
    ],
)
def test_a_wrong_use_is_one_line(
    argv: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs2" / "simclr-digits" / "one")
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    if argv == [""]:
        monkeypatch.setattr("os.scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert main(["runs", *argv]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and says in told and len(checkpoints(tmp_path / "runs2/simclr-digits/one")) == 3


def test_a_hundred_runs_take_less_than_a_second_and_no_torch(tmp_path: Path) -> None:
    for number in range(100):
        rows = "\n".join(f"{step},1.0,0.5,0.5" for step in range(1000))
        make(tmp_path / "simclr-digits" / str(number), (), **{"metrics.csv": f"{METRICS}\n{rows}"})
    code = (
        "import sys, time; from ssl_lightning.cli.main import main; code = main(['runs', sys.argv[1]])\n"
        "sys.exit(code or 'torch' in sys.modules or (time.process_time() > 1 and f'{time.process_time()} s'))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 101


# Pruning.


def test_pruning_leaves_the_newest_whole_checkpoint_the_best_and_what_is_not_ours(
    tmp_path: Path, listed: Listed, holder: Callable[[Path], None]
) -> None:
    folders = {
        name: make(tmp_path / "simclr-digits" / name) for name in ("old", "best", "damaged", "linked", "running")
    }
    holder(folders["running"])
    scores = {
        "mode": "max",
        "best": "step-00000003.ckpt",
        "scores": {"step-00000003.ckpt": 0.9, "step-00000006.ckpt": 0.1},
    }
    (folders["best"] / "checkpoints" / "scores.json").write_text(json.dumps(scores))
    (folders["damaged"] / "checkpoints" / "step-00000009.ckpt").write_bytes(b"cut")
    for name in ("last.ckpt", "a.ckpt", "step-3.ckpt"):  # Lightning's, a user's
        (folders["old"] / "checkpoints" / name).touch()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-scratch"
    (folders["linked"] / "checkpoints").rename(elsewhere)
    (folders["linked"] / "checkpoints").symlink_to(elsewhere)
    gone = {row["checkpoint"] for row in listed("--prune", "--yes")}
    left = {
        name: [each.removesuffix(".ckpt").removeprefix("step-0000000") for each in checkpoints(folder)]
        for name, folder in folders.items()
    }
    assert left == {
        "old": ["a", "last", "9", "step-3"], "best": ["scores.json", "3", "9"], "damaged": ["6", "9"],
        "linked": ["3", "6", "9"], "running": ["3", "6", "9"],
    }  # fmt: skip
    assert gone == {
        f"simclr-digits/{name}/checkpoints/step-0000000{step}.ckpt"
        for name, step in (("old", 3), ("old", 6), ("best", 6), ("damaged", 3))
    }
    assert listed("--prune", "--yes") == [], "a second time nothing is left to remove"


def test_what_a_run_was_to_keep_for_good_stays_and_it_goes_on(tmp_path: Path, listed: Listed) -> None:
    """A run in Python does not record the settings of its callbacks: its checkpoint knows."""
    folder = fit(tmp_path, keep=3, keep_every_n_epochs=1)
    (folder / "checkpoints" / "step-00000001.ckpt").write_bytes(
        (folder / "checkpoints" / "step-00000002.ckpt").read_bytes()
    )
    listed("--prune", "--yes")
    assert checkpoints(folder) == ["step-00000002.ckpt", "step-00000004.ckpt"]


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("n\n", 3), ("\n", 3), ("", 3)])
def test_it_asks_at_a_terminal_and_takes_only_yes_for_yes(
    answer: str, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "simclr-digits" / "one")
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: answer, raising=False)
    assert main(["runs", str(tmp_path), "--prune"]) == (0 if left == 1 else 1)
    out, err = capsys.readouterr()
    assert out.count("step-0000000") == 2 and "Remove 2 checkpoints" in err
    assert len(checkpoints(folder)) == left


def test_where_it_cannot_be_known_which_is_the_best_all_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [make(tmp_path / "simclr-digits" / name) for name in ("a", "b", "c")]
    (folders[0] / "checkpoints" / "scores.json").write_text("{")
    (folders[1] / "config.yaml").write_text("a: [")
    assert main(["runs", str(tmp_path), "--prune", "--yes"]) == 1
    told = capsys.readouterr().err
    assert [len(checkpoints(folder)) for folder in folders] == [4, 3, 1]
    assert told.count("is left as it is") == 2 and "Removed" in told


def test_one_that_cannot_be_removed_is_told_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "simclr-digits" / "one")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "step-00000006.ckpt":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["runs", str(tmp_path), "--prune", "--yes"]) == 1
    told = capsys.readouterr().err
    assert "step-00000006.ckpt cannot be removed: Permission denied." in told and "1 of 2 checkpoints" in told
    assert checkpoints(folder) == ["step-00000006.ckpt", "step-00000009.ckpt"]
