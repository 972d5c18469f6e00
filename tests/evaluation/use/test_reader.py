"""One reader for every modality: whatever form an item has, its features are those of its file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from ssl_lightning import Reader
from ssl_lightning.data.images.picture import UnreadablePicture
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.testing import TinyEncoder


def test_an_image_is_read_from_whatever_holds_it(image_encoder: Path, photos: Path, tmp_path: Path) -> None:
    read, path = Reader(image_encoder), next(photos.rglob("07.png"))
    image = Image.open(path)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    items = [path, str(path), path.read_bytes(), image, array, tensor]
    features = read(items)
    assert features.shape == (6, 8) and features.std(dim=0).max() < 1e-6
    floats = read([array / 255, tensor / 255])
    assert torch.allclose(floats, features[:2], atol=0.02) and not torch.allclose(floats, read([array, array]) * 1.5)
    assert torch.equal(read(np.stack([array, array])), features[:2])
    view = read.view([path])
    assert view.x.shape == (1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(read.encoder(view), features[:1], atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16", "F", "YCbCr"])
def test_every_mode_of_pillow_is_read_as_from_a_file(
    mode: str, image_encoder: Path, photos: Path, tmp_path: Path
) -> None:
    read = Reader(image_encoder)
    grey = Image.open(next(photos.rglob("07.png"))).convert("L")
    image = grey.convert("RGB").convert(mode) if mode not in ("I;16", "F") else (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    )  # fmt: skip
    assert image.mode == mode
    assert torch.allclose(read([image]), read([grey]), atol=0.05), "they show the same"


def test_the_orientation_of_a_photo_is_heeded(image_encoder: Path, photos: Path, tmp_path: Path) -> None:
    image = Image.open(next(photos.rglob("07.png")))
    exif = Image.Exif()
    exif[274] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    read = Reader(image_encoder)
    turned = read([tmp_path / "turned.png", Image.open(tmp_path / "turned.png")])
    assert torch.equal(turned[0], turned[1]) and not torch.allclose(turned[0], read([image])[0])


def test_sounds_and_texts(sound_encoder: Path, sounds: Path, text_encoder: Path, tmp_path: Path) -> None:
    read, path = Reader(sound_encoder), sounds / "a" / "0.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    features = read([path, (samples, rate), (torch.from_numpy(samples), rate)])
    assert features.std(dim=0).max() < 1e-6
    read = Reader(text_encoder)
    (tmp_path / "a.txt").write_text("some words\n\nand more words")
    assert torch.equal(*read(["some words\n\nand more words", tmp_path / "a.txt"]).split(1))
    assert read(["", "a text"]).isfinite().all() and read([]).shape == (0, 8)


def test_the_one_file_is_enough_and_batches_change_nothing(
    image_encoder: Path, photos: Path, text_encoder: Path, tmp_path: Path
) -> None:
    for file, items in ((image_encoder, sorted(photos.rglob("[0-9]*.png"))), (text_encoder, ["a text", "another"] * 5)):
        alone = tmp_path / f"alone {file.parent.name}.safetensors"
        shutil.copy(file, alone)
        assert torch.allclose(Reader(alone, batch_size=3)(items), Reader(file)(items), atol=1e-6)


def test_what_cannot_be_read_is_named(
    image_encoder: Path, photos: Path, text_encoder: Path, sound_encoder: Path
) -> None:
    read = Reader(image_encoder)
    with pytest.raises(UnreadablePicture, match=r"broken\.png"):
        read([photos / "train" / "a" / "broken.png"])
    for item, message in (
        (3, "image 0 is a int; give a path"),
        (np.zeros(4), "shape"),
        (np.full((8, 8, 3), 200.0), "image 0: "),  # of floats beyond 1 nobody knows what is white
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            read([item])
    single: list[tuple[Reader, Any]] = [
        (read, "a.png"),
        (Reader(text_encoder), "a text"),
        (Reader(sound_encoder), Path("a.wav")),
    ]
    for reader, one in single:
        with pytest.raises(TypeError, match=r"not a list of items; give \[item\]"):
            reader(one)
    with pytest.raises(TypeError, match="text 0 is a int"):
        Reader(text_encoder)([3])
    with pytest.raises(ValueError, match="batch_size=0"):
        Reader(image_encoder, batch_size=0)


def test_a_file_does_not_say_what_it_reads_or_names_what_it_may_not(tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    facts: list[tuple[dict[str, Any], str]] = [
        ({}, "does not say what kind of data"),
        ({"reads": "nosuch.module.Boom"}, "neither registered"),
        ({"reads": "ssl_lightning.encoders.conv.ConvEncoder"}, "no datamodule of ssl_lightning"),
    ]
    for given, message in facts:
        save_encoder(TinyEncoder(), file, **given)
        with pytest.raises(ValueError, match=message):
            Reader(file)
