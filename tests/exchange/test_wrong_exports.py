"""Mistakes are told in one line, with the remedy, and leave nothing behind."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_lightning.cli.main import main
from ssl_lightning.exchange.formats import base


def told(capsys: Any, *arguments: object) -> str:
    """The one line that a command ends with."""
    assert main(["export", *map(str, arguments)]) == 2
    error: str = capsys.readouterr().err
    line = error.splitlines()[-1]
    assert line.startswith("ssl-lightning export: error: ") and "Traceback" not in error
    return line


def test_a_mistake_is_told_in_one_line(encoder_file: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    run, wave, to = encoder_file("vit"), encoder_file("wave"), tmp_path / "model"
    full, damaged, canary = tmp_path / "full", tmp_path / "damaged.safetensors", tmp_path / "ran"
    full.mkdir()
    (full / "file").touch()
    damaged.write_bytes(run.read_bytes()[:5000])
    crafted = tmp_path / "crafted.ckpt"
    crafted.write_bytes(pickle.dumps(Payload(str(canary))))
    before = sorted(tmp_path.rglob("*"))
    for arguments, said in (
        ([run, "--format", "tim", "--to", to], "There is no format 'tim'. Did you mean 'timm'?"),
        ([run, "--format", "keras", "--to", to], "Formats: timm, torchvision, huggingface, onnx, torch."),
        ([run, "--to", to], "Choose a format: --format timm, huggingface, onnx, torch; these hold the ViTEncoder"),
        ([run, "--format", "timm", "--to", full], "exists already; give a folder that does not exist yet"),
        ([run, "--format", "timm", "--to", full / "file"], "exists already"),
        ([run, "--format", "timm"], "required: --to"),
        (["--format", "timm", "--to", to], "required: RUN"),
        ([tmp_path / "none", "--format", "timm", "--to", to], "There is no run, checkpoint or encoder"),
        ([wave, "--format", "torchvision", "--to", to],
         "holds a WaveTransformer, which is not a model of timm. Formats that hold it: huggingface, onnx, torch."),
        ([run, "--format", "torchvision", "--to", to], "holds a vit_tiny_patch16_224, which is not a ResNet of"),
        ([encoder_file("small resnet"), "--format", "timm", "--to", to], "has the stem for small images"),
        ([damaged, "--format", "timm", "--to", to], "is not a whole safetensors file"),
        ([crafted, "--format", "torch", "--to", to], "crafted.ckpt"),
        ([run, "--fromat", "timm", "--to", to], "There is no option --fromat. Did you mean '--format'?"),
        (["timm:no_such_model", "--format", "timm", "--to", to], "no_such_model"),
    ):  # fmt: skip
        assert said in told(capsys, *arguments), arguments
    assert sorted(tmp_path.rglob("*")) == before and not canary.exists()


def test_a_missing_library_is_named_with_its_extra(
    encoder_file: Callable[[str], Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None if name.startswith("onnx") else object())
    line = told(capsys, encoder_file("vit"), "--format", "onnx", "--to", tmp_path / "model")
    assert "needs onnx and onnxscript and onnxruntime: pip install 'ssl-lightning[export]'" in line
    assert not list(tmp_path.iterdir())


class Payload:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)
