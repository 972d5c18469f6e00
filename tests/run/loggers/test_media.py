"""Pictures, sounds, texts and tables in W&B and TensorBoard, by the suffix of their file; the names
that say which folder the data was read from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.simclr import SimCLR
from wandb_record import finished

import ssl_lightning
from ssl_lightning.data.sound.listen import save_sounds
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.drawing import caption_of
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.folder.folder import place_name, run_name
from ssl_lightning.run.folder.identity import find_last
from ssl_lightning.run.loggers.tensorboard import TensorBoard, flat, markdown
from ssl_lightning.run.loggers.wandb import Wandb
from ssl_lightning.testing import TinyImages
from ssl_lightning.types import View


@pytest.fixture(autouse=True)
def without_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HOME", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield


@pytest.fixture
def texts(tmp_path: Path) -> TextFiles:
    """A corpus of three short documents."""
    file = tmp_path / "corpus.txt"
    file.write_text("the cat sat | there\n\na dog ran far\n\nbirds sing at dawn\n" * 20)
    return TextFiles(str(file), batch_size=4)


@pytest.fixture
def media(tmp_path: Path, texts: TextFiles) -> dict[str, Path]:
    """A picture, a sound and a table of texts, as datamodules write them."""
    Image.new("RGB", (4, 4), "red").save(tmp_path / "views.png")
    sounds = save_sounds({"original": torch.randn(2, 400)}, 8000, tmp_path)
    ids = torch.tensor([texts.tokenizer.encode(line).ids[:3] for line in ("the cat sat", "a dog ran")])
    shown = texts.show({"original": View(ids), "masked": View(ids.flip(1))}, tmp_path / "pictures.png", compare=True)
    return {"plots/views": tmp_path / "views.png", "plots/sound": sounds["original"]} | {
        f"plots/{name}": path for name, path in shown.items()
    }


def test_texts_to_compare_are_a_table_too(media: dict[str, Path]) -> None:
    assert media["plots/pictures"].suffix == ".png"
    head, first, *_ = media["plots/pictures/texts"].read_text().splitlines()
    assert head == "original,masked" and len(first.split(",")) == 2 and " " in first


def test_wandb_gets_pictures_sounds_and_texts_in_one_record(media: dict[str, Path], tmp_path: Path) -> None:
    logger, run = Wandb(), tmp_path / "run"
    run.mkdir()
    logger.open(run, fits=True)
    for name, path in media.items():
        logger.log_media(name, path, step=3)
    logger.finalize("success")
    (record,) = finished(run)
    (row,) = record.rows
    assert row["plots/views._type"] == row["plots/pictures._type"] == "images/separated"
    assert row["plots/sound._type"] in ("audio", "audio-file") or row["plots/sound.count"] == 1
    columns, rows = record.table("plots/pictures/texts")
    assert columns == ["original", "masked"] and len(rows) == 2 and row["trainer/global_step"] == 3


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder / "tensorboard"), {"tensors": 0})
    read.Reload()
    return read


def text_of(read: Any, name: str) -> str:
    (event,) = read.Tensors(f"{name}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


def test_tensorboard_gets_the_same_and_tables_alarms_and_settings(media: dict[str, Path], tmp_path: Path) -> None:
    logger = TensorBoard()
    logger.open(tmp_path, fits=True)
    config = {"model": {"class_path": "a.B", "init_args": {"lr": 0.1, "encoder": {"class_path": "c.D"}}}, "n": [1, 2]}
    logger.log_hyperparams(config)
    for name, path in media.items():
        logger.log_media(name, path, step=3)
    logger.log_rows("tables/closing", ["row", "kNN, %"], [["raw | features", 12.3456], ["none", None]], step=3)
    logger.alert("train/loss", "It is high.", step=3)
    logger.summarise({"closing/pretrained/knn": 0.5, "closing/raw/knn": 0.25}, ["closing/pretrained/knn"], step=3)
    logger.finalize("success")
    read = events(tmp_path)
    assert set(read.Tags()["images"]) == {"plots/views", "plots/pictures"}
    assert read.Tags()["audio"] == ["plots/sound"] and read.Tags()["scalars"] == ["closing/pretrained/knn"]
    table = "| row | kNN, % |\n| --- | --- |\n| raw \\| features | 12.35 |\n| none |  |"
    assert text_of(read, "tables/closing") == table
    assert text_of(read, "plots/pictures/texts").startswith("| original | masked |")
    assert text_of(read, "alarms/train/loss") == "It is high."
    assert "lr: 0.1" in text_of(read, "config")
    assert dict(flat(config)) == {"model": "a.B", "model.lr": 0.1, "model.encoder": "c.D", "n": "[1, 2]"}
    assert read.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name == "hparams"


def test_markdown_keeps_a_row_on_one_line() -> None:
    assert markdown(["a"], [["x\ny"]]) == "| a |\n| --- |\n| x y |"


# Which folder the data was read from.


@pytest.fixture
def photos(tmp_path: Path) -> ImageFolder:
    folder = tmp_path / "my photos"
    for number in range(24):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (10 * number, 90, 30)).save(path)
    return ImageFolder(str(folder), image_size=16, batch_size=8, workers=0)


def test_run_card_pictures_and_wandb_say_which_folder(photos: ImageFolder, tmp_path: Path) -> None:
    assert place_name(photos) == "my_photos" and place_name(TinyImages()) == ""
    trainer = ssl_lightning.Trainer(
        max_steps=2, accelerator="cpu", precision="32-true", default_root_dir=str(tmp_path / "runs"), logger="wandb",
        enable_progress_bar=False, callbacks=[Report(enabled=False)],
    )  # fmt: skip
    method = SimCLR(ConvEncoder(width=4, depth=3))
    trainer.fit(method, datamodule=photos)
    folder = trainer.run_folder
    assert folder is not None and folder.parent.name == run_name(method, photos) == "simclr-image_folder-my_photos"
    (record,) = finished(folder)
    assert record.run.display_name == f"simclr-image_folder-my_photos/{folder.name}"
    card = (folder / "encoder.md").read_text()
    assert "ImageFolder, my_photos" in card and "simclr-image_folder-my_photos" in card
    title, place, *_ = caption_of(trainer, method)
    assert title == "SimCLR on ImageFolder" and place.endswith("/my photos")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    newest = find_last(tmp_path / "runs", "simclr-image_folder", config, "last")
    assert newest.parent.parent == folder, "a run is found by its settings, in the folder of any data"
    assert json.loads((folder / "wandb.json").read_text()).keys() == {"id", "project"}
