"""Checkpoints of every version kept in `tests/versions`: they load, give equal features, and runs
go on from them to the same end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from versions.write import END, HALF, RUNS, TEXTS, machine

from ssl_lightning import View, __version__, load, load_encoder
from ssl_lightning.cli.main import main

VERSIONS = Path(__file__).parents[1] / "versions"
KEPT = sorted(path.parent for path in VERSIONS.glob("*/*/features.safetensors"))


def test_each_version_keeps_an_image_a_text_and_a_sound_run() -> None:
    versions = {path.parent.name for path in KEPT}
    assert __version__ in versions and len(KEPT) == len(versions) * len(RUNS)


def assert_features(encoder: torch.nn.Module, kept: Path, name: str, rtol: float, atol: float) -> None:
    with safe_open(kept / "features.safetensors", framework="pt") as file:
        x, expected, made_by = file.get_tensor("x"), file.get_tensor(name), file.metadata()
    with torch.no_grad():
        features = encoder(View(x))
    if made_by == machine() and torch.get_num_threads() == 1:
        rtol = atol = 0.0
    torch.testing.assert_close(features, expected, rtol=rtol, atol=atol)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: f"{kept.parent.name}-{kept.name}")
def test_it_loads_with_equal_features(kept: Path) -> None:
    """From the checkpoint, the run folder, and the encoder's file."""
    for encoder in (
        load(kept / "run" / "checkpoints" / HALF).backbone, load(kept / "run").backbone,
        load_encoder(kept / "encoder.safetensors"),
    ):  # fmt: skip
        assert_features(encoder, kept, "features", rtol=1e-5, atol=1e-6)


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "kept",
    [pytest.param(each, marks=pytest.mark.slow) if each.name == "next_step" else each for each in KEPT],
    ids=lambda kept: f"{kept.parent.name}-{kept.name}",
)
def test_its_run_goes_on_to_the_same_end(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(TEXTS, tmp_path)
    shutil.copytree(kept / "run", tmp_path / "run")
    assert not main(["fit", "--config", "run/config.yaml", "--ckpt_path", f"run/checkpoints/{HALF}"])
    assert_features(load(tmp_path / "run" / "checkpoints" / END).backbone, kept, "end", rtol=1e-2, atol=1e-3)
