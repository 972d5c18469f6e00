"""Encoders' files of each modality, and folders of what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.datamodules.text_files import TextFiles

from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.plugins.record import class_path
from ssl_lightning.run.checkpoints.encoder_file import save_encoder


def leave(encoder: Any, data: Any, file: Path) -> Path:
    """Writes an encoder's file as a run on some data does."""
    data.prepare_data()
    save_encoder(encoder.eval(), file, data.artifacts(), reads=class_path(data.reads_items()))
    return file


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes in two splits, 24 images, and one that cannot be read."""
    random = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "photos" / ("train" if number % 3 else "test") / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20 + number, 24, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "train" / "a" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


@pytest.fixture
def image_encoder(tmp_path: Path, photos: Path) -> Path:
    torch.manual_seed(0)
    encoder = ConvEncoder(channels=3, width=4, depth=2)
    return leave(encoder, ImageFolder(str(photos), image_size=16), tmp_path / "image" / "encoder.safetensors")


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    write_sounds(tmp_path / "sounds", [f"{'ab'[number % 2]}/{number}.wav" for number in range(6)])
    return tmp_path / "sounds"


@pytest.fixture
def sound_encoder(tmp_path: Path, sounds: Path, own_cache: None) -> Path:
    torch.manual_seed(0)
    data = AudioFolder(str(sounds), seconds=0.1, mels=16)
    return leave(ConvEncoder(channels=1, width=4, depth=2), data, tmp_path / "sound" / "encoder.safetensors")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    lines = [f"{number % 2},{'some words and ' * number}text {number}" for number in range(1, 13)]
    (tmp_path / "texts.csv").write_text("label,text\n" + "\n".join(lines))
    return tmp_path / "texts.csv"


@pytest.fixture
def text_encoder(tmp_path: Path, texts: Path, own_cache: None) -> Path:
    torch.manual_seed(0)
    data = TextFiles(str(texts), row_length=16, vocab_size=300)
    encoder = TextTransformer(vocab_size=300, dim=8, depth=1, heads=2, max_length=16)
    return leave(encoder, data, tmp_path / "text" / "encoder.safetensors")
