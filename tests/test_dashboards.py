"""`dashboards/`: an agent's command is one of ours, and every panel shows something that a run
logs."""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_record import Offline, offline

from ssl_lightning.cli.command import load
from ssl_lightning.cli.names import Names
from ssl_lightning.cli.request import read_request

DASHBOARDS = Path(__file__).parents[1] / "dashboards"
SWEEP = yaml.safe_load((DASHBOARDS / "sweep.yaml").read_text())
TRIED = {"model.lr": 0.003, "model.temperature": 0.2}
QUICK = (
    "--trainer.max_steps 20 --trainer.log_every_n_steps 5 --trainer.accelerator cpu --trainer.enable_progress_bar false"
    " --knn_probe.every_n_steps 10 --spectrum.every_n_steps 10 --report.train_samples 200 --report.test_samples 100"
    " --report.draws 1 --report.labels_only false"
)
MEDIA = ("plots/", "tables/")


def command() -> list[str]:
    """What W&B's agent runs: the command of the sweep with its macros replaced."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    arguments = create_sweep_command_args({"args": {name: {"value": value} for name, value in TRIED.items()}})
    macros = {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"], "${program}": [SWEEP["program"]]}
    macros["${args}"] = arguments["args"]
    return [part for each in create_sweep_command(list(SWEEP["command"])) for part in macros.get(each, [each])]


def test_an_agents_command_parses_and_tries_what_the_sweep_says() -> None:
    assert SWEEP["parameters"].keys() == TRIED.keys()
    program, *argv = command()[1:]
    request = read_request(argv, Names(load))
    assert program == "ssl-lightning" and request.command == "fit"
    assert {name: request.chosen[name] for name in TRIED} == TRIED


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offline]:
    """The sweep's run as an agent starts it, offline and short."""
    root = tmp_path_factory.mktemp("sweep")
    parameters = root / "parameters.yaml"
    parameters.write_text(yaml.safe_dump({name: {"value": value} for name, value in TRIED.items()}))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "abc", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    environment = {**os.environ, **variables, "WANDB_RUN_ID": "r1", "HOME": str(root), "PATH": path}
    argv = [*command(), *shlex.split(QUICK), "--trainer.default_root_dir", str(root / "runs")]
    done = subprocess.run(argv, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (root / "runs").glob("simclr-digits/*")
    (only,) = offline(folder)
    yield only


@pytest.mark.slow
def test_a_run_of_the_sweep_has_its_metric_and_a_name_of_what_it_tries(run: Offline) -> None:
    assert run.run.display_name == "simclr-digits lr=0.003 temperature=0.2" and run.id == "r1"
    assert run.config["model"]["init_args"]["temperature"] == 0.2 and run.run.job_type == "sweep"
    assert 0.5 < run.summary[SWEEP["metric"]["name"]] <= 1, "a plain value in the summary, as a sweep reads it"


def shown(file: str, function: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("wandb_workspaces")
    monkeypatch.syspath_prepend(str(DASHBOARDS))
    return runpy.run_path(str(DASHBOARDS / file))[function]("entity", "project")


def names_in(panels: list[Any]) -> set[str]:
    """The metrics, tables and pictures that panels show, and their axes."""
    names: set[str] = set()
    for panel in panels:
        for field in ("x", "y", "metrics", "table_name", "media_keys", "with_respect_to"):
            value = getattr(panel, field, None) or []
            names |= {str(getattr(each, "name", each)) for each in (value if isinstance(value, list) else [value])}
    return names


@pytest.mark.slow
def test_each_panel_of_workspace_and_report_shows_what_a_run_logs(
    run: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = shown("workspace.py", "workspace", monkeypatch)
    panels = [panel for section in workspace.sections for panel in section.panels]
    report = shown("report.py", "report", monkeypatch)
    grids = [panel for block in report.blocks for panel in getattr(block, "panels", [])]
    for names in (names_in(panels), names_in(grids)):
        assert len(names) > 12 and names - run.keys == set()
    assert workspace._to_model().spec.section.panel_bank_config.sections, "W&B's own form of it can be built"
    assert {"samples", "epoch"} <= names_in(panels)
