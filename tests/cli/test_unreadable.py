"""A file that cannot be read ends a command in one line, of whatever kind it is, and wherever it is
read."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sets import write_sounds
from torch._utils import ExceptionWrapper
from unreadable import Tables, tear, write_tables

from ssl_lightning.cli.main import main
from ssl_lightning.data import waiting
from ssl_lightning.data.text.datamodule import TextDataModule
from ssl_lightning.evaluation.report import Report
from ssl_lightning.method import SSLMethod

QUIET = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")
UNWATCHED = tuple(f"--{key}.enabled=false" for key in ("online_probe", "knn_probe", "held_out", "collapse", "report"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


def command(name: str, *argv: object) -> int:
    return main([name, *map(str, (*argv, *QUIET))])


def tables(folder: Path) -> tuple[object, ...]:
    return ("--data", "unreadable.Tables", "--data.folder", folder)


def one_line(capsys: Any, name: str, message: str) -> None:
    error = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "Traceback" not in "".join(error)
    assert re.fullmatch(rf"ssl-lightning {name}: error: {message}", error[0]), error


def pictures(folder: Path) -> tuple[object, ...]:
    for number in range(8):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
    return ("--data", "image_folder", "--data.root", folder, "--data.image_size", 16, "--model.encoder", "conv")


def sounds(folder: Path) -> tuple[object, ...]:
    write_sounds(folder, [f"{'ab'[number % 2]}/{number}.wav" for number in range(8)])
    return ("--data", "audio_folder", "--data.root", folder, "--data.seconds", 0.05)


KINDS = {
    "pictures": (pictures, r"\S+\.png: it .* --data\.unreadable skip\."),
    "sounds": (sounds, r"\S+\.wav: it .* --data\.unreadable skip\."),
    "of another package": (lambda folder: tables(write_tables(folder)), r"\d+\.txt: could not .* skip\."),
}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_in_the_middle_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, workers: int
) -> None:
    write, message = KINDS[kind]
    step = SSLMethod.training_step

    def tearing(self: Any, *args: Any) -> Any:
        tear(tmp_path / "files")
        return step(self, *args)

    monkeypatch.setattr(SSLMethod, "training_step", tearing)
    data = (*write(tmp_path / "files"), "--data.batch_size", 4, "--data.workers", workers)
    ends = ("--trainer.max_steps", 12, "--trainer.default_root_dir", tmp_path / "runs")
    assert command("fit", "--model", "simclr", *data, *ends, *UNWATCHED) == 2
    one_line(capsys, "fit", message)


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Does something in each training step."""
    step = SSLMethod.training_step
    monkeypatch.setattr(SSLMethod, "training_step", lambda self, *args: (act(), step(self, *args))[1])


def hang_worker(folder: Path, kind: str) -> int:
    """Pipes that nobody writes to hang whoever opens them, as the files of a network disk do."""
    monkeypatch = pytest.MonkeyPatch()

    def hang() -> None:
        for path in (path for path in (folder / "files").rglob("*.*") if path.is_file()):
            path.unlink()
            os.mkfifo(path)

    during(monkeypatch, hang)
    monkeypatch.setattr(waiting, "LOOK", 1)
    data = (*KINDS[kind][0](folder / "files"), "--data.batch_size", 4, "--data.workers", 1)
    ends = ("--trainer.max_steps", 12, "--trainer.default_root_dir", folder / "runs", "--data.worker_timeout", 1)
    return command("fit", "--model", "simclr", *data, *ends, *UNWATCHED)


def kill_worker(folder: Path, kind: str) -> int:
    workers: list[Any] = []

    def kill() -> None:
        if not workers:  # to ask for them again would take the signal of their death from torch
            workers.extend(multiprocessing.active_children())
            for worker in workers:
                worker.kill()

    during(pytest.MonkeyPatch(), kill)
    data = (*KINDS[kind][0](folder / "files"), "--data.batch_size", 4, "--data.workers", 1)
    ends = ("--trainer.max_steps", 12, "--trainer.default_root_dir", folder / "runs")
    return command("fit", "--model", "simclr", *data, *ends, *UNWATCHED)


LOST = {
    "hang_worker": r"Worker 0 for the data \(pid \d+\), which reads \S+\.(png|wav), has hung for 1 s: .*",
    "kill_worker": r"A worker for the data \(pid \d+\) was killed \(Killed\): by .*--data\.workers .*",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "sounds"])
@pytest.mark.parametrize("how", ["kill_worker", "hang_worker"])
def test_a_worker_that_is_lost(run: Any, tmp_path: Path, how: str, kind: str) -> None:
    """In a process of its own: after the death of a worker torch raises an exception wherever the
    process stands."""
    environment = {"SSL_LIGHTNING_CACHE": str(tmp_path / "cache")}
    done = run(tmp_path, script=[__file__, how, str(tmp_path), kind], environment=environment)
    assert done["code"] == 0, done["log"][-3000:]
    assert "Traceback" not in done["log"]
    assert re.fullmatch(rf"ssl-lightning fit: error: {LOST[how]}", done["log"].strip().splitlines()[-1])


def test_while_the_report_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Report.close

    def tearing(self: Any, *args: Any) -> None:
        tear(tmp_path / "files" / "test")
        close(self, *args)

    monkeypatch.setattr(Report, "close", tearing)
    data = tables(write_tables(tmp_path / "files"))
    ends = ("--trainer.max_steps", 1, "--trainer.default_root_dir", tmp_path / "runs")
    assert command("fit", "--model", "simclr", *data, *ends, *UNWATCHED[:-1]) == 0, "the run itself has ended well"
    said = capsys.readouterr()
    assert re.search(r"^.* failed: \w+: 000\.txt: .*$", said.out, flags=re.MULTILINE), said.out
    assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize(
    ("name", "split"),
    [
        pytest.param("validate", "val", marks=pytest.mark.slow),
        ("test", "test"),
        pytest.param("predict", "train", marks=pytest.mark.slow),
    ],
)
def test_while_an_encoder_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, split: str) -> None:
    data = tables(write_tables(tmp_path / "files"))
    tear(tmp_path / "files" / split)
    root = ("--trainer.default_root_dir", tmp_path / "runs")
    assert command(name, "--model", "simclr", *data, "--data.workers", 1, *root) == 2
    one_line(capsys, name, r"000\.txt: .*")


def test_text_that_is_gone_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = TextDataModule.prepare_data
    (tmp_path / "a.txt").write_text("A text.")

    def removing(self: Any) -> None:
        (tmp_path / "a.txt").unlink()
        prepare(self)

    monkeypatch.setattr(TextDataModule, "prepare_data", removing)
    data = ("--data", "text_files", "--data.path", tmp_path / "a.txt")
    assert command("fit", "--model", "bert", *data, "--trainer.default_root_dir", tmp_path / "runs") == 2
    one_line(capsys, "fit", r"\S+a\.txt: No such file or directory\.")


def test_of_an_error_from_a_worker_the_message_remains() -> None:
    """Of a class inside another, which came from another error."""
    try:
        try:
            float("a")
        except ValueError as error:
            raise Tables.Torn("00.txt: no number.\nOf two lines.") from error
    except Tables.Torn:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(Tables.Torn) as caught:
        wrapped.reraise()
    assert str(caught.value) == "00.txt: no number.\nOf two lines."


if __name__ == "__main__":
    code = {"hang_worker": hang_worker, "kill_worker": kill_worker}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
    assert code == 2, code
