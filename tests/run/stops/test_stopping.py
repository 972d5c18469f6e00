"""A signal stops a run with a checkpoint within one optimizer step, a line on how to go on, 128 + n
as exit code and no process left; and the run that goes on ends as one that was never stopped.

Run as a script this file is one of the processes: `test_stopping.py JOB FOLDER`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from resuming import TRIALS, differences
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.distributed import rank
from ssl_lightning.evaluation import report
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.checkpoint import find_newest
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.stops.signals import SIGNALS, Stopped, listening
from ssl_lightning.testing import TinyEncoder, TinyImages

pytestmark = pytest.mark.usefixtures("heeded_signals")
STEPS = 8  # 4 an epoch


class At(pl.Callback):
    """Calls a function once, at a place of an optimizer step."""

    def __init__(self, place: str, step: int, act: Callable[[], Any]) -> None:
        self.place, self.step, self.act = place, step, act
        self.seconds = 0.0

    def reached(self, place: str, step: int) -> None:
        if (place, step) == (self.place, self.step):
            self.step = -1
            self.act()

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.reached("start", trainer.global_step + 1)
        time.sleep(self.seconds)

    def on_after_backward(self, trainer: Any, *args: Any) -> None:
        self.reached("backward", trainer.global_step + 1)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.reached("end", trainer.global_step)

    def on_save_checkpoint(self, trainer: Any, *args: Any) -> None:
        self.reached("save", trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        self.reached("epoch", trainer.global_step)

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        self.reached("validation", trainer.global_step)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.reached("setup", 0)

    def on_fit_start(self, trainer: Any, *args: Any) -> None:
        self.reached("fit start", 0)


def send(signum: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), signum)


def build(root: Path, *callbacks: pl.Callback, table: bool = False, **settings: Any) -> Trainer:
    options = {"max_epochs": 2, "log_every_n_steps": 3, "enable_progress_bar": False, **settings}
    return Trainer(
        accelerator="cpu", precision="32-true", default_root_dir=str(root),
        callbacks=[KNNProbe(enabled=False), OnlineLinearProbe(every_n_steps=2, eval_every_n_steps=3, batch_size=16),
            Report(enabled=table, draws=1), *callbacks],
        **options,
    )  # fmt: skip


def train(
    root: Path, *callbacks: pl.Callback, ckpt_path: Path | None = None, workers: int = 0, **settings: Any
) -> dict[str, Any]:
    """A run to its end: what two equal runs have in common."""
    torch.manual_seed(0)
    method = SimCLR(TinyEncoder(), hidden_dim=16, output_dim=8, warmup_epochs=1)
    accumulates = settings.get("accumulate_grad_batches", 1) > 1
    method.couples_samples = "" if accumulates else method.couples_samples
    trainer, data = build(root, *callbacks, **settings), TinyImages(workers=workers)
    trainer.fit(method, datamodule=data, ckpt_path=ckpt_path)
    return {
        "weights": method.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "step": trainer.global_step,
        "position": data.position,
        "metrics": (trainer.run_folder / "metrics.csv").read_text(),  # type: ignore[operator]
    }


def newest(root: Path) -> Path:
    (folder,) = root.glob("*/*")
    path = find_newest(folder / "checkpoints")
    assert path is not None
    return path


def handlers() -> list[Any]:
    return [signal.getsignal(each) for each in SIGNALS]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("straight"))


def stopped(root: Path, at: At, signum: int, **settings: Any) -> Path:
    """Runs until the signal stops it; returns the checkpoint."""
    before = handlers()
    with pytest.raises(SystemExit) as raised:
        train(root, at, **settings)
    assert raised.value.code == 128 + signum
    assert handlers() == before
    return newest(root)


PLACES = [("start", 1), ("start", 3), ("backward", 4), ("end", 4), ("save", 4), ("epoch", 4), ("end", 7)]


@pytest.mark.by_default(4)
@pytest.mark.parametrize(
    ("signum", "place"), [(SIGNALS[number % len(SIGNALS)], place) for number, place in enumerate(PLACES)]
)
def test_a_run_stops_within_a_step_and_goes_on_bit_for_bit(
    signum: int, place: tuple[str, int], straight: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    checkpoint = stopped(tmp_path, At(*place, send(signum)), signum)
    step = int(checkpoint.stem.removeprefix("step-"))
    assert place[1] <= step <= place[1] + 1
    assert capsys.readouterr().err == (
        f"Stopped by {signal.Signals(signum).name} at step {step}; the checkpoint is {checkpoint}."
        f" To go on: fit(..., ckpt_path={str(checkpoint)!r}).\n"
    )
    assert differences(straight, train(tmp_path, ckpt_path=checkpoint)) == []


def test_accumulated_batches_are_completed(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"accumulate_grad_batches": 2, "max_epochs": 3}
    straight = train(tmp_path / "straight", **settings)
    batches = At("start", 2, send(signal.SIGTERM))  # the first batch of the second step
    checkpoint = stopped(tmp_path / "stopped", batches, signal.SIGTERM, **settings)
    assert checkpoint.name == "step-00000002.ckpt"
    assert differences(straight, train(tmp_path / "stopped", ckpt_path=checkpoint, **settings)) == []


def test_without_checkpoints_it_says_so(tmp_path: Path, capsys: Any) -> None:
    for callbacks, enabled in (([], False), ([Checkpoint(enabled=False)], True)):
        with pytest.raises(SystemExit):
            train(tmp_path, At("start", 2, send(signal.SIGTERM)), *callbacks, enable_checkpointing=enabled)
        assert capsys.readouterr().err.endswith("at step 2; there is no checkpoint, since checkpoints are disabled.\n")


@pytest.mark.parametrize("place", ["setup", "fit start"])
def test_before_the_first_step_it_stops_at_once(place: str, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as raised:
        train(tmp_path, At(place, 0, send(signal.SIGINT)))
    assert raised.value.code == 130
    assert capsys.readouterr().err == (
        "Stopped by SIGINT before the first step; start it again with the same command.\n"
    )


@pytest.mark.slow
def test_the_closing_table_stops_at_once_and_is_computed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    compare = report.compare
    monkeypatch.setattr(report, "compare", lambda *args: (send(signal.SIGTERM)(), compare(*args)))
    with pytest.raises(SystemExit) as raised:
        train(tmp_path, table=True, max_steps=3, max_epochs=-1)
    assert raised.value.code == 143
    checkpoint = newest(tmp_path)
    assert "after the last step, 3; " in (line := capsys.readouterr().err) and "The closing table: fit(" in line
    monkeypatch.undo()
    train(tmp_path, table=True, max_steps=3, max_epochs=-1, ckpt_path=checkpoint)
    assert (checkpoint.parents[1] / "summary.json").is_file()


def test_the_last_checkpoint_is_there_before_the_closing_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a run that a callback ends early."""
    seen: list[str] = []
    monkeypatch.setattr(Report, "on_train_end", lambda *args: seen.append(newest(tmp_path).name))

    class Ends(At):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 3

    train(tmp_path, Ends("", 0, lambda: None))
    assert seen == ["step-00000003.ckpt"]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_other_commands_stop_at_once(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build(tmp_path)
    monkeypatch.setattr(SimCLR, "forward", lambda *args: send(signal.SIGHUP)())
    with pytest.raises(SystemExit) as raised:
        getattr(trainer, command)(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert raised.value.code == 128 + signal.SIGHUP


def test_what_fails_because_of_the_signal_is_told_with_it(tmp_path: Path, capsys: Any) -> None:
    """As where it ended a worker of the user's own loader, or another process."""

    def fail() -> None:
        send(signal.SIGTERM)()
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    checkpoint = stopped(tmp_path, At("start", 6, fail), signal.SIGTERM)
    assert checkpoint.name == "step-00000004.ckpt"
    line = capsys.readouterr().err
    assert (
        line.startswith("Stopped by SIGTERM (WorkerLost: A worker for the data (pid 7) was killed")
        and "To go on" in line
    )


def test_an_error_without_a_signal_stays_what_it_is(tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyError("a defect")

    with pytest.raises(KeyError, match="a defect"):
        train(tmp_path, At("start", 2, fail))


def test_a_run_in_another_thread_or_a_notebook_leaves_signals_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = handlers(), list[Any]()
    thread = threading.Thread(target=lambda: train(tmp_path, At("start", 2, lambda: seen.append(handlers()))))
    thread.start()
    thread.join()
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    train(tmp_path, At("start", 2, lambda: seen.append(handlers())))
    assert seen == [before, before]


SCONTROL = """#!/bin/sh
echo "$@" >> {log}
exit {code}
"""


@pytest.mark.parametrize(
    ("array", "code", "says"),
    [
        (None, 0, "Job 7 is back in the queue."),
        ("5", 0, "Job 5_3 is back in the queue."),
        (None, 1, "Job 7 could not be put back into the queue (scontrol: exit code 1): submit it again."),
    ],
)
def test_slurms_warning_puts_the_job_back_into_the_queue(
    array: str | None, code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    log, scontrol = tmp_path / "log", tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(SCONTROL.format(log=log, code=code))
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=os.pathsep)
    for name, value in {"JOB_ID": "7", "NTASKS": "1", "ARRAY_JOB_ID": array, "ARRAY_TASK_ID": array and "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value) if value else monkeypatch.delenv(f"SLURM_{name}", raising=False)
    stopped(tmp_path / "runs", At("start", 3, send(signal.SIGUSR1)), signal.SIGUSR1)
    assert log.read_text() == f"requeue {array}_3\n" if array else "requeue 7\n"
    assert capsys.readouterr().err.endswith(f"). {says}\n")


def test_slurms_other_signals_only_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It sends SIGTERM where a job is cancelled."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    stopped(tmp_path, At("start", 3, send(signal.SIGTERM)), signal.SIGTERM)
    assert "queue" not in capsys.readouterr().err


def in_two_processes(folder: Path) -> None:
    """The signal comes to rank 1 alone."""
    several: dict[str, Any] = {"devices": 2, "strategy": "ddp"}
    straight = train(folder / "straight", **several)
    code = 0
    try:
        train(folder / "stopped", At("start", 3, send(signal.SIGTERM) if rank() else lambda: None), **several)
    except Stopped as stop:
        code = int(stop.code)  # type: ignore[arg-type]
    checkpoint = newest(folder / "stopped")
    resumed = train(folder / "stopped", ckpt_path=checkpoint, **several)
    differ = differences(straight, resumed) if not rank() else []
    torch.save({"code": code, "stopped at": checkpoint.name, "differences": differ}, folder / f"{rank()}.pt")


@pytest.mark.slow
def test_all_processes_stop_at_the_same_step(run: Any, tmp_path: Path) -> None:
    ended = run(tmp_path, script=[__file__, "two", str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    expected = {"code": 143, "stopped at": "step-00000004.ckpt", "differences": []}
    assert [torch.load(tmp_path / f"{number}.pt") for number in range(2)] == [expected] * 2, ended["log"]
    assert ended["log"].count("Stopped by SIGTERM at step 4") == 1


def one_try(root: Path, signum: int, seconds: float, workers: int, straight: dict[str, Any]) -> None:
    """A signal at any moment of a run, from its set-up to its table."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signum))
    timer.start()
    try:
        with listening():  # from before the first moment
            train(root, workers=workers, table=True)
            timer.cancel()
        return
    except Stopped as stop:
        assert stop.code == 128 + signum
    folders = sorted(root.glob("*/*"))
    checkpoint = find_newest(folders[0] / "checkpoints") if folders else None
    assert differences(straight, train(root, ckpt_path=checkpoint, workers=workers, table=True)) == []
    folders = sorted(root.glob("*/*"))
    assert len(folders) == 1 or checkpoint is None
    assert not list(root.glob("*/*/**/.*.tmp"))
    assert (folders[-1] / "summary.json").is_file() and (folders[-1] / "encoder.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("signum", SIGNALS)
def test_each_signal_at_any_moment(signum: int, workers: int, straight: dict[str, Any], tmp_path: Path) -> None:
    random = Random(signum)
    started = time.monotonic()
    train(tmp_path / "straight", workers=workers, table=True)
    lasts = time.monotonic() - started
    for number in range(TRIALS):
        one_try(tmp_path / str(number), signum, random.uniform(0, lasts), workers, straight)
        assert children() == []


def children(pid: int | str = "self") -> list[int]:
    """The processes that a process has started, theirs too, and that live."""
    pids = [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]
    return [each for child in pids for each in (child, *children(child))]


def wait_for(text: str, path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while text not in path.read_text():
        assert time.monotonic() < end, path.read_text()
        time.sleep(0.02)


def stop_from_outside(command: list[str], folder: Path, until: str, *signals: int, group: bool = False) -> str:
    """Starts a command, and sends it signals once it has printed a text; returns what it printed.
    Nothing that it has started is left.

    Args:
        group: whether its whole group gets them, as from a terminal.
    """
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            wait_for(until, log)
            started = children(process.pid)
            for signum in signals:
                (os.killpg if group else os.kill)(process.pid, signum)
            assert process.wait(timeout=60) == 128 + signals[0], log.read_text()
            end = time.monotonic() + 10
            while alive := [pid for pid in started if is_running(pid)]:
                assert time.monotonic() < end, alive
                time.sleep(0.05)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in log.read_text()
    return log.read_text()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


COMMAND = [
    "-m", "ssl_lightning.cli", "fit", "--model", "simclr", "--data", "ssl_lightning.testing.TinyImages",
    "--data.workers", "1", "--data.samples", "4096", "--trainer.accelerator", "cpu", "--report.enabled", "false",
]  # fmt: skip


@pytest.mark.slow
def test_a_command_stops_with_its_workers_and_goes_on_by_itself(run: Any, tmp_path: Path) -> None:
    """SIGTERM comes to the whole group, as from a batch system."""
    command = [*COMMAND, "--trainer.default_root_dir", str(tmp_path)]
    endless = [*command, "--trainer.max_epochs", "1000"]
    log = stop_from_outside(endless, tmp_path, "an epoch)", signal.SIGTERM, group=True)
    checkpoint = newest(tmp_path)
    steps = int(checkpoint.stem.removeprefix("step-")) + 3
    line = next(line for line in log.splitlines() if line.startswith("Stopped by SIGTERM at step "))
    assert line.endswith(
        f"the checkpoint is {checkpoint}. To go on: the same command with --resume {checkpoint.parents[1]}."
    )
    more = run(tmp_path, argv=[*command[2:], "--trainer.max_steps", str(steps), "--resume", "auto"])
    assert more["code"] == 0 and f"Resuming from {checkpoint}." in more["log"], more["log"][-3000:]
    assert newest(tmp_path).name == f"step-{steps:08d}.ckpt"


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("signum", SIGNALS)
def test_processes_that_a_run_launches_end_with_it(signum: int, group: bool, tmp_path: Path) -> None:
    several = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [*COMMAND, *several, "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1000"]
    log = stop_from_outside(command, tmp_path, "an epoch)", signum, group=group)
    assert log.count("Stopped by ") == 1 and str(newest(tmp_path)) in log


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    in_two_processes(Path(sys.argv[2]))
