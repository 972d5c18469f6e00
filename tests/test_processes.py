"""A run in two processes is the run of one: same samples, weights, metrics and files; and a failure
ends both.

Run as a script this file is one of the processes: `test_processes.py JOB FOLDER`.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.methods.simclr import SimCLR
from torch.testing import assert_close
from vectors_file import load_vectors

from ssl_lightning import Trainer
from ssl_lightning.data.peek import embed
from ssl_lightning.distributed import rank
from ssl_lightning.evaluation.features import features_of
from ssl_lightning.evaluation.measures import balanced
from ssl_lightning.evaluation.probes.base import Labelled
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.probes.spectrum import Spectrum
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing import TinyEncoder, TinyImages

pytestmark = pytest.mark.slow

SAMPLES, BATCH, STEPS = 100, 16, 18  # 6 steps an epoch; passes end within a batch
FIRST, SECOND = 4, 11  # where the number of processes changes: in mid-epoch, between two rows of metrics


class Record(pl.Callback):
    """Keeps each step's samples and gradient, and saves a checkpoint at one step."""

    def __init__(self, save_at: int, path: Path) -> None:
        self.save_at, self.path = save_at, path
        self.index: list[torch.Tensor] = []
        self.gradient: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.index.append(batch["index"].clone())

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradient.append(torch.cat([parameter.grad.flatten() for parameter in pl_module.parameters()]))

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.path)


def method() -> SimCLR:
    torch.manual_seed(rank())  # DistributedDataParallel must make them equal
    return SimCLR(TinyEncoder(), hidden_dim=16, output_dim=8, norm="layer", warmup_epochs=1)


def trainer(root: Path, processes: int, *callbacks: pl.Callback) -> Trainer:
    several = {"devices": 2, "strategy": "ddp"} if processes > 1 else {}
    return Trainer(
        accelerator="cpu", precision=32, max_epochs=3, log_every_n_steps=3, default_root_dir=str(root),
        callbacks=list(callbacks), **several
    )  # fmt: skip


def train(folder: Path, processes: int, ckpt_path: Path | None = None, save_at: int = 0) -> dict[str, Any]:
    """A run of `STEPS` steps, or what is left of them after the checkpoint."""
    record = Record(save_at, folder / f"{save_at}.ckpt")
    run = trainer(
        folder, processes, record, KNNProbe(every_n_steps=4), OnlineLinearProbe(every_n_steps=1, eval_every_n_steps=4),
        CollapseMonitor(every_n_steps=4), Spectrum(every_n_steps=4, samples=33, lidar_samples=7, views=3),
        Report(enabled=False),
    )  # fmt: skip
    model = method()
    run.fit(model, datamodule=TinyImages(samples=SAMPLES, batch_size=BATCH), ckpt_path=ckpt_path)
    return {
        "index": torch.stack(record.index),
        "gradient": torch.stack(record.gradient),
        "weights": model.state_dict(),
        "folder": str(run.run_folder),
    }


def evaluate(folder: Path, processes: int) -> dict[str, Any]:
    """`validate`, `test` and `predict`; then the probes' parts by themselves."""
    run, model, data = (
        trainer(folder, processes),
        method(),
        TinyImages(samples=33, batch_size=16),
    )  # rank 0 has a batch more
    torch.nn.init.normal_(
        model.encoder.conv.weight, generator=torch.Generator().manual_seed(0)
    )  # `fit` would broadcast rank 0's
    run.validate(model, datamodule=data, verbose=False)
    found = {"val": dict(run.callback_metrics)}
    run.test(model, datamodule=data, verbose=False)
    found["test"] = dict(run.callback_metrics)
    run.predict(model, datamodule=data)
    labelled = Labelled(data, None, None)
    scores = torch.rand(33, 4, generator=torch.Generator().manual_seed(0))
    found["accuracy"] = labelled.measures(scores, "top1")["top1"]
    found["expected accuracy"] = balanced(scores.argmax(dim=1) == labelled.val_labels, labelled.val_labels)
    found["features"] = embed(model, data, labelled.val)
    index = torch.tensor([32, 5, 0, 7, 7])
    for name, network in (("host", model), ("raw", None)):
        found[name] = features_of(network, data, labelled.val, index, run)
    found["host expected"] = found["features"][index]
    found["first feature"] = embed(model, data, labelled.val, torch.tensor([0]))
    return found


class Fails(SimCLR):
    """Fails in one of the processes, in the middle of a run."""

    def step(self, batch: Any) -> Any:
        if rank() == self.failing_rank and self.global_step == 3:
            raise RuntimeError("this process fails alone")
        return super().step(batch)


def fail(folder: Path, failing_rank: int) -> None:
    model = Fails(TinyEncoder())
    model.failing_rank = failing_rank
    trainer(folder, 2).fit(model, datamodule=TinyImages())


def process(job: str, folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    if job.startswith("fail"):
        fail(folder, int(job[-1]))
        return
    straight = train(folder / "straight", 2)
    resumed = train(folder / "resumed", 2, folder / "one" / f"{FIRST}.ckpt", SECOND)
    torch.save(
        {"straight": straight, "resumed": resumed, "evaluated": evaluate(folder / "evaluated-2", 2)},
        folder / f"{rank()}.pt",
    )


def launch(*command: str, seconds: int = 300) -> subprocess.CompletedProcess[str]:
    """Runs a command that starts further processes; none of them outlives the time, or the test."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True
    )  # fmt: skip
    try:
        out, err = started.communicate(timeout=seconds)  # until the last of them has closed its output
    finally:
        if started.returncode is None:
            os.killpg(started.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, started.returncode, out, err)


@pytest.fixture(scope="module")
def found(run: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process, two, and one -> two -> one."""
    folder = tmp_path_factory.mktemp("processes")
    found: dict[str, Any] = {
        "one": train(folder / "one", 1, save_at=FIRST),
        "evaluated": evaluate(folder / "evaluated-1", 1),
    }
    ended = run(folder, script=[__file__, "train", str(folder)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    found["two"] = [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]
    found["last"] = train(folder / "last", 1, folder / "resumed" / f"{SECOND}.ckpt")
    return found | {"folder": folder, "out": ended["log"]}


def rows(run: dict[str, Any]) -> list[dict[str, float]]:
    with (Path(run["folder"]) / "metrics.csv").open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def shared_out(two: list[dict[str, Any]], run: str) -> torch.Tensor:
    """The samples of each step, of rank 0 and then of rank 1: [steps, BATCH]."""
    return torch.cat([each[run]["index"] for each in two], dim=1)


def test_two_processes_share_out_the_samples_of_one(found: dict[str, Any]) -> None:
    assert found["one"]["index"].shape == (STEPS, BATCH)
    assert torch.equal(shared_out(found["two"], "straight"), found["one"]["index"])


def test_two_processes_have_the_gradients_and_weights_of_one(found: dict[str, Any]) -> None:
    for each in found["two"]:
        error = (each["straight"]["gradient"] - found["one"]["gradient"]).norm(dim=1) / found["one"]["gradient"].norm(
            dim=1
        )
        assert error.max() < 1e-5, error
        assert_close(each["straight"]["weights"], found["one"]["weights"], rtol=0, atol=5e-6)
    for name, value in found["two"][0]["straight"]["weights"].items():
        assert torch.equal(value, found["two"][1]["straight"]["weights"][name]), name


def test_metrics_of_two_processes_are_those_of_one(found: dict[str, Any]) -> None:
    ours, theirs = rows(found["two"][0]["straight"]), rows(found["one"])
    assert {"train/loss", "collapse/std", "collapse/rank", "probe/linear/top1", "probe/knn/top1"} < {
        name for row in theirs for name in row
    }
    assert ours == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in theirs]


def test_the_number_of_processes_may_change_at_a_resume(found: dict[str, Any]) -> None:
    """1 -> 2 -> 1: order, weights and metrics are those of a run that was never stopped."""
    straight, last = found["one"], found["last"]
    assert torch.equal(shared_out(found["two"], "resumed"), straight["index"][FIRST:])
    assert torch.equal(last["index"], straight["index"][SECOND:])
    assert_close(last["weights"], straight["weights"], rtol=0, atol=5e-6)
    assert rows(last) == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in rows(straight)]


def test_two_processes_write_one_run_folder(found: dict[str, Any]) -> None:
    one, two = (Path(run["folder"]) for run in (found["one"], found["two"][0]["straight"]))
    assert [path.name for path in two.parent.iterdir()] == [two.name]
    assert found["two"][1]["straight"]["folder"] == str(two)
    assert {path.relative_to(two) for path in two.rglob("*")} == {path.relative_to(one) for path in one.rglob("*")}
    assert found["out"].count("run folder:") == 2  # two runs
    assert found["out"].count("encoder  ") == 2  # validate, test


def test_validate_test_and_predict_see_each_sample_once(found: dict[str, Any]) -> None:
    one, two = found["evaluated"], found["two"][0]["evaluated"]
    assert one["val"].keys() and one["test"].keys()
    assert_close(two["val"], one["val"])
    assert_close(two["test"], one["test"])
    vectors = [load_vectors(next(found["folder"].glob(f"evaluated-{n}/**/vectors-train.parquet"))) for n in (1, 2)]
    assert torch.equal(vectors[0]["index"], torch.arange(33))
    assert_close(vectors[1].pop("features"), vectors[0].pop("features"))
    assert vectors[0]["label"] == vectors[1]["label"] and vectors[0]["path"] == vectors[1]["path"]


def test_probes_are_reduced_over_processes(found: dict[str, Any]) -> None:
    one = found["evaluated"]
    for each in (one, *(two["evaluated"] for two in found["two"])):
        assert each["accuracy"] == pytest.approx(each["expected accuracy"], abs=1e-6)
        assert_close(each["features"], one["features"])
        assert_close(each["first feature"], one["features"][:1])  # one sample for two processes


def test_features_for_the_table_are_those_of_one_process_and_only_the_first_holds_them(found: dict[str, Any]) -> None:
    one, (first, second) = found["evaluated"], (two["evaluated"] for two in found["two"])
    assert_close(one["host"], one["host expected"])
    for name in ("host", "raw"):
        assert_close(first[name], one[name])
        assert second[name].shape == (0, one[name].shape[1])


@pytest.mark.parametrize("failing_rank", [0, 1])
def test_a_process_that_fails_ends_the_others(run: Any, tmp_path: Path, failing_rank: int) -> None:
    """The second process is started by Lightning, from the first one's command line."""
    ended = run(tmp_path, script=[__file__, f"fail{failing_rank}", str(tmp_path)])
    assert ended["code"] not in (0, -signal.SIGALRM)
    assert "this process fails alone" in ended["log"]


TINY = [
    "--model",
    "simclr",
    "--data",
    "ssl_lightning.testing.TinyImages",
    "--trainer.accelerator",
    "cpu",
    "--trainer.devices",
    "2",
    "--trainer.strategy",
    "ddp",
    "--trainer.max_steps",
    "4",
    "--trainer.precision",
    "32-true",
    "--report.draws",
    "2",
]


def test_the_command_line_runs_two_processes(tmp_path: Path) -> None:
    ended = launch("-m", "ssl_lightning.cli", "fit", *TINY, "--trainer.default_root_dir", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    (folder,) = tmp_path.glob("*/*")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["processes"] == 2 and summary["final/pretrained/linear_10"]["n"] == 2
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml",
        "resolved.yaml",
        "metrics.csv",
        "encoder.safetensors",
        "checkpoints",
        "plots",
    }
    lines = ended.stdout.splitlines()
    for row in ("raw features", "untrained encoder", "pretrained encoder"):
        assert sum(line.startswith(row) for line in lines) == 1, f"one process prints the table: {row}"


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    """Before a further process is started, and by Lightning's own Trainer too."""
    with pytest.raises(ValueError, match=r"batch_size=15 .* --data\.batch_size 16"):
        trainer(tmp_path, 2).fit(method(), datamodule=TinyImages(batch_size=15))
    assert not list(tmp_path.iterdir())
    data = TinyImages(batch_size=15)
    data.trainer = SimpleNamespace(world_size=2)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="batch_size=15"):
        data.setup("fit")


if __name__ == "__main__":
    process(sys.argv[1], Path(sys.argv[2]))
