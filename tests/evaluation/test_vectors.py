"""Each row that `predict` writes says which sample it belongs to, and none is another one's."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.testing import TinyEncoder, TinyImages


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


def pictures(root: Path, **arguments: Any) -> ImageFolder:
    for number in range(12):
        path = root / "ab"[number % 2] / f"{number}, or so.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((24, 24), 10 * number + 1).save(path)
    return ImageFolder(str(root), image_size=16, batch_size=4, channels=1, **arguments)


def sounds(root: Path, **arguments: Any) -> AudioFolder:
    write_sounds(root, [f"{'ab'[number % 2]}/{number}, or so.wav" for number in range(12)])
    return AudioFolder(str(root), seconds=0.2, batch_size=4, **arguments)


def predicted(data: Any, encoder: Any, folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    torch.manual_seed(0)
    trainer = ssl_lightning.Trainer(accelerator="cpu", default_root_dir=folder, enable_progress_bar=False)
    trainer.predict(SimCLR(encoder), datamodule=data)
    (path,) = folder.rglob("vectors-*.safetensors")
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return load_file(path), list(csv.DictReader(file))


@pytest.mark.parametrize("modality", [pictures, sounds])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_file_that_cannot_be_read_has_no_vector_of_its_neighbour_s(
    tmp_path: Path, modality: Any, workers: int, capsys: Any
) -> None:
    root = tmp_path / "data"
    data = modality(root, unreadable="skip", max_unreadable=0.2, workers=workers)
    (broken,) = root.rglob("4, or so.*")
    broken.write_bytes(b"no sample")
    vectors, rows = predicted(data, ConvEncoder(width=4, channels=1), tmp_path / "runs")
    assert len(rows) == 12 and torch.equal(vectors["index"], torch.arange(12))
    for row, features, label in zip(rows, vectors["features"], vectors["label"], strict=True):
        path = Path(row["name"])
        assert path.exists() and row["label"] == path.parent.name == "ab"[int(label)]
        assert bool(features.isnan().all()) is (path == broken) is (row["read"] == "no")
        assert bool(features.isnan().any()) is (path == broken)
    told = capsys.readouterr().out
    assert f"1 of them cannot be read, and their vectors are NaN: {broken}" in told


def test_samples_without_names_have_their_numbers(tmp_path: Path) -> None:
    vectors, rows = predicted(TinyImages(samples=20, predict_split="test"), TinyEncoder(), tmp_path)
    assert [row["name"] for row in rows] == [f"sample {number}" for number in range(20)]
    assert [int(row["label"]) for row in rows] == vectors["label"].tolist() == (torch.arange(20) % 4).tolist()
    assert all(row["read"] == "yes" for row in rows) and not vectors["features"].isnan().any()
