"""Encoders' files of each modality, whose weights are nowhere zero or one by construction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_lightning.data.text.documents import Texts
from ssl_lightning.data.text.tokenizer import train_tokenizer
from ssl_lightning.encoders.classifier import Classifier
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.encoders.vit import VIT, ViTEncoder
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.run.checkpoints.encoder_file import save_encoder

SMALL: dict[str, Any] = {"dim": 32, "depth": 2, "heads": 2}
SOUND = {"features": "wave", "sample_rate": 8000, "seconds": 0.5, "normalise": True}


def shaken(module: nn.Module) -> Any:
    """A module whose weights and statistics were all moved."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer += 0.1 * torch.randn_like(buffer)
        if name.endswith("running_var"):
            buffer += 0.5 * torch.rand_like(buffer)
    return module.eval()


def images(size: int, channels: int = 3) -> dict[str, str]:
    recipe = {"mean": [0.4] * channels, "std": [0.2] * channels}
    return {"image.json": json.dumps({"image_size": size, "channels": channels, "augmentation": recipe})}


def vit(**settings: Any) -> ViTEncoder:
    return ViTEncoder(VIT, image_size=32, patch_size=8, **{**SMALL, **settings})


def texts() -> dict[str, str]:
    trained = train_tokenizer(Texts("texts", ["a text and another one", "some words"] * 20), vocab_size=300)
    return {"tokenizer.json": trained.to_str(), "text.json": json.dumps({"row_length": 32})}


ENCODERS: dict[str, Callable[[], tuple[Any, dict[str, str], str]]] = {
    "resnet": lambda: (TimmEncoder("resnet18", channels=1), images(32, 1), "images"),
    "small resnet": lambda: (TimmEncoder("resnet18", small_images=True), images(32), "images"),
    "vit": lambda: (vit(), images(32), "images"),
    "grey vit of tokens": lambda: (vit(channels=1, pooling="token"), images(32, 1), "images"),
    "vit with a norm behind the pooling": lambda: (
        ViTEncoder("vit_mediumd_patch16_reg4_gap_256", image_size=64, **SMALL), images(64), "images"
    ),
    "mixer": lambda: (TimmEncoder("mixer_s32_224", image_size=64), images(64), "images"),
    "classifier": lambda: (Classifier(vit(), ["ant", "bee", "cat"]), images(32), "images"),
    "resnet classifier": lambda: (Classifier(TimmEncoder("resnet18"), ["ant", "bee"]), images(32), "images"),
    "wave": lambda: (WaveTransformer(size="tiny", maps=16, **SMALL), {"sound.json": json.dumps(SOUND)}, "sound"),
    "wave of groups": lambda: (
        WaveTransformer(size="tiny", maps=16, stem="group", norm="post", **SMALL),
        {"sound.json": json.dumps({**SOUND, "normalise": False})},
        "sound",
    ),
    "text": lambda: (TextTransformer(vocab_size=300, max_length=32, **SMALL), texts(), "text"),
    "text of first tokens": lambda: (
        TextTransformer(vocab_size=300, max_length=32, norm="post", pooling="first", **SMALL), texts(), "text"
    ),
}  # fmt: skip
CLASSES = {"images": "ImageDataModule", "sound": "SoundDataModule", "text": "TextDataModule"}


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the file of an encoder by its name in `ENCODERS`."""
    folder, files = tmp_path_factory.mktemp("encoders"), {}

    def file(name: str) -> Path:
        if name not in files:
            encoder, artifacts, modality = ENCODERS[name]()
            files[name] = folder / f"{name.replace(' ', '_')}.safetensors"
            reads = f"ssl_lightning.data.{modality}.datamodule.{CLASSES[modality]}"
            save_encoder(shaken(encoder), files[name], artifacts, reads=reads)
        return files[name]

    return file
