"""The exported encoder is the one that was trained, and its file says what it is."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.simclr import SimCLR
from torch import nn

import ssl_lightning
from ssl_lightning import ConvEncoder, Encoder, TimmEncoder, View, load_encoder
from ssl_lightning.cli.inspect import inspect
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.testing import TinyEncoder, TinyImages, TinyTokenEncoder


class Shared(Encoder):
    """Two layers with one weight, and a buffer that is a view of another tensor."""

    def __init__(self, dim: int = 3) -> None:
        super().__init__()
        self.dim = dim
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.second.weight = self.first.weight
        self.register_buffer("part", torch.arange(6.0)[::2])

    def forward(self, view: View) -> torch.Tensor:
        return self.second(self.first(view.x)) + self.part


@pytest.mark.by_default(2)
@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        (lambda: TinyEncoder(dim=4), (1, 16, 16)),
        (lambda: TinyTokenEncoder(), (1, 16, 16)),
        (lambda: ConvEncoder(channels=1, width=4, depth=3), (1, 16, 16)),
        (lambda: TimmEncoder("resnet18", small_images=True, channels=1), (1, 16, 16)),
        (lambda: Shared(), (3,)),
    ],
    ids=["tiny", "tokens", "conv", "resnet18", "shared"],
)
def test_an_encoder_comes_back_as_it_was(tmp_path: Path, encoder: Any, shape: tuple[int, ...]) -> None:
    """Weights, running means of norms, memory format and all; it is in eval mode and nothing of the
    original has changed."""
    original, view = encoder(), View(torch.rand(6, *shape))
    original.train()
    original(view)  # moves the running means
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    save_encoder(original, tmp_path / "encoder.safetensors", run="a run")
    assert original.training and all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    for path in (tmp_path, tmp_path / "encoder.safetensors", str(tmp_path)):
        twin = load_encoder(path)
        assert (
            type(twin) is type(original)
            and twin.dim == original.dim
            and not any(module.training for module in twin.modules())
        )
        with torch.no_grad():
            assert torch.equal(twin(view), original.eval()(view))
        for (name, value), other in zip(original.state_dict().items(), twin.state_dict().values(), strict=True):
            assert torch.equal(value, other) and value.dtype == other.dtype and value.stride() == other.stride(), name
        original.train()


def test_the_header_holds_the_config_and_further_facts(tmp_path: Path) -> None:
    save_encoder(TinyEncoder(dim=4), tmp_path / "encoder.safetensors", run="simclr-tiny", seed="0")
    with safe_open(tmp_path / "encoder.safetensors", framework="pt") as file:
        header = file.metadata()
    assert json.loads(header["encoder"]) == {
        "class_path": "ssl_lightning.testing.tiny.TinyEncoder",
        "init_args": {"dim": 4},
    }
    assert header["run"] == "simclr-tiny" and header["seed"] == "0"


def test_equal_encoders_have_equal_files(tmp_path: Path) -> None:
    """safetensors writes the entries of a header in any order."""
    facts = {f"fact {number}": "é" * number for number in range(8)}
    files = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for path in files:
        save_encoder(zeros(), path, **facts)
    assert len({path.read_bytes() for path in files}) == 1
    assert load_encoder(files[0]).dim == 4


def zeros() -> TinyEncoder:
    encoder = TinyEncoder(dim=4)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    return encoder


def test_without_its_file_a_runs_encoder_is_that_of_the_newest_checkpoint(tmp_path: Path) -> None:
    """A run that was stopped has none; all that take a run folder read it so."""
    trainer = ssl_lightning.Trainer(
        max_steps=4, accelerator="cpu", precision="32-true", default_root_dir=str(tmp_path), enable_progress_bar=False,
        callbacks=[Report(enabled=False), KNNProbe(enabled=False), OnlineLinearProbe(enabled=False)],
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    folder = trainer.run_folder
    assert folder is not None
    weights = load_encoder(folder).state_dict()
    newest = folder / "checkpoints" / "step-00000004.ckpt"
    shutil.copyfile(newest, newest.with_name("step-00000005.ckpt"))  # of a run that went on, and was killed
    with pytest.warns(UserWarning, match=r"safetensors that is older: .* newest checkpoint, step-00000005\.ckpt"):
        load_encoder(folder)
    newest.with_name("step-00000005.ckpt").write_bytes(b"torn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_encoder(folder)
    newest.with_name("step-00000005.ckpt").unlink()
    (folder / "encoder.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"holds no encoder\.safetensors.*newest checkpoint, step-00000004\.ckpt"):
        encoder = load_encoder(folder)
    with pytest.warns(UserWarning, match="newest checkpoint"):
        tuned = Finetune(TinyEncoder(), checkpoint=str(folder)).encoder
    for other in (encoder.state_dict(), tuned.state_dict(), load_encoder(folder / "checkpoints").state_dict()):
        assert all(torch.equal(value, other[name]) for name, value in weights.items())
    assert "TinyEncoder" in inspect(folder)


def test_a_new_file_takes_the_place_of_the_old_at_once(tmp_path: Path) -> None:
    """Whoever has the old one open goes on reading it whole."""
    path = tmp_path / "encoder.safetensors"
    save_encoder(TinyEncoder(dim=4), path)
    old = path.read_bytes()
    with path.open("rb") as file:
        save_encoder(TinyEncoder(dim=8), path)
        assert file.read() == old and load_encoder(path).dim == 8


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(TinyEncoder(dim=4), path)

    def half(tensors: Any, file: Path, metadata: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("ssl_lightning.run.checkpoints.encoder_file.save_file", half)
    with pytest.raises(OSError, match="no space"):
        save_encoder(TinyEncoder(dim=8), path)
    assert load_encoder(path).dim == 4 and os.listdir(tmp_path) == [path.name]


def test_a_file_that_is_no_exported_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"There is no encoder\.safetensors in .*, and no whole checkpoint; a run writes them"
    ):
        load_encoder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        load_encoder(tmp_path / "absent.safetensors")
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other\.safetensors' holds no encoder config; it was not written by ssl_lightning"
    ):
        load_encoder(tmp_path / "other.safetensors")
    save_encoder(TinyEncoder(), tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    torch.save({"state_dict": {}}, tmp_path / "step-00000001.ckpt")
    for content in (whole[: len(whole) // 2], b"text", b"", (tmp_path / "step-00000001.ckpt").read_bytes()):
        (tmp_path / "cut.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.safetensors' is not a whole safetensors file"):
            load_encoder(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "os.system"),
        ({"class_path": "ssl_lightning.testing.TinyImages"}, "TinyImages, which is not an encoder"),
        ("{", "holds a config that cannot be read"),
        ([1], "not an encoder"),
        ({"class_path": "ssl_lightning.testing.TinyEncoder", "init_args": {"dim": 5}}, "do not fit"),
        ({"class_path": "ssl_lightning.testing.TinyEncoder", "init_args": {"width": 8}}, "width"),
    ],
)
def test_a_header_that_describes_no_such_encoder_is_refused(tmp_path: Path, config: Any, message: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(
        TinyEncoder(dim=8).state_dict(),
        path,
        metadata={"encoder": config if isinstance(config, str) else json.dumps(config)},
    )
    with pytest.raises(ValueError, match=message):
        load_encoder(path)


@pytest.mark.slow
def test_the_lines_that_a_run_prints_load_its_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand in the card as well, and give the features of the method that was trained."""
    monkeypatch.chdir(tmp_path)
    method = SimCLR(TinyEncoder(dim=4), hidden_dim=8, output_dim=4)
    callbacks = [Report(draws=1), KNNProbe(enabled=False), OnlineLinearProbe(enabled=False)]
    trainer = ssl_lightning.Trainer(
        max_steps=2, accelerator="cpu", precision="32-true", enable_progress_bar=False, callbacks=callbacks
    )
    trainer.fit(method, datamodule=TinyImages())
    printed = capsys.readouterr().out.strip().splitlines()[-3:]
    card = (trainer.run_folder / "encoder.md").read_text()
    assert "```python\n" + "\n".join(printed) + "\n```" in card
    for name in ("a.png", "b.png"):
        Image.new("L", (20, 20), 10 * ord(name[0])).save(name)
    spoken: dict[str, Any] = {}
    exec("\n".join(printed), spoken)
    view = spoken["read"].view(["a.png", "b.png"])
    assert torch.equal(spoken["features"], method.eval()(view)) and view.x.shape == (2, 1, 16, 16), printed
    assert printed[2].endswith("# [2, 4]")
