"""Training runs that can really be killed: a process that imports once and forks a child for each
run.

    # reads a run as JSON from each line, answers with its return code on a line
    python tests/runs.py

A child trains, and at the place that `kill` names sends itself SIGKILL: nothing is flushed, no
`finally` runs. At its end it writes what it has learned to `out`.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest  # noqa: F401  by the scripts
import pytorch_lightning as pl
import sklearn.datasets
import sklearn.linear_model
import sklearn.manifold  # noqa: F401  the digits, the closing table and its map: imported here, once
import torch
import wandb  # noqa: F401
from quick import FEW_STRENGTHS
from torch import nn

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation import protocol, report, rows
from ssl_lightning.evaluation.probes import knn
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import Head, OnlineLinearProbe
from ssl_lightning.evaluation.probes.spectrum import Spectrum
from ssl_lightning.evaluation.report import Report
from ssl_lightning.method import SSLMethod
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.checkpoints import saving
from ssl_lightning.run.checkpoints.checkpoint import find_newest
from ssl_lightning.run.folder.metrics import Metrics, Table
from ssl_lightning.run.meter import Meter
from ssl_lightning.run.stops.signals import Stopped
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.methods import tiny_data, tiny_encoder

DEFAULTS: dict[str, Any] = {  # besides root, out and log; `kill` is a place and a step, or the number of a call
    "method": "simclr", "init_args": {}, "data": "tiny", "seed": 0, "samples": 64, "workers": 0, "augment_on": "auto",
    "trainer": {"max_epochs": 3}, "watch": True, "closing": False, "checkpoint": {}, "save_at": [], "ckpt_path": None,
    "kill": None,
}  # fmt: skip
"""`ckpt_path`: "auto" is the newest checkpoint below the root; "newest" is it, or none."""


class Noisy(SSLMethod):
    """Random in each step, and of the kind that may accumulate: dropout on the features, and a
    centre moved once an update."""

    def __init__(self, encoder: TinyEncoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(encoder.dim, 4)
        self.register_buffer("centre", torch.zeros(4))
        self.seeds: list[int] = []

    def step(self, batch: Any) -> Any:
        self.seeds.append(torch.initial_seed())
        z1, z2 = (self.head(self.drop(self.encoder(view))) for view in batch["views"])
        return {
            "loss": (z1 - z2).square().mean() - 0.1 * (z1 - self.centre).std(),
            "embeddings": z1,
            "logs": {"spread": z1.detach().std()},
            "state": z1.detach(),
        }

    def after_update(self, states: list[Any]) -> None:
        self.centre.lerp_(torch.cat(states).mean(dim=0), 0.1)


class OtherImages(TinyImages):
    """Another datamodule."""


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class KillAt(pl.Callback):
    """Dies at a place of a step: `start`, `backward` (gradients are there, the update is not),
    `end` (before its checkpoint)."""

    def __init__(self, place: str, step: int) -> None:
        self.place, self.step = place, step

    def die_at(self, place: str, step: int) -> None:
        if (place, step) == (self.place, self.step):
            die()

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.die_at("start", trainer.global_step + 1)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.die_at("backward", trainer.global_step + 1)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.die_at("end", trainer.global_step)


def nth_call(owner: Any, name: str, nth: int, before: Any) -> None:
    """Runs `before` in place of the n-th call of a function; of `os.fsync` those count that concern
    checkpoints."""
    original, calls = getattr(owner, name), iter(range(1, 10**9))

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts = name != "fsync" or "/checkpoints" in os.readlink(f"/proc/self/fd/{args[0]}")
        return before(*args, **kwargs) if counts and next(calls) == nth else original(*args, **kwargs)

    setattr(owner, name, counted)


def torn_save(value: Any, file: Any, share: float = 0.5) -> NoReturn:
    """A part of a checkpoint reaches the disk."""
    whole = io.BytesIO()
    torch_save(value, whole)
    file.write(whole.getvalue()[: int(share * whole.tell())])
    file.flush()
    die()


def save_then_die(self: saving.Checkpoint, *args: Any, **kwargs: Any) -> NoReturn:
    save(self, *args, **kwargs)
    die()


def torn_row(self: Table, **settings: Any) -> NoReturn:
    write(self, **settings)
    assert self.path is not None
    with self.path.open("a") as file:
        file.write("999,1.5e-")
    die()


def die_replacing(name: str, nth: int) -> None:
    """Kills the run before the n-th time that a file of this name would be renamed to it."""
    replace, calls = os.replace, iter(range(1, 10**9))

    def counted(source: Any, target: Any) -> None:
        if Path(target).name == name and next(calls) == nth:
            die()
        replace(source, target)

    os.replace = counted


torch_save, save, write = torch.save, saving.Checkpoint.save, Table.write


def arrange_death(place: str, number: float) -> list[pl.Callback]:
    """Kills the run at a step's place, in the n-th call of something, or after some seconds."""
    inside = {
        "training step": (SSLMethod, "training_step", lambda *args: die()),
        "knn": (knn, "knn_predict", lambda *args, **kwargs: die()),
        "linear": (Head, "learn", lambda *args: die()),
        "linear scores": (Head, "scores", lambda *args: die()),
        "closing table": (rows, "closing_row", lambda *args, **kwargs: die()),
        "torn write": (torch, "save", torn_save),
        "fsync": (os, "fsync", lambda *args: die()),  # of a checkpoint's file before it is renamed, then of its folder
        "saved": (saving.Checkpoint, "save", save_then_die),
        "torn row": (Table, "write", torn_row),
        "summary": (report.Report, "write", lambda *args: die()),
    }
    if place == "time":
        signal.setitimer(signal.ITIMER_REAL, number)  # its signal ends the process: nothing is flushed either
        return []
    if place.startswith("replacing "):
        die_replacing(place.removeprefix("replacing "), int(number))
        return []
    if place == "torn write, percent":
        nth_call(torch, "save", 2, partial(torn_save, share=number / 100))
        return []
    if place not in inside:
        return [KillAt(place, int(number))]
    nth_call(*inside[place][:2], int(number), inside[place][2])
    return []


def newest_below(root: Path) -> Path | None:
    """The newest whole checkpoint of the newest run."""
    folders = sorted(root.glob("*/*/checkpoints"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((newest for newest in map(find_newest, folders) if newest is not None), None)


def train(spec: dict[str, Any]) -> None:
    """One run: trains, and writes to `out` all that a killed and resumed run must have in common
    with it."""
    spec = {**DEFAULTS, **spec}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cls: Any = Noisy if spec["method"] == "noisy" else Registry("ssl_lightning.methods")[spec["method"]]
    method = cls(tiny_encoder(cls), **{"warmup_epochs": 1, **spec["init_args"]})
    data = {"tiny": partial(tiny_data, cls), "others": OtherImages}[spec["data"]](
        samples=spec["samples"], seed=spec["seed"], workers=spec["workers"], augment_on=spec["augment_on"]
    )
    callbacks: list[pl.Callback] = [
        KNNProbe(enabled=spec["watch"], every_n_steps=3, bank=32, queries=16),
        OnlineLinearProbe(enabled=spec["watch"], every_n_steps=2, eval_every_n_steps=5, batch_size=16, queries=16),
        HeldOut(enabled=spec["watch"], every_n_steps=3, samples=16),
        Spectrum(enabled=spec["watch"], every_n_steps=4, samples=16, lidar_samples=4, views=3),
        CollapseMonitor(enabled=spec["watch"], every_n_steps=2),
        Meter(enabled=spec["watch"]),
        Report(enabled=spec["closing"], draws=1),
        saving.Checkpoint(**spec["checkpoint"]),
    ]
    if spec["save_at"]:
        saving.Checkpoint._late = lambda self, trainer: trainer.global_step in spec["save_at"]  # type: ignore[method-assign]
    callbacks += arrange_death(*spec["kill"]) if spec["kill"] else []
    trainer = ssl_lightning.Trainer(
        **{"precision": "32-true", "accelerator": "cpu", "log_every_n_steps": 3, "default_root_dir": spec["root"],
            **spec["trainer"]},
        callbacks=callbacks,
    )  # fmt: skip
    auto = spec["ckpt_path"] in ("auto", "newest")
    ckpt_path = newest_below(Path(spec["root"])) if auto else spec["ckpt_path"]
    if spec["ckpt_path"] == "auto" and ckpt_path is None:
        raise FileNotFoundError("There is nothing to resume from.")
    trainer.fit(method, datamodule=data, ckpt_path=ckpt_path)
    end = {
        "weights": method.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict()["last_epoch"],
        "step": trainer.global_step,
        "position": data.position,
        "linear": next(
            callback.state_dict() for callback in trainer.callbacks if isinstance(callback, OnlineLinearProbe)
        ),
        "pending": next(
            callback.state_dict()["pending"] for callback in trainer.callbacks if isinstance(callback, Metrics)
        ),
    }
    torch_save(
        {
            "end": end,
            "folder": str(trainer.run_folder),
            "resumed from": str(ckpt_path),
            "seeds": getattr(method, "seeds", []),
        },
        spec["out"],
    )


def command_line(spec: dict[str, Any]) -> None:
    """The same by the command line's `main`."""
    torch.set_num_threads(1)
    if "kill" in spec:
        arrange_death(*spec["kill"])
    code = main(spec["argv"])
    if code:
        raise SystemExit(code)


def script(spec: dict[str, Any]) -> None:
    """A Python file with its arguments, in as many processes as `processes` says, each started as a
    cluster would start it."""
    processes, children = spec.get("processes", 1), []
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            os.environ |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(free.getsockname()[1]),
                "WORLD_SIZE": str(processes),
                "LOCAL_RANK": "0",
            }
        for rank in range(1, processes):
            children.append(os.fork())
            if not children[-1]:
                os.environ["LOCAL_RANK"], children = str(rank), []
                break
    signal.alarm(300)
    sys.argv = spec["script"]
    runpy.run_path(sys.argv[0], run_name="__main__")
    for child in children:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise SystemExit(code)


def settle(environment: dict[str, str | None], path: list[str], folder: str | None) -> None:
    """Makes the process one that was started with other variables (None: without), further folders
    of packages, elsewhere."""
    for name, value in environment.items():
        os.environ.pop(name, None)
        os.environ.update({} if value is None else {name: value})
    sys.path[:0] = path
    os.chdir(folder or os.getcwd())


def serve() -> None:
    """Forks a child for each line of the input."""
    torch.set_num_threads(1)
    for name, few in FEW_STRENGTHS.items():
        setattr(protocol, name, few)
    for line in sys.stdin:
        spec = json.loads(line)
        child = os.fork()
        if child == 0:
            log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 1
            try:
                settle(spec.get("environment", {}), spec.get("path", []), spec.get("cwd"))
                if "script" in spec:
                    os.setpgid(0, 0)
                    script(spec)
                else:
                    command_line(spec) if "argv" in spec else train(spec)
                code = 0
            except Stopped as stop:
                code = int(stop.code)  # type: ignore[arg-type]
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        if "script" in spec:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # whatever it has started
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
