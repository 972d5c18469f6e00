"""Loggers by short name: what a W&B run holds, read back from its file; loggers in the run folder;
mistakes."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities import rank_zero_only
from ssl_lightning.methods.simclr import SimCLR
from wandb_record import Offline, offline

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.registry import UnknownName
from ssl_lightning.run.loggers import base
from ssl_lightning.run.loggers.csv_file import CSV
from ssl_lightning.run.loggers.tensorboard import TensorBoard
from ssl_lightning.run.loggers.wandb import Wandb
from ssl_lightning.testing import TinyEncoder, TinyImages

ARGV = [
    "fit",
    "--model",
    "simclr",
    "--data",
    "digits",
    "--report.draws",
    "2",
    "--report.train_samples",
    "200",
    "--report.test_samples",
    "100",
]
ARGV += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false"]
WANDB = ["--trainer.logger", "wandb", "--trainer.logger.project", "ssl"]
METRICS = {"train/loss", "train/lr", "probe/linear/top1", "probe/knn/top1", "collapse/std", "collapse/rank"}
METRICS |= {"collapse/agreement", "collapse/growth", "train/grad_norm"}
SPEED = {"speed/samples_per_s", "speed/data_wait"}
FINAL = {
    f"closing/{row}/{column}"
    for row in ("raw", "untrained", "pretrained", "majority")
    for column in ("knn", "linear", "knn_10", "linear_10")
}
FINAL |= {f"{name}/std" for name in FINAL if name.endswith("_10") and "majority" not in name}
PICTURES = {"plots/views", "plots/embedding", "plots/closing"}
PAUSES = """
import time
from pytorch_lightning import Callback

class Pause(Callback):
    def on_train_batch_start(self, trainer, *args):
        time.sleep(3 if trainer.global_step == 6 else 0)
"""


def in_csv(path: Path) -> dict[tuple[int, str], float]:
    with path.open() as file:
        return {
            (int(row["step"]), name): float(value)
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and name != "step"
        }


@pytest.fixture(scope="module")
def fresh(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs on a machine where nobody ever logged in to W&B: an empty home, no variable of W&B's, no
    terminal."""
    without: dict[str, Any] = {name: None for name in os.environ if name.startswith("WANDB_") or name == "NETRC"}
    home, pauses, work = (tmp_path_factory.mktemp(name) for name in ("home", "pauses", "work"))
    (pauses / "pauses.py").write_text(PAUSES)
    return partial(run, environment=without | {"HOME": str(home)}, path=[pauses], cwd=work)


def fit(fresh: Any, root: Path, *argv: str, **spec: Any) -> dict[str, Any]:
    return dict(fresh(root, argv=[*ARGV, "--trainer.default_root_dir", str(root), *argv], **spec))


@pytest.fixture(scope="module")
def trained(fresh: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """20 steps with three loggers."""
    root = tmp_path_factory.mktemp("trained")
    three = "[csv, {class_path: wandb, init_args: {project: ssl, name: first}}, tensorboard]"
    argv = ["--trainer.max_steps", "20", "--trainer.log_every_n_steps", "5", "--knn_probe.every_n_steps", "5"]
    end = fit(fresh, root, *argv, "--trainer.logger", three)
    assert end["code"] == 0, end["log"][-3000:]
    (folder,) = root.glob("simclr-digits/*")
    return folder, end


@pytest.fixture(scope="module")
def run_of_wandb(trained: tuple[Path, dict[str, Any]]) -> Offline:
    (only,) = offline(trained[0])
    return only


@pytest.mark.slow
def test_every_metric_is_there_with_the_value_and_step_of_the_csv_files(trained: Any, run_of_wandb: Offline) -> None:
    ours = in_csv(trained[0] / "metrics.csv")
    assert {name for _, name in ours} == METRICS
    assert run_of_wandb.values(METRICS) == ours
    assert run_of_wandb.values(SPEED) == in_csv(trained[0] / "speed.csv") and run_of_wandb.values(SPEED)
    assert in_csv(trained[0] / "csv" / "version_0" / "logged.csv").items() >= ours.items()


@pytest.mark.slow
def test_steps_never_go_back_and_are_the_axis_of_every_metric(run_of_wandb: Offline) -> None:
    assert run_of_wandb.steps == [0, 5, 10, 15, 20, 20], "one record a step, and one of the closing table"
    assert run_of_wandb.defined["*"].step_metric == "trainer/global_step"


@pytest.mark.slow
def test_the_config_is_the_runs_once_and_nested(trained: Any, run_of_wandb: Offline) -> None:
    config = {name: value for name, value in run_of_wandb.config.items() if name.partition(".")[0] != "_wandb"}
    resolved = config.pop("resolved")
    assert config == yaml.safe_load((trained[0] / "resolved.yaml").read_text())
    assert config["model"]["init_args"]["lr"] is not None and resolved["parameters"] > resolved["classes"] > 1
    assert resolved["precision"] == "32-true" and resolved["processes"] == 1 and resolved["versions/torch"]


@pytest.mark.slow
def test_pictures_and_closing_numbers_are_there(trained: Any, run_of_wandb: Offline) -> None:
    shown = {
        name.rpartition(".")[0]: value
        for row in run_of_wandb.rows
        for name, value in row.items()
        if name.endswith(".filenames")
    }
    assert set(shown) == PICTURES
    for name, (file,) in shown.items():
        content = (run_of_wandb.folder / "files" / file).read_bytes()
        assert content == (trained[0] / f"{name}.png").read_bytes()
        assert hashlib.sha256(content).hexdigest().startswith(Path(file).stem.rpartition("_")[2])
    final = {name: value for name, value in run_of_wandb.summary.items() if name.startswith("closing/")}
    summary = json.loads((trained[0] / "summary.json").read_text())
    assert set(final) == FINAL
    for name, value in final.items():
        name = name.replace("closing/", "final/")
        assert value == (summary[name.removesuffix("/std")]["std"] if name.endswith("/std") else summary[name]["mean"])


@pytest.mark.slow
def test_without_a_login_one_line_says_so_and_the_run_ends_well(
    trained: Any, run_of_wandb: Offline, fresh: Any
) -> None:
    folder, end = trained
    lines = [line for line in end["log"].splitlines() if "W&B" in line or "wandb" in line.lower()]
    assert lines == [
        f"W&B: offline (not logged in). To upload: wandb sync {folder}/wandb/offline-run-*-{run_of_wandb.id}"
    ]
    assert "exit" in run_of_wandb.kinds and run_of_wandb.project == "ssl"
    assert list(fresh.keywords["cwd"].iterdir()) == [], "nothing is written where the run was started"


@pytest.mark.slow
def test_tensorboard_has_the_same_numbers_and_pictures(trained: Any) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(trained[0] / "tensorboard"))
    events.Reload()
    headline = {name for name in FINAL if name.startswith("closing/pretrained/") and not name.endswith("/std")}
    assert set(events.Tags()["scalars"]) == METRICS | SPEED | headline
    for (step, name), value in in_csv(trained[0] / "metrics.csv").items():
        assert value == pytest.approx({event.step: event.value for event in events.Scalars(name)}[step], rel=1e-6)
    assert set(events.Tags()["images"]) == PICTURES


@pytest.mark.slow
def test_a_killed_run_goes_on_under_its_id_and_nothing_that_was_logged_is_lost(fresh: Any, tmp_path: Path) -> None:
    argv = [
        *WANDB,
        "--trainer.max_epochs",
        "2",
        "--trainer.limit_train_batches",
        "4",
        "--trainer.log_every_n_steps",
        "1",
    ]
    argv += [
        "--report.enabled",
        "false",
        "--online_probe.enabled",
        "false",
        "--knn_probe.every_n_steps",
        "3",
        "--resume",
        "auto",
    ]
    killed = fit(fresh, tmp_path, *argv, "--trainer.callbacks", "pauses.Pause", kill=["training step", 7])
    assert killed["code"] == -signal.SIGKILL, killed["log"][-3000:]
    (folder,) = tmp_path.glob("simclr-digits/*")
    resumed = fit(fresh, tmp_path, *argv)
    assert resumed["code"] == 0, resumed["log"][-3000:]
    before, after = offline(folder)
    assert before.id == after.id == json.loads((folder / "wandb.json").read_text())["id"]
    assert before.resumes and after.resumes
    assert set(before.steps) == set(range(1, 7)) and set(after.steps) == set(range(4, 9))
    assert before.steps == sorted(before.steps) and after.steps == sorted(after.steps)
    assert [row["trainer/resumed_from_step"] for row in after.rows if "trainer/resumed_from_step" in row] == [4]
    assert before.values(METRICS) | after.values(METRICS) == in_csv(folder / "metrics.csv")
    assert before.config["model"] == after.config["model"]

    argv = [
        "test",
        "--ckpt_path",
        str(folder),
        *WANDB,
        "--trainer.accelerator",
        "cpu",
        "--trainer.default_root_dir",
        str(tmp_path),
    ]
    tested = fresh(tmp_path, argv=argv)
    assert tested["code"] == 0, tested["log"][-3000:]
    *_, judged = offline(folder)
    assert judged.id == before.id and judged.summary["test/knn"] > 0.5 and judged.rows == []


# In Python, and mistakes.


def trainer(root: Path, **kwargs: Any) -> ssl_lightning.Trainer:
    quiet = {
        "accelerator": "cpu",
        "precision": "32-true",
        "enable_progress_bar": False,
        "callbacks": [Report(enabled=False)],
    }
    return ssl_lightning.Trainer(
        **{"max_steps": 2, "log_every_n_steps": 1, "default_root_dir": str(root), **quiet, **kwargs}
    )


def test_python_takes_the_short_names_too_and_each_run_has_files_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = trainer(tmp_path / "runs", logger=["csv", "tensorboard", CSVLogger(tmp_path / "theirs")])
    assert [type(logger) for logger in ours.loggers] == [CSV, TensorBoard, CSVLogger]
    folders = []
    for _ in range(2):
        ours.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
        assert ours.run_folder is not None
        folders.append(ours.run_folder)
        assert ours.log_dir == str(ours.run_folder)
        assert (
            list(ours.run_folder.glob("tensorboard/events*"))
            and (ours.run_folder / "csv" / "version_0" / "logged.csv").is_file()
        )
    assert folders[0] != folders[1]
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "theirs"}
    first, second = (in_csv(folder / "csv" / "version_0" / "logged.csv") for folder in folders)
    assert {step for step, _ in first} == {step for step, _ in second} == {1, 2}


def test_a_wandb_run_is_started_by_one_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = Wandb()
    logger.open(tmp_path, fits=True)
    logger.log_metrics({"train/loss": 1.0}, step=1)
    logger.experiment.log({"train/loss": 1.0})
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_each_fit_starts_a_wandb_run_of_its_own_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []
    monkeypatch.setattr(Wandb, "_start", lambda self, folder: started.append(folder) or MagicMock())
    ours, folders = trainer(tmp_path, logger="wandb"), []
    for _ in range(2):
        ours.fit_loop.epoch_loop.max_steps = ours.global_step + 1
        ours.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
        folders.append(ours.run_folder)
    assert started == folders and started[0] != started[1]


def test_a_fast_dev_run_logs_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours = trainer(tmp_path, logger=["wandb", "csv"], fast_dev_run=True)
    ours.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert [type(logger) for logger in ours.loggers] == [DummyLogger] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_logger_that_is_not_installed_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    (tmp_path / name).mkdir()  # which `import wandb` would take for a package
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "version", missing)
    with pytest.raises(ModuleNotFoundError, match=f"The logger '{name}' needs .* pip install {name}"):
        trainer(tmp_path, logger=name)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"CSV\(flush_logs_every_n_steps=0\) must be at least 1"):
        CSV(flush_logs_every_n_steps=0)
    with pytest.raises(ValueError, match=r"TensorBoard\(flush_secs=-1\) must be at least 0"):
        TensorBoard(flush_secs=-1)


def test_an_unknown_name_gets_the_nearest_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no logger 'wandbb'\. Did you mean 'wandb'\?"):
        trainer(tmp_path, logger=["csv", "wandbb"])
    for value in ("tensorbord", "[csv, tensorbord]"):
        assert main(["fit", "--model", "simclr", "--data", "digits", "--trainer.logger", value]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert (
            line
            == "ssl-lightning fit: error: There is no logger 'tensorbord'. Did you mean 'tensorboard'? Short names:"
            " csv, tensorboard, wandb."
        )


@pytest.mark.by_default(3)
@pytest.mark.parametrize(
    ("argv", "config", "expected"),
    [
        (["wandb", "--trainer.logger.project", "p"], "", ("ssl_lightning.run.loggers.wandb.Wandb", "p")),
        (["WandbLogger", "--trainer.logger.project", "p"], "", ("pytorch_lightning.loggers.WandbLogger", "p")),
        (
            ["pytorch_lightning.loggers.CSVLogger", "--trainer.logger.save_dir", "x"],
            "",
            ("pytorch_lightning.loggers.CSVLogger", None),
        ),
        ([], "trainer: {logger: tensorboard}", ("ssl_lightning.run.loggers.tensorboard.TensorBoard", None)),
        (
            [],
            "trainer: {logger: {class_path: wandb, init_args: {project: p}}}",
            ("ssl_lightning.run.loggers.wandb.Wandb", "p"),
        ),
        (
            ["--trainer.logger.project", "q"],
            "trainer: {logger: {class_path: wandb, init_args: {project: p}}}",
            ("ssl_lightning.run.loggers.wandb.Wandb", "q"),
        ),
        (["false"], "trainer: {logger: wandb}", False),
        (["null"], "trainer: {logger: wandb}", None),
    ],
)
def test_the_command_line_writes_class_paths(
    argv: list[str], config: str, expected: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(config)
    options = argv if argv[:1] in ([], ["--trainer.logger.project"]) else ["--trainer.logger", *argv]
    with pytest.raises(SystemExit):
        pytest.fail(
            str(
                main(
                    [
                        "fit",
                        "--model",
                        "simclr",
                        "--data",
                        "digits",
                        "--config",
                        str(tmp_path / "c.yaml"),
                        *options,
                        "--print_config",
                    ]
                )
            )
        )
    found = yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]
    assert (
        found if not isinstance(found, dict) else (found["class_path"], found["init_args"].get("project"))
    ) == expected


def test_a_list_of_short_names_in_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("trainer: {logger: [csv, {class_path: wandb, init_args: {project: p}}]}")
    with pytest.raises(SystemExit):
        main(["fit", "--model", "simclr", "--data", "digits", "--config", str(tmp_path / "c.yaml"), "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]
    assert [each["class_path"] for each in found] == [
        "ssl_lightning.run.loggers.csv_file.CSV",
        "ssl_lightning.run.loggers.wandb.Wandb",
    ]
