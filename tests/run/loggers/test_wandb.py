"""What a W&B run holds: one record a step, best and last, tables, media, the encoder, alarms; and
how it is named."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ssl_lightning.methods.simclr import SimCLR
from wandb_record import Offline, finished

import ssl_lightning
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.loggers.wandb import Wandb, add_later, sweep_settings, title_of
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import Alarm

AXES = {"trainer/global_step", "samples", "epoch"}


class Hot(SimCLR):
    """Raises an alarm at each loss."""

    alarms = (Alarm("contrast", "the loss is high", "Lower it", high=-1e9, patience=1),)

    def step(self, batch: Any) -> Any:
        out = super().step(batch)
        return {**out, "logs": {**out.get("logs", {}), "contrast": out["loss"].detach()}}


@pytest.fixture(scope="module")
def without_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody is logged in, and W&B's caches are in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        home = str(tmp_path_factory.mktemp("home"))
        for name, value in {"HOME": home, "WANDB_MODE": "offline", "WANDB_DATA_DIR": home}.items():
            patch.setenv(name, value)
        yield


def fit(root: Path, logger: Any = "wandb", **report: Any) -> Path:
    callbacks = [
        KNNProbe(every_n_steps=3),
        OnlineLinearProbe(every_n_steps=1, eval_every_n_steps=6),
        Report(**{"draws": 2, "labels_only": False, "layers": False, **report}),
        Health(every_n_steps=6),
    ]
    trainer = ssl_lightning.Trainer(
        max_epochs=2, accelerator="cpu", precision="32-true", default_root_dir=str(root), log_every_n_steps=3,
        enable_progress_bar=False, logger=logger, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(Hot(TinyEncoder()), datamodule=TinyImages(samples=96))
    assert trainer.run_folder is not None
    return trainer.run_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, without_account: None) -> Path:
    """12 steps of 16 samples, with every kind of value that is logged."""
    logger = Wandb(group="first", tags="small, quick", notes="a trial")
    return fit(tmp_path_factory.mktemp("runs"), logger)


@pytest.fixture(scope="module")
def record(folder: Path) -> Offline:
    return next(iter(finished(folder)))


def test_a_step_is_one_record_with_all_axes(record: Offline) -> None:
    *rows, closing = record.rows
    steps = [row["trainer/global_step"] for row in rows]
    assert steps == sorted(set(steps)) and {0, 3, 6, 9, 12} <= set(steps), "the views are at 0"
    assert all(row.keys() >= AXES for row in record.rows)
    assert [row["samples"] for row in rows] == [16 * step for step in steps]
    assert [row["epoch"] for row in rows] == [step / 6 for step in steps]
    together = {"train/loss", "train/grad_norm", "probe/knn/top1", "probe/linear/top1", "speed/samples_per_s"}
    assert rows[-1].keys() >= together and rows[-1]["trainer/global_step"] == 12
    assert {name.partition("/")[0] for name in closing} - {name for name in closing if name[0] == "_"} == {
        "trainer", "samples", "epoch", "plots", "tables",
    }  # fmt: skip


def test_the_summary_has_the_best_and_the_last_value(record: Offline, folder: Path) -> None:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, best in {"train/loss": min, "probe/knn/top1": max, "probe/linear/top1": max}.items():
        values = [float(row[name]) for row in rows if row[name]]
        assert record.summary[name] == {"min" if best is min else "max": best(values), "last": values[-1]}
        assert record.defined[name].step_metric == "trainer/global_step"
    assert record.defined.keys() >= AXES
    assert record.summary["train/lr"] == float(rows[-1]["train/lr"])


def test_the_closing_table_is_one_table_and_its_cells_are_in_the_summary(record: Offline, folder: Path) -> None:
    columns, rows = record.table("tables/closing")
    summary = json.loads((folder / "summary.json").read_text())
    cells = {name: value for name, value in summary.items() if name.startswith("final/")}
    assert columns[:2] == ["row", "kNN all, %"] and any(title.endswith("\N{PLUS-MINUS SIGN}") for title in columns)
    titles = dict(rows=[row[0] for row in rows])["rows"]
    assert titles == ["largest class", "raw features", "untrained encoder", "pretrained encoder"]
    (pretrained,) = (row for row in rows if row[0] == "pretrained encoder")
    assert pretrained[1] == pytest.approx(100 * cells["final/pretrained/knn"]["mean"])
    for name, cell in cells.items():
        assert record.summary[name.replace("final/", "closing/")] == cell["mean"]
    assert not [name for row in record.rows for name in row if name.startswith("closing/")], "no panel of one dot"


def test_the_encoder_is_an_artifact_with_its_card_config_and_pictures(record: Offline, folder: Path) -> None:
    artifact = record.artifacts["model"]
    held = {entry.path: entry.local_path for entry in artifact.manifest.contents}
    assert held.keys() >= {"encoder.safetensors", "encoder.md", "config.yaml", "resolved.yaml", "summary.json"}
    assert held.keys() >= {"plots/closing.png", "plots/views.png"}
    assert all(Path(path).read_bytes() == (folder / name).read_bytes() for name, path in held.items())
    assert artifact.name == folder.parent.name and set(artifact.aliases) == {"latest", folder.name}
    facts = json.loads(artifact.metadata)
    assert facts["dim"] == 8 and facts["steps"] == 12 and 0 <= facts["closing/pretrained/linear"] <= 1


def test_an_alarm_is_an_alert(record: Offline, folder: Path) -> None:
    lines = (folder / "alarms.txt").read_text().splitlines()
    assert ("train/contrast", lines[0]) in record.alerts and len(record.alerts) == len(lines)


def test_the_run_is_found_by_group_tags_notes_and_name(record: Offline, folder: Path) -> None:
    run = record.run
    assert (run.run_group, list(run.tags), run.notes) == ("first", ["small", "quick"], "a trial")
    assert run.display_name == f"{folder.parent.name}/{folder.name}"


def test_what_is_computed_after_a_run_joins_it_and_leaves_its_name(record: Offline, folder: Path) -> None:
    add_later(folder, {"tables/labels-x": (["row", "labels"], [["raw features", 10]])}, {"labels/x/raw/all": 0.5})
    *_, later = finished(folder)
    assert later.id == record.id and later.run.resume and later.run.display_name == ""
    assert later.table("tables/labels-x") == (["row", "labels"], [["raw features", 10]])
    assert later.summary["labels/x/raw/all"] == 0.5


@pytest.mark.slow
def test_without_a_report_or_by_log_model_the_artifact_is_there_or_not(tmp_path: Path, without_account: None) -> None:
    (plain,) = finished(fit(tmp_path / "plain", enabled=False))
    assert {entry.path for entry in plain.artifacts["model"].manifest.contents} >= {"encoder.safetensors", "encoder.md"}
    (without,) = finished(fit(tmp_path / "without", Wandb(log_model=False), enabled=False))
    assert "model" not in without.artifacts


def test_in_a_sweep_a_run_is_named_by_what_it_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = tmp_path / "params.yaml", tmp_path / "simclr-digits" / "2026-01-01_00-00-00"
    assert title_of(folder) == "simclr-digits/2026-01-01_00-00-00"
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(file))
    tried = {"model.lr": 0.01, "model.temperature": 0.1, "encoder.lr": 3, "a.b": 1, "c": 2}
    file.write_text(yaml.safe_dump({"wandb_version": 1, **{name: {"value": each} for name, each in tried.items()}}))
    assert sweep_settings() == "a.b=1 c=2 encoder.lr=3 model.lr=0.01 and 1 more".replace("a.b", "b")
    file.write_text(yaml.safe_dump({"model.temperature": {"value": 0.1}}))
    assert title_of(folder) == "simclr-digits temperature=0.1"


@pytest.mark.parametrize(("entity", "wrong"), [("my team", " "), ("a/b", "/")])
def test_an_entity_that_cannot_be_is_told_before_anything_runs(entity: str, wrong: str) -> None:
    """W&B says so once it uploads: of an offline run after days."""
    message = f"W&B can have no user or team {entity!r}; give one without {wrong!r}."
    with pytest.raises(ValueError, match=re.escape(message)):
        Wandb(entity=entity)
    Wandb(entity="my-team_2")
