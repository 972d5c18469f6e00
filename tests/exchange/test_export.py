"""What is exported gives the same features in the other library alone, or is not written at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoTokenizer, ViTModel

from ssl_lightning import Reader, load_encoder
from ssl_lightning.exchange.export import choice, export
from ssl_lightning.exchange.formats import format_of
from ssl_lightning.exchange.formats import timm as timm_format
from ssl_lightning.exchange.subject import subject_of
from ssl_lightning.types import View

File = Callable[[str], Path]


@torch.no_grad()
def equal(there: torch.Tensor, here: torch.Tensor) -> bool:
    return bool((there - here).abs().max() <= 1e-5 * here.abs().max())


def random_images(channels: int, size: int) -> torch.Tensor:
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        pytest.param("resnet", 1, 32, marks=pytest.mark.slow),
        ("vit", 3, 32),
        ("grey vit of tokens", 1, 32),
        ("vit with a norm behind the pooling", 3, 64),
        pytest.param("mixer", 3, 64, marks=pytest.mark.slow),
        ("classifier", 3, 32),
        pytest.param("resnet classifier", 3, 32, marks=pytest.mark.slow),
    ],
)
def test_timm_gives_the_same_features_and_comes_back(
    name: str, channels: int, size: int, encoder_file: File, tmp_path: Path
) -> None:
    """With the run's mean, deviation and size in the config; `timm:FOLDER` reads it here too."""
    folder, x = tmp_path / "model", random_images(channels, size)
    exported = export(encoder_file(name), "timm", folder)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        assert equal(model(x), load_encoder(encoder_file(name))(View(x))) and exported.difference <= 1e-5
    settings = timm.data.resolve_model_data_config(model)
    assert (settings["input_size"], settings["crop_pct"]) == ((channels, size, size), 1.0)
    assert tuple(settings["mean"]) == (0.4,) * channels and tuple(settings["std"]) == (0.2,) * channels
    back = Reader(f"timm:{folder}")
    assert back.data.recipe.mean == (0.4,) * channels and back.data.image_size == size
    if "classifier" in name:
        labels = {"classifier": ["ant", "bee", "cat"], "resnet classifier": ["ant", "bee"]}[name]
        assert json.loads((folder / "config.json").read_text())["label_names"] == labels
    else:
        with torch.no_grad():
            assert equal(back.encoder(View(x)), load_encoder(encoder_file(name))(View(x)))


@pytest.mark.parametrize(
    "name", ["small resnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet", "resnet classifier"))]
)
def test_torchvision_gives_the_same_features(name: str, encoder_file: File, tmp_path: Path) -> None:
    """By the lines of the card, which change the stem where the encoder has another."""
    x = random_images(1 if name == "resnet" else 3, 32)
    lines = export(encoder_file(name), "torchvision", tmp_path / "model").lines
    values: dict[str, Any] = {"x": x, "torch": torch, "torchvision": torchvision}
    exec(lines[lines.index("import torchvision") :], values)
    with torch.no_grad():
        here = load_encoder(encoder_file(name))(View(x))
    assert equal(values["logits" if "classifier" in name else "features"], here)
    state = load_file(tmp_path / "model" / "model.safetensors")
    assert ("fc.weight" in state) == ("classifier" in name)


@pytest.mark.parametrize(("name", "channels"), [("vit", 3), ("grey vit of tokens", 1)])
def test_a_vit_of_transformers_gives_the_same_features(
    name: str, channels: int, encoder_file: File, tmp_path: Path
) -> None:
    """And its image processor the same values."""
    export(encoder_file(name), "huggingface", tmp_path / "model")
    model, x = ViTModel.from_pretrained(tmp_path / "model", add_pooling_layer=False), random_images(channels, 32)
    with torch.no_grad():
        tokens = model(pixel_values=x).last_hidden_state
        here = load_encoder(encoder_file(name))(View(x))
    assert equal(tokens[:, 0] if "token" in name else tokens[:, 1:].mean(1), here)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, channels), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "model")
    prepared = processor(image, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    torch.testing.assert_close(prepared, Reader(encoder_file(name)).view([image]).x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["wave", "wave of groups"])
def test_wav2vec2_of_transformers_gives_the_same_features(name: str, encoder_file: File, tmp_path: Path) -> None:
    """Of a recording behind its feature extractor; with a mask, of several in a batch, where the
    extractor gives one."""
    export(encoder_file(name), "huggingface", tmp_path / "model")
    model, extractor = (each.from_pretrained(tmp_path / "model") for each in (AutoModel, AutoFeatureExtractor))
    waves = [np.random.default_rng(seed).normal(0, 0.1, 4000 - 900 * seed).astype(np.float32) for seed in range(3)]
    read = Reader(encoder_file(name))
    here = read([(wave, 8000) for wave in waves])
    for wave, expected in zip(waves, here, strict=True):
        x = extractor(wave, sampling_rate=8000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            assert equal(model.eval()(x).last_hidden_state.mean(1)[0], expected)
    batch = extractor(waves, sampling_rate=8000, return_tensors="pt", padding=True)
    assert ("attention_mask" in batch) == (name == "wave")
    if name == "wave":
        with torch.no_grad():
            tokens = model(**batch).last_hidden_state
        frames = model._get_feat_extract_output_lengths(batch["attention_mask"].sum(1)).tolist()
        means = torch.stack([row[:count].mean(0) for row, count in zip(tokens, frames, strict=True)])
        assert equal(means, here)


@pytest.mark.parametrize("name", ["text", "text of first tokens"])
def test_a_text_encoder_alone_is_the_same_in_transformers(name: str, encoder_file: File, tmp_path: Path) -> None:
    export(encoder_file(name), "huggingface", tmp_path / "model")
    model, tokenizer = (each.from_pretrained(tmp_path / "model") for each in (AutoModel, AutoTokenizer))
    given = ["a text", "some words and some more words", "?"]
    batch = tokenizer(given, return_tensors="pt", padding=True)
    with torch.no_grad():
        tokens = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    there = tokens[:, 0] if "first" in name else (tokens * mask).sum(1) / mask.sum(1)
    assert equal(there, Reader(encoder_file(name))(given))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *(pytest.param("vit", format, marks=pytest.mark.slow) for format in ("torch", "onnx")),
        *(
            pytest.param(name, format, marks=pytest.mark.slow)
            for name in ("small resnet", "classifier")
            for format in ("torch", "onnx")
        ),
    ],
)
def test_a_graph_takes_any_batch(format: str, name: str, encoder_file: File, tmp_path: Path) -> None:
    subject, form = subject_of(encoder_file(name)), format_of(format)
    export(encoder_file(name), format, tmp_path / "model")
    for samples in (1, 2, 5):
        inputs = subject.inputs.repeated(samples)
        with torch.no_grad():
            assert equal(form.features(subject, tmp_path / "model", inputs), subject.encoder(View(inputs.x)))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize("name", ["text", "wave", "wave of groups"])
def test_a_graph_with_a_mask_takes_any_length(format: str, name: str, encoder_file: File, tmp_path: Path) -> None:
    """A sample that is padded gives what it gives alone, and one that is longer than all before
    what it gives here."""
    subject, form = subject_of(encoder_file(name)), format_of(format)
    export(encoder_file(name), format, tmp_path / "model")
    folder, inputs = tmp_path / "model", subject.inputs
    together = form.features(subject, folder, inputs)
    alone = torch.cat([form.features(subject, folder, one) for one in inputs.each()])
    with torch.no_grad():
        assert equal(together, subject.encoder(subject.view)) and equal(alone, subject.encoder(subject.view))


def test_what_differs_is_not_written(encoder_file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight of the written model is a thousandth off."""
    like = timm_format.like

    def off(parts: Any) -> Any:
        model = like(parts)
        model.norm.bias.data += 1e-3
        return model

    monkeypatch.setattr(timm_format, "like", off)
    with pytest.raises(ValueError, match=r"Nothing is written: timm .* differ by .* 4 made-up items"):
        export(encoder_file("vit"), "timm", tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_the_card_says_what_is_needed(encoder_file: File, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    run = tmp_path / "run"
    run.mkdir()
    (run / "encoder.safetensors").write_bytes(encoder_file("vit").read_bytes())
    (run / "summary.json").write_text(json.dumps({"probe/linear/top1": 0.9125, "steps": 7}))
    exported = export(run, "timm", folder)
    card = (folder / "README.md").read_text()
    digest = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    for said in (digest, "| mean | [0.4, 0.4, 0.4] |", "| std |", "| size | 32 |", "| pooling | mean |", "0.9125",
                 '"patch_size": 8', "4 made-up items", exported.lines):  # fmt: skip
        assert said in card, said
    assert "ssl_lightning" not in exported.lines and ".tmp" not in card


def test_the_formats_that_hold_an_encoder_are_listed(encoder_file: File) -> None:
    for name, held in (
        ("resnet", "timm, torchvision, onnx, torch"),
        ("small resnet", "torchvision, onnx, torch"),
        ("vit", "timm, huggingface, onnx, torch"),
        ("vit with a norm behind the pooling", "timm, onnx, torch"),
        ("wave", "huggingface, onnx, torch"),
        ("classifier", "timm, onnx, torch"),
    ):
        assert f"--format {held};" in choice(encoder_file(name)), name
