"""Checkpoints, configs and encoder files from before the modules moved: they load, evaluate, and
runs go on to the same weights."""

from __future__ import annotations

import csv
import importlib
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from vectors_file import load_vectors

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.archive import read
from ssl_lightning.plugins.moved import CLASSES, renamed_states
from ssl_lightning.types import View

BEFORE = Path(__file__).parents[1] / "before_the_move"
CKPT = "step-00000012.ckpt"
ALONE = ("--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run folder, in an otherwise empty directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(BEFORE / "run", tmp_path / "run"))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_end(folder: Path) -> None:
    """Weights, optimizer and metrics are those that the code of then reached; the probe's head
    learns with weights of the classes since, and accuracies are balanced."""
    end, then = (read(path) for path in (folder / "checkpoints" / "step-00000024.ckpt", BEFORE / "end.ckpt"))
    assert end["state_dict"].keys() == then["state_dict"].keys()
    for name, weights in then["state_dict"].items():
        torch.testing.assert_close(end["state_dict"][name], weights, rtol=1e-3, atol=1e-4, msg=name)
    probe, head = (each["callbacks"]["online_probe"] for each in (end, then))
    assert probe["steps"] == head["steps"] == 12
    torch.testing.assert_close(probe["heads"], head["heads"], rtol=1, atol=0.05)
    expected, written = then["callbacks"]["metrics"]["metrics"], rows(folder)
    for name, column in expected.items():
        if column[-1] is None:  # logged after the checkpoint was written
            written[-1][name] = ""
    table = {name: [float(row[name]) if row[name] else None for row in written] for name in written[0]}
    assert table.keys() >= expected.keys() and table["step"] == expected["step"]
    for name, column in expected.items():
        if name.startswith("probe/"):
            continue
        values, before = (
            torch.tensor([math.nan if x is None else float(x) for x in each]) for each in (table[name], column)
        )
        torch.testing.assert_close(values, before, rtol=1e-2, atol=0.03, equal_nan=True, msg=name)
    assert end["callbacks"]["meter"]["samples"] == 24 * 64


def test_a_run_goes_on_by_its_config_to_the_same_end(folder: Path) -> None:
    """The logger's class has moved, the probe's key is another, the alarm counts on from its six
    looks to the eighth, and no state is left over."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not main(["fit", "--config", "run/config.yaml", "--ckpt_path", f"run/checkpoints/{CKPT}"])
    assert_same_end(folder)
    assert [row["step"] for row in rows(folder)][-1] == "24" and (folder / "csv").is_dir()
    said = [str(each.message) for each in caught]
    alarms = [each for each in said if "dimensional collapse" in each]
    assert len(alarms) == 1 and alarms[0].startswith("SimCLR, step 16: ")
    assert not [each for each in said if "callbacks used to create the checkpoint" in each]


def test_a_run_goes_on_from_its_folder(folder: Path) -> None:
    """`load` and `Trainer.fit`, without the command line: the schedule, the order of the data and
    the weights are those of then."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    method = ssl_lightning.load(folder).train()
    trainer = ssl_lightning.Trainer(
        max_epochs=4,
        limit_train_batches=6,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(folder.parent),
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    data: Any = importlib.import_module("ssl_lightning.datamodules.digits").Digits(**config["data"]["init_args"])
    trainer.fit(method, datamodule=data, ckpt_path=folder / "checkpoints" / CKPT)
    then = read(BEFORE / "end.ckpt")["state_dict"]
    for name, weights in then.items():
        torch.testing.assert_close(method.state_dict()[name], weights, rtol=1e-3, atol=1e-4, msg=name)


def test_the_weights_are_loaded_as_they_are(folder: Path) -> None:
    weights = ssl_lightning.load(folder).state_dict()
    recorded = torch.load(folder / "checkpoints" / CKPT, weights_only=True)["state_dict"]
    assert weights.keys() == recorded.keys() and all(torch.equal(weights[name], recorded[name]) for name in recorded)


@pytest.mark.slow
def test_it_is_evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then: 62.7 and 68.5 % with all labels by kNN and linear, 1,400 vectors of 8 features."""
    assert not main(["test", "--ckpt_path", f"run/checkpoints/{CKPT}", *ALONE])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pretrained encoder")]
    knn, _, _, _, linear, *_ = line.split()[2:]
    assert float(knn) == pytest.approx(62.7, abs=1.5) and float(linear) == pytest.approx(68.5, abs=1.5)
    assert not main(["predict", "--ckpt_path", f"run/checkpoints/{CKPT}", *ALONE])
    vectors = load_vectors(folder / "vectors-train.parquet")
    assert vectors["features"].shape == (1400, 8) and len(vectors["index"]) == 1400


def test_an_encoder_file_names_a_class_that_has_moved() -> None:
    pytest.importorskip("transformers")
    encoder = ssl_lightning.load_encoder(BEFORE / "hf_text.safetensors")
    with torch.no_grad():
        features = encoder(View(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])))
    expected = torch.tensor(
        [
            [-0.7231, 0.1520, -0.3288, 0.5564, 1.3227, -0.4463, -0.6806, 0.1477],
            [-0.3293, -0.3699, -0.2664, 0.6833, 0.9586, -0.4219, -0.6704, 0.4161],
        ]
    )
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)


def test_what_alarms_had_counted_is_kept() -> None:
    """Those of a method, and the one of the collapse monitor, which knew two measures."""
    then = {"Metrics": {}, "Health": {"outside": {"masked": 2}}, "CollapseMonitor": {"low": 1, "alarmed": False}}
    outside = renamed_states(then)["health"]["outside"]
    assert outside == {"train/masked": 2, "collapse/std": 1, "collapse/rank": 1}
    then["CollapseMonitor"] = {"low": 0, "alarmed": True}
    outside = renamed_states(then)["health"]["outside"]
    assert outside["collapse/std"] == outside["collapse/rank"] > 10**6  # raised, and so not again


def test_states_of_now_are_left_as_they_are() -> None:
    """Also a user's own, whose class bears a name that was ours."""
    now = {"metrics": {}, "health": {"outside": {}}, "CollapseMonitor": {"mine": 1}, "Checkpoint": {"mine": 2}}
    assert renamed_states(now) == now


@pytest.mark.parametrize("path", CLASSES.values())
def test_what_has_moved_is_where_it_is_said_to_be(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)
