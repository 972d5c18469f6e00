"""Each row that `predict` writes says which sample it belongs to, and none is another one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.methods.simclr import SimCLR
from vectors_file import load_vectors

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


def predicted(data: Any, encoder: Any, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    trainer = ssl_lightning.Trainer(accelerator="cpu", default_root_dir=folder, enable_progress_bar=False)
    trainer.predict(SimCLR(encoder), datamodule=data)
    (path,) = folder.rglob("vectors-*.parquet")
    return load_vectors(path)


@pytest.mark.parametrize("modality", [pictures, sounds])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_file_that_cannot_be_read_has_no_vector_of_its_neighbour_s(
    tmp_path: Path, modality: Any, workers: int, capsys: Any
) -> None:
    root = tmp_path / "data"
    data = modality(root, unreadable="skip", max_unreadable=0.2, workers=workers)
    (broken,) = root.rglob("4, or so.*")
    broken.write_bytes(b"no sample")
    vectors = predicted(data, ConvEncoder(width=4, channels=1), tmp_path / "runs")
    paths = [Path(path) for path in vectors["path"]]
    assert len(paths) == 11 and broken not in paths and all(path.exists() for path in paths)
    assert vectors["label"] == [path.parent.name for path in paths]
    assert len(vectors["index"].unique()) == 11 and not vectors["features"].isnan().any()
    told = capsys.readouterr().out
    assert f"1 sample cannot be read, and has no row: {broken}" in told


def test_samples_without_names_have_their_numbers(tmp_path: Path) -> None:
    vectors = predicted(TinyImages(samples=20, predict_split="test"), TinyEncoder(), tmp_path)
    assert vectors["path"] == [f"sample {number}" for number in range(20)]
    assert vectors["label"] == [str(number % 4) for number in range(20)]
    assert vectors["split"] == ["test"] * 20 and not vectors["features"].isnan().any()
