"""`fit --from`: what the user does not name is as in the run that a run starts from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ssl_lightning import load
from ssl_lightning.cli.main import main

QUICK: list[str] = shlex.split(
    "--trainer.max_steps 2 --online_probe.enabled false --knn_probe.enabled false --report.enabled false"
    " --trainer.accelerator cpu --trainer.enable_progress_bar false"
)


def fitted(root: Path, *argv: str) -> Path:
    """The folder of a run."""
    assert main(["fit", *argv, *QUICK, "--trainer.default_root_dir", str(root)]) == 0
    return max(root.glob("*/*"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = "--model.temperature 0.3 --model.hidden_dim 32 --data.batch_size 64"
    return fitted(tmp_path_factory.mktemp("first"), *f"--model simclr --data digits {settings}".split())


def config_of(folder: Path) -> Any:
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_a_run_alone_says_method_settings_and_data(first: Path, tmp_path: Path) -> None:
    folder = fitted(tmp_path, "--from", str(first), "--model.lr", "0", "--seed_everything", "7")
    config = config_of(folder)
    model, data = (config[key]["init_args"] for key in ("model", "data"))
    assert (model["temperature"], model["lr"], data["batch_size"], data["seed"]) == (0.3, 0.0, 64, 7)
    assert config["start"]["weights"] == str(first)
    weights = [{name: each for name, each in load(run).named_parameters()} for run in (first, folder)]
    assert all(torch.equal(each, weights[1][name]) for name, each in weights[0].items())


@pytest.mark.slow
def test_another_method_takes_the_encoder_and_how_its_data_was_prepared(first: Path, tmp_path: Path) -> None:
    folder = fitted(
        tmp_path, "--from", str(first / "encoder.safetensors"), "--model", "byol", "--data", "digits", "--model.lr", "0"
    )
    weights = [load(run).backbone.state_dict() for run in (first, folder)]
    learned = [name for name, _ in load(first).backbone.named_parameters()]
    assert learned and all(torch.equal(weights[0][name], weights[1][name]) for name in learned)


def test_the_same_command_goes_on_with_its_own_run(first: Path, tmp_path: Path, capsys: Any) -> None:
    """`--resume auto` tells runs apart by what they started from."""
    named = ["--model", "simclr", "--data", "digits", "--resume", "auto"]
    start = ["--from", str(first / "encoder.safetensors"), *named]
    folder = fitted(tmp_path, *start)
    assert fitted(tmp_path, *start, "--trainer.max_steps", "3") == folder
    assert fitted(tmp_path, *named) != folder
    assert "start.weights" in capsys.readouterr().out


def test_wrong_uses_are_told_in_a_line(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(first / "encoder.safetensors")
    named = ["--model", "simclr", "--data", "digits"]
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "encoder.safetensors"
    damaged.write_bytes(Path(weights).read_bytes()[:500])
    for argv, message in (
        (["--from", str(tmp_path / "none")], f"--from {tmp_path / 'none'}: There is no"),
        (["--from", str(empty)], "There is no encoder.safetensors in"),
        (["--from", str(damaged), *named], "is not a whole safetensors file"),
        (["--from", weights], "holds an encoder, and no method"),
        (["--from", weights, "--model", "simclr"], "Missing: --data"),
        (["--from", str(first), "--model", "mae"], "a ConvEncoder is not cut into tokens"),
        (["--from", str(first), "--model", "bert", "--data", "python_docs"], "needs a TextEncoder, such as"),
        (["--from", str(first), "--model.hidden_dim", "16"], "--start.heads false"),
        (["--from", str(first), "--model.encoder", "resnet18"], "the weights do not fit"),
        (["--from", "timm:resnet81", *named], "timm has no model 'resnet81'"),
        (["--from", str(first), "--start.frozen_epochs", "-1"], "must be at least 0"),
        (["--from", weights, *named, "--start.optimizer", "true"], "holds no optimizer"),
        (["--from"], "needs a value"),
        ([*named, "--start.optimizer", "true"], "no weights to start from"),
    ):  # fmt: skip
        code = main(["fit", *argv, *QUICK, "--trainer.default_root_dir", str(tmp_path / "runs")])
        err = capsys.readouterr().err
        lines = [line for line in err.splitlines() if line.startswith("ssl-lightning fit: error: ")]
        assert code == 2 and len(lines) == 1 and message in lines[0] and "Traceback" not in err, (argv, err)
