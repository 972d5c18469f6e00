"""`ssl-lightning probe` by protocols on tokens, from files to tables, in every modality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.datamodules.text_files import TextFiles

from ssl_lightning.cli.main import main
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.testing import TinyTokenEncoder

from .conftest import leave

QUICK = [
    "--set",
    "attentive.least_steps=4",
    "--set",
    "attentive.epochs=2",
    "--set",
    "attentive.lr=[0.001,0.01]",
    "--set",
    "attentive.weight_decay=0.01",
]
SMALL = ["--data", "digits", "--train-samples", "120", "--test-samples", "60"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    leave(TinyTokenEncoder(), Digits(image_size=16), tmp_path / "run" / "encoder.safetensors")
    return tmp_path / "run"


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def by_row(result: dict[str, Any], metric: str) -> dict[str, float]:
    return {each["row"]: each["scores"][metric]["value"] for each in result["results"]}


def test_the_attentive_probe_beside_one_on_vectors(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw features have no tokens: their row is left out of it, and said to be."""
    assert main(["probe", str(run), *SMALL, "--by", "linear,attentive", *QUICK, "--set", "linear.draws=1"]) == 0
    out = capsys.readouterr().out
    assert "attentive: without the row raw features, which has no tokens." in out
    assert "lr (0.001, 0.01)" in out or "lr 0.001 0.01" in out
    results = json.loads((run / "probe-digits.json").read_text())["results"]
    assert {(each["row"], each["protocol"]) for each in results} == {
        ("pretrained", "linear"), ("pretrained", "attentive"), ("untrained", "linear"), ("untrained", "attentive"),
        ("raw", "linear"),
    }  # fmt: skip
    (line,) = [each["remarks"][0] for each in results if (each["row"], each["protocol"]) == ("pretrained", "attentive")]
    assert "held out from those to learn from" in line


def test_it_goes_on_where_it_was(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    args = ["probe", str(run), *SMALL, "--by", "attentive", *QUICK, "--json"]
    assert main(args) == 0
    first = told(capsys)
    monkeypatch.setattr("ssl_lightning.evaluation.protocols.probing.store_of", None)  # nothing is computed again
    assert main(args) == 0
    assert told(capsys)["results"] == first["results"]


def test_an_encoder_without_tokens_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(ConvEncoder(channels=1, width=4, depth=2), Digits(), tmp_path / "run" / "encoder.safetensors")
    assert main(["probe", str(tmp_path / "run"), *SMALL, "--by", "attentive"]) == 2
    err = capsys.readouterr().err
    assert "--by attentive needs tokens, and ConvEncoder and raw features have one vector a sample" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_vision_transformer_of_timm_has_tokens_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder("vit_tiny_patch16_224", channels=1, image_size=16, patch_size=8)
    leave(encoder, Digits(image_size=16), tmp_path / "run" / "encoder.safetensors")
    rows = ["--rows", "pretrained", "--json"]
    assert main(["probe", str(tmp_path / "run"), *SMALL, "--by", "attentive", *QUICK, *rows]) == 0
    assert set(by_row(told(capsys), "accuracy")) == {"pretrained"}


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Photos of a bright square on dark ground, of unequal sizes, with masks."""
    random = np.random.default_rng(0)
    for number in range(24):
        height, width = 20 + number % 3 * 6, 26
        mask = np.zeros((height, width), dtype=np.uint8)
        top, left = random.integers(0, height - 12), random.integers(3, 12)
        mask[top : top + 11, left : left + 11] = 1
        mask[:2] = 255
        name = f"{'train' if number % 3 else 'test'}/{'ab'[number % 2]}/{number}.png"
        photo = (40 + 150 * (mask == 1) + random.integers(0, 40, mask.shape)).astype(np.uint8)
        for folder, values in (("photos", photo), ("masks", mask)):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / folder / name)
    return tmp_path


def test_segmentation_of_a_folder_by_masks(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    data = ImageFolder(str(shapes / "photos"), image_size=16, channels=1)
    encoder = ViTEncoder("vit_tiny_patch16_224", channels=1, image_size=16, patch_size=4)
    leave(encoder, data, shapes / "run" / "encoder.safetensors")
    given = ["probe", str(shapes / "run"), "--data", str(shapes / "photos"), "--by", "segmentation"]
    assert main([*given, "--masks", str(shapes / "masks"), "--json"]) == 0
    result = told(capsys)
    assert result["results"][0]["stamp"]["train"] == 16 and result["results"][0]["stamp"]["judged"] == 8
    assert all(0.55 < value < 1 for value in by_row(result, "miou").values()), "bright patches are told from dark ones"
    digest = result["results"][0]["stamp"]["data"]
    mask = shapes / "masks" / "train" / "b" / "1.png"
    Image.fromarray(1 - np.minimum(np.array(Image.open(mask)), 1)).save(mask)
    assert main([*given, "--masks", str(shapes / "masks"), "--json"]) == 0
    assert told(capsys)["results"][0]["stamp"]["data"] != digest, "other masks, another stamp"
    mask.unlink()
    assert main([*given, "--masks", str(shapes / "masks")]) == 2
    assert "lacks 1 of 16 masks: train/b/1.png" in capsys.readouterr().err


def test_tags_of_sentences(tmp_path: Path, own_cache: None, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    data = TextFiles(str(texts), row_length=16, vocab_size=300)
    encoder = TextTransformer(vocab_size=300, dim=16, depth=1, heads=2, max_length=16)
    run = leave(encoder, data, tmp_path / "run" / "encoder.safetensors")
    lines = []
    for number in range(60):
        lines += ["some O", "words O"] * (1 + number % 4) + ["ann B-PER", "and I-PER"] * (number % 2) + ["text O", ""]
    lines += [*["words O"] * 30, ""]  # longer than a row
    for name, part in {"train": lines, "test": lines[40:]}.items():
        (tmp_path / f"{name}.conll").write_text("\n".join(part))
    given = ["probe", str(run), "--data", str(texts), "--by", "tags", "--rows", "pretrained"]
    files = ["--tags", str(tmp_path / "train.conll"), "--tags-test", str(tmp_path / "test.conll")]
    assert main([*given, *files, "--json"]) == 0
    result = told(capsys)
    assert by_row(result, "f1")["pretrained"] > 0.9 and by_row(result, "accuracy")["pretrained"] > 0.95
    assert "1 of 61 sentences are longer than a row of 16 tokens" in result["remarks"][0]
    (tmp_path / "test.conll").write_text("some S-PER\n")
    assert main([*given, *files]) == 2
    assert "The tag 'S-PER' is not of IOB2" in capsys.readouterr().err


def test_frames_of_sounds(tmp_path: Path, own_cache: None, sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    data = AudioFolder(str(sounds), seconds=0.1, mels=16)
    leave(FrameTransformer(mels=16, dim=8, depth=1, heads=2), data, tmp_path / "run" / "encoder.safetensors")
    lines = ["path,start,end,label"]
    for number in range(6):
        name = f"{'ab'[number % 2]}/{number}.wav"
        lines += [f"{name},0,0.1,first", f"{name},0.1,9,then"] if number != 1 else []
    (tmp_path / "frames.csv").write_text("\n".join([*lines, "c/9.wav,0,1,first"]))
    given = ["probe", str(tmp_path / "run"), "--data", str(sounds), "--by", "frames", "--rows", "pretrained"]
    assert main([*given, "--frames", str(tmp_path / "frames.csv"), "--json"]) == 0
    result = told(capsys)
    assert set(result["results"][0]["scores"]) == {"accuracy", "f1"}
    assert any("samples have no intervals and are left out" in line for line in result["remarks"])
    assert any("1 of 6 paths name no sample of these splits: c/9.wav" in line for line in result["remarks"])
    assert main([*given[:-4], "--by", "segmentation", "--masks", str(sounds)]) == 2
    assert "The tokens of FrameTransformer have no rows and columns, which --masks needs" in capsys.readouterr().err
    assert main([*given[:-4], "--by", "tags", "--tags", str(tmp_path / "frames.csv"), "--tags-test",
                 str(tmp_path / "frames.csv")]) == 2  # fmt: skip
    assert "AudioFolder has no tags: its samples have no words" in capsys.readouterr().err


def test_frames_need_an_encoder_that_follows_time(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frames.csv").write_text("path,start,end,label\nsample 0,0,1,a\nsample 1,0,1,b\n")
    args = ["probe", str(run), *SMALL, "--by", "frames", "--frames", str(tmp_path / "frames.csv")]
    assert main(args) == 2
    assert "The tokens of TinyTokenEncoder have no time, which --frames needs" in capsys.readouterr().err
