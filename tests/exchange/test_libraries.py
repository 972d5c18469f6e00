"""Checkpoints of lightning-bolts 0.7.0 and solo-learn 1.0.2, written by their own classes in
environments of their own, beside the PyTorch Lightning 1.9.5 that they need; imported, their
networks compute the same features here to 1e-5 of their scale.

Each environment takes torch and what else is there from the one of the tests, and a few megabytes
from the package index; where that cannot be reached, the tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

from ssl_lightning import load_encoder
from ssl_lightning.exchange.foreign.imported_file import import_encoder
from ssl_lightning.exchange.foreign.importing import Choice
from ssl_lightning.types import View

SCRIPTS = Path(__file__).with_name("libraries")
BOLTS = ("lightning-bolts==0.7.0", "pytorch-lightning==1.9.5", "setuptools<70")  # with pkg_resources
OF_BOLTS = (
    "simclr",
    "simclr_resnet50",
    "simclr_cifar",
    "simclr_cifar_pool",
    "simclr_stl",
    "moco",
    "moco_mlp",
    "moco, key",
    "byol",
    "byol, target",
    "simsiam",
    "swav",
    "swav_cifar",
    "cpc_resnet18",
    "cpc",
)
OF_SOLO = (
    "simclr",
    "simclr_cifar",
    "simclr_vit",
    "byol",
    "byol_cifar, momentum",
    "mocov2plus",
    "swav",
    "dino_vit",
    "dino_vit, momentum",
    "simsiam",
)


def environment(folder: Path, *packages: str) -> Path:
    """The Python of a new environment with these packages, without what they depend on; else what
    is installed here."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "zz_shared.pth").write_text(str(Path(torch.__file__).parents[1]))
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", *packages]
    if subprocess.run(pip, check=False, capture_output=True, timeout=300).returncode:
        pytest.skip(f"{packages[0]} cannot be installed")
    return python


def written(python: Path, script: str, folder: Path, name: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint that a library writes, with random images and their features."""
    command = [str(python), str(SCRIPTS / script), str(folder), name]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, env=clean, cwd=folder, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return folder / f"{name}.ckpt", torch.load(folder / f"{name}.pt")


def difference(file: Path, kept: dict[str, torch.Tensor]) -> float:
    network = file.stem.partition(", ")[2] or None
    import_encoder(file, file.parent / "out", Choice(network=network))
    encoder = load_encoder(file.parent / "out")
    with torch.no_grad():
        ours, theirs = encoder(View(kept["images"])), kept["features"].flatten(1)
    file.unlink()
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def bolts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("bolts"), *BOLTS)


@pytest.fixture(scope="module")
def solo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("solo"), "solo-learn==1.0.2", "einops", *BOLTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_BOLTS)
def test_features_equal_those_in_bolts(name: str, bolts: Path, tmp_path: Path) -> None:
    assert difference(*written(bolts, "bolts_checkpoints.py", tmp_path, name)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_SOLO)
def test_features_equal_those_in_solo_learn(name: str, solo: Path, tmp_path: Path) -> None:
    assert difference(*written(solo, "solo_checkpoints.py", tmp_path, name)) < 1e-5
