"""What differs between processes ends no run: the data that they see, the values that they log, the
files on their disks, and the time that their work takes.

Run as a script this file is one of two processes: `test_unequal_processes.py JOB FOLDER`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ssl_lightning.methods.next_step import NextStep
from ssl_lightning.methods.simclr import SimCLR
from torch.utils.data import DataLoader

from ssl_lightning import Trainer, View, distributed
from ssl_lightning.data.sources import InMemory
from ssl_lightning.distributed import meet, on_each, on_first, rank, reduce_means
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.evaluation import labels_only, report, rows
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut, batches
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.evaluation.untrained import UNTRAINED
from ssl_lightning.method import SSLMethod
from ssl_lightning.run.folder.folder import check_agreement
from ssl_lightning.run.folder.metrics import rows_of, speed_of
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.tiny import TinyWaves
from ssl_lightning.types import Alarm

LIMIT, LONGER = 2.0, 3.0
"""Seconds that a collective waits, and that some work takes."""


def trainer(root: Path, **settings: Any) -> Trainer:
    settings = {"max_steps": 4, "log_every_n_steps": 2, "report": Report(enabled=False), **settings}
    return Trainer(
        accelerator="cpu", devices=2, strategy="ddp", precision="32-true", use_distributed_sampler=False,
        default_root_dir=str(root), enable_progress_bar=False,
        callbacks=[
            settings.pop("report"), KNNProbe(enabled=False), OnlineLinearProbe(enabled=False), HeldOut(enabled=False),
            CollapseMonitor(enabled=False),
        ],
        **settings,
    )  # fmt: skip


class Mean(SSLMethod):
    """Rank 0 logs a number of Python, and in two of the steps a value of its own that has an
    alarm."""

    alarms = (Alarm("own", "cause", "remedy", low=0.0),)

    def step(self, batch: Any) -> Any:
        logs: dict[str, Any] = {"number": 1.0 + rank()}
        if rank() == 0 and self.global_step < 2:
            logs["own"] = torch.tensor(5.0 + self.global_step)
        return {"loss": self(batch["views"][0]).mean(), "logs": logs}


def other_data(folder: Path) -> dict[str, Any]:
    """Rows of rank 0 have padding, those of rank 1 have none."""
    x = torch.ones(2, 1, 5, 5)
    segment = None if rank() else torch.tensor([[1, 1, 1, 0, 0], [2, 2, 2, 2, 0]])
    batches: Any = DataLoader([{"views": [View(x, segment)]}] * 4, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    run = trainer(folder)
    run.fit(Mean(TinyEncoder()), batches)
    speed = speed_of(run)[0]
    return {
        "positions a sample": speed["speed/tokens_per_s"] / speed["speed/samples_per_s"],
        "number": [row["train/number"] for row in rows_of(run)],
        "own": [row.get("train/own") for row in rows_of(run)],
    }


def other_lengths(folder: Path) -> dict[str, Any]:
    """Each process's rows are as long as its own longest recording."""
    encoder = FrameTransformer(mels=16, dim=8, depth=1, heads=2, causal=True)
    data = TinyWaves(features="log_mel", mels=16, samples=32, batch_size=4)
    run = trainer(folder)
    grids: list[int] = []
    encoder.positions.register_forward_hook(lambda module, args, out: grids.append(len(out)))
    run.fit(NextStep(encoder), datamodule=data)
    return {"grids": grids, "loss": rows_of(run)[-1]["train/loss"]}


def other_disk(folder: Path) -> dict[str, Any]:
    """Rank 1 does not see the file of the untrained encoder."""
    is_file = Path.is_file
    if rank():
        Path.is_file = lambda path: (
            is_file(path)
            and not (  # type: ignore[method-assign]
                path.name == UNTRAINED and folder in path.parents
            )
        )
    run = trainer(folder, report=Report(draws=1, labels_per_class=2, labels_only=False))
    tables: list[Any] = []
    compare = report.compare
    report.compare = lambda *args: (tables.append(compare(*args)), tables[-1])[1]
    run.fit(SimCLR(TinyEncoder()), datamodule=TinyImages(samples=32))
    return tables[0][""].table


class Broken(InMemory):
    """Of the test samples the second process cannot read one."""

    def fetch(self, index: torch.Tensor) -> torch.Tensor:
        if 3 in index.tolist():
            raise OSError("sample 3 is broken")
        return super().fetch(index)


class BrokenTest(TinyImages):
    def source(self, split: Any) -> Any:
        source: Any = super().source(split)
        return Broken(source.samples, source.labels) if split == "test" else source


def other_files(folder: Path) -> dict[str, Any]:
    """Rank 1 alone meets a test sample that it cannot read, in the closing table."""
    run = trainer(folder, report=Report(draws=1, labels_per_class=2, labels_only=False))
    run.fit(SimCLR(TinyEncoder()), datamodule=BrokenTest(samples=32))
    assert run.run_folder is not None
    return {
        "files": sorted(path.name for path in run.run_folder.iterdir()),
        "failed": json.loads((run.run_folder / "summary.json").read_text())["report/failed"],
    }


def other_settings(folder: Path) -> dict[str, Any]:
    """The processes were given different precisions, or checkpoints."""
    said = {}
    for name, value in {"precision": f"{16 + 16 * rank()}", "ckpt_path": f"/x/step-{rank()}.ckpt"}.items():
        mine = {"precision": "32", "ckpt_path": None, "datamodule": None, "global_rank": rank(), name: value}
        try:
            check_agreement(SimpleNamespace(**mine))
        except ValueError as error:
            said[name] = str(error)
    return said


class Odd(Exception):
    """Cannot be pickled back."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def other_time(folder: Path) -> dict[str, Any]:
    """One process works for longer than a collective waits."""

    def slow(value: Any) -> Any:
        time.sleep(LONGER)
        return value

    def fail() -> None:
        raise Odd(1, 2)

    result: dict[str, Any] = {"first": on_first(lambda: slow([rank(), 7]))}
    result["each"] = on_each(lambda: slow(rank()) if rank() else rank())
    for name, wait in {
        "first failed": lambda: on_first(fail),
        "each failed": lambda: on_each(fail if rank() else lambda: None),
    }.items():
        try:
            wait()
        except Exception as error:
            result[name] = f"{type(error).__name__}: {error}"
    for _ in range(3):
        meet()
    distributed.SILENCE = 1.0
    if rank() == 0:  # and rank 1 has gone
        try:
            meet()
        except RuntimeError as error:
            result["alone"] = str(error)
    return result


def other_names(folder: Path) -> dict[str, Any]:
    """Values by name that only some processes have, or have more of."""
    mine = {"a": torch.tensor([1.0, 2.0]) + rank(), "b": torch.ones(1 + rank())} | (
        {"c": torch.ones(1)} if rank() else {}
    )
    same = reduce_means({"a": mine["a"]})
    return {name: value.tolist() for name, value in {**reduce_means(mine), "same": same["a"]}.items()}


def other_share(folder: Path) -> dict[str, Any]:
    """A single held-out sample, which is rank 0's."""
    data, probe = TinyImages(samples=32), HeldOut()
    data.serve(SimCLR(TinyEncoder()))
    probe.index = torch.tensor([3])
    return {"index": [batch["index"].tolist() for batch in batches(data, probe.index, torch.device("cpu"))]}


def long_report(folder: Path) -> dict[str, Any]:
    """Regressions and files of rank 0, and a fit of rank 1, each take longer than a collective
    waits."""

    def slowed(owner: Any, name: str, slow_rank: int) -> None:
        original, calls = getattr(owner, name), []

        def slower(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            time.sleep(4 * LONGER if len(calls) == 1 and rank() == slow_rank else 0)
            return original(*args, **kwargs)

        setattr(owner, name, slower)

    labels_only.FEWEST_STEPS, labels_only.PASSES = 2, 0
    slowed(rows, "closing_row", 0)
    slowed(labels_only, "fitted", 1)
    slowed(report.Report, "write", 0)
    run = trainer(folder, report=Report(draws=2, labels_per_class=2, labels_only=True))
    run.fit(SimCLR(TinyEncoder()), datamodule=TinyImages(samples=32))
    assert run.run_folder is not None
    return json.loads((run.run_folder / "summary.json").read_text())  # type: ignore[no-any-return]


JOBS: tuple[Callable[[Path], dict[str, Any]], ...] = (
    other_data, other_disk, other_files, other_settings, other_names, other_share,
)  # fmt: skip
"""Those that share a process group, each after the others."""
LIMITS = {"other_time": LIMIT, "long_report": 3 * LONGER}
"""Seconds that a collective waits, in those that have a group of their own."""


def process(job: str, folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    environment = {"rank": int(os.environ["LOCAL_RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
    jobs = {each.__name__: each for each in JOBS} if job == "all" else {job: globals()[job]}
    dist.init_process_group("gloo", timeout=timedelta(seconds=LIMITS.get(job, 30.0)), **environment)
    result = {name: each(folder / name) for name, each in jobs.items()}
    (folder / f"{rank()}.json").write_text(json.dumps(result))


def both(run: Any, folder: Path, job: str) -> list[dict[str, Any]]:
    ended = run(folder, script=[__file__, job, str(folder)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(2)]


@pytest.fixture(scope="module")
def results(run: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return both(run, tmp_path_factory.mktemp("unequal"), "all")


@pytest.mark.slow
def test_whether_there_is_padding_may_differ(results: list[dict[str, Any]]) -> None:
    """Of the 10 positions of each process's batch, rank 0 has 7 real ones."""
    for each in results:
        assert each["other_data"]["positions a sample"] == pytest.approx((7 + 10) / 4)


@pytest.mark.slow
def test_what_is_logged_may_differ_and_be_a_number_of_python(results: list[dict[str, Any]]) -> None:
    first = results[0]["other_data"]  # which writes the rows
    assert first["number"] == [1.5, 1.5] and first["own"] == [5.5, None]


@pytest.mark.slow
def test_values_that_only_some_processes_have_are_averaged_over_those(results: list[dict[str, Any]]) -> None:
    for each in results:
        assert each["other_names"] == {"a": [1, 2, 2, 3], "b": [1, 1, 1], "c": [1], "same": [1.5, 2.5]}


@pytest.mark.slow
def test_a_file_that_rank_0_alone_sees_serves_all(results: list[dict[str, Any]]) -> None:
    first, second = (each["other_disk"] for each in results)
    assert first == second and set(first) == {"majority", "raw", "untrained", "pretrained"}


@pytest.mark.slow
def test_a_table_that_fails_on_one_process_ends_on_all(results: list[dict[str, Any]]) -> None:
    for each in results:
        assert {"encoder.safetensors", "encoder.md", "summary.json", "plots"} <= set(each["other_files"]["files"])
        assert "raw features, features failed: OSError: sample 3 is broken" in each["other_files"]["failed"]


@pytest.mark.slow
def test_a_process_may_have_no_sample_to_score(results: list[dict[str, Any]]) -> None:
    assert [each["other_share"]["index"] for each in results] == [[[3]], []]


@pytest.mark.slow
def test_processes_of_different_runs_refuse_each_other(results: list[dict[str, Any]]) -> None:
    for number, each in enumerate(results):
        said = each["other_settings"]
        assert f"precision: {16 + 16 * number} on rank {number}" in said["precision"]
        assert f"checkpoint: step-{number}.ckpt on rank {number}" in said["ckpt_path"]


@pytest.mark.slow
def test_work_may_take_longer_than_a_collective_waits(run: Any, tmp_path: Path) -> None:
    first, second = (each["other_time"] for each in both(run, tmp_path, "other_time"))
    assert first["first"] == second["first"] == [0, 7] and first["each"] == second["each"] == [0, 1]
    assert first["first failed"] == second["each failed"] == "Odd: 1 and 2"
    assert second["first failed"] == "RuntimeError: Rank 0 failed with Odd: 1 and 2"
    assert "1 of 2 processes have not come" in first["alone"]
    assert first["each failed"] == "RuntimeError: Rank 1 failed with Odd: 1 and 2"


def test_recordings_may_be_of_other_lengths(run: Any, tmp_path: Path) -> None:
    first, second = (each["other_lengths"] for each in both(run, tmp_path, "other_lengths"))
    assert first["grids"] != second["grids"] and first["loss"] == second["loss"]


@pytest.mark.slow
def test_a_report_may_take_longer_than_a_collective_waits(run: Any, tmp_path: Path) -> None:
    first, second = (each["long_report"] for each in both(run, tmp_path, "long_report"))
    assert first == second and {f"final/{row}/linear" for row in ("raw", "pretrained", "labels_only")} < set(first)


if __name__ == "__main__":
    process(sys.argv[1], Path(sys.argv[2]))
