"""`ssl-lightning inspect` says what a file holds, and runs none of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from ssl_lightning.cli.inspect import inspect
from ssl_lightning.cli.main import main

BEFORE = Path(__file__).parents[1] / "before_the_move"


def test_a_checkpoint_is_described_by_method_data_steps_and_sizes() -> None:
    path = next(path for path in BEFORE.rglob("*.ckpt"))
    content = torch.load(path, weights_only=True)
    config = yaml.safe_load(content["config"])
    text = inspect(path)
    values = sum(tensor.numel() for tensor in content["state_dict"].values())
    assert f"model: {config['model']['class_path']}" in text and f"data: {config['data']['class_path']}" in text
    assert f"{content['global_step']} steps" in text and f"{values:,} values" in text
    assert all(f"{name}: " in text for name in config["model"]["init_args"]) and "refused" not in text


@pytest.mark.parametrize("kind", ["checkpoint", "encoder"])
def test_nothing_that_it_names_is_imported_and_what_would_be_refused_is_marked(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canarymod.py").write_text("open('sang', 'w').close()")
    bad = {"class_path": "canarymod.Boom", "init_args": {"name": "\x1b[31mred\n", "long": "x" * 1000}}
    if kind == "checkpoint":
        path = tmp_path / "crafted.ckpt"
        torch.save({"config": yaml.safe_dump({"model": bad, "data": bad})}, path)
    else:
        path = tmp_path / "encoder.safetensors"
        save_file({"x": torch.zeros(2, 3)}, path, metadata={"encoder": json.dumps(bad)})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = inspect(path)
    assert "canarymod.Boom  <- not installed: it would be refused" in text and "canarymod" not in sys.modules
    assert "\x1b" not in text and "1,000 characters" in text
    assert not (tmp_path / "sang").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000])
@pytest.mark.parametrize("name", ["a.ckpt", "encoder.safetensors", "other.txt"])
def test_what_is_no_such_file_is_one_line(
    content: bytes, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    for argv in ([str(tmp_path / name)], [], [str(tmp_path / "none")], [str(tmp_path / "empty")], ["a", "b"]):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert main(["inspect", *argv]) == 2 and capsys.readouterr().err.count("\n") == 1
