"""A run that starts from published weights says so in its config, and starts from them again when
it is repeated; its checkpoint needs neither them nor the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml

from ssl_lightning import load
from ssl_lightning.cli.command import run as command

NAME = "test_resnet"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """timm's weights of a small network are in a local file."""
    create, file = timm.create_model, tmp_path / "published.pth"
    torch.manual_seed(1)
    model = create(NAME, num_classes=0, in_chans=1)
    torch.save(create(NAME).state_dict() | model.state_dict(), file)

    def local(name: str, pretrained: bool = False, **options: Any) -> Any:
        overlay = {"pretrained_cfg_overlay": {"file": str(file)}} if pretrained else {}
        return create(name, pretrained=pretrained, **overlay, **options)

    monkeypatch.setattr(timm, "create_model", local)
    return {f"model.{name}": value for name, value in model.state_dict().items()}


def ended(root: Path, *argv: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """The folder of a run of two steps, and its encoder's last weights."""
    quick = "--trainer.max_steps 2 --online_probe.enabled false --knn_probe.enabled false --report.enabled false"
    quick += " --trainer.accelerator cpu --trainer.enable_progress_bar false --trainer.logger false"
    command(["fit", *argv, *quick.split(), "--trainer.default_root_dir", str(root)])
    (folder,) = root.glob("simclr-digits/*")
    return folder, load(folder).backbone.state_dict()


@pytest.mark.slow
def test_a_run_from_published_weights_is_repeated_from_the_same(
    weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a learning rate of zero, what a run ends with is what it starts from."""
    encoder = f"--model.encoder timm --model.encoder.name {NAME} --model.encoder.pretrained true"
    first, end = ended(tmp_path / "first", *f"--model simclr --data digits --model.lr 0 {encoder}".split())
    learned = [name for name, _ in load(first).backbone.named_parameters()]
    assert all(torch.equal(end[name], weights[name]) for name in learned) and len(learned) > 20
    for name in ("config", "resolved"):
        config = yaml.safe_load((first / f"{name}.yaml").read_text())
        assert config["model"]["init_args"]["encoder"]["init_args"]["pretrained"] is True
        again = ended(tmp_path / name, "--config", str(first / f"{name}.yaml"))[1]
        assert all(torch.equal(value, again[key]) for key, value in end.items())

    def fetch(*args: Any, **kwargs: Any) -> Any:
        pytest.fail("loads published weights")

    monkeypatch.setattr("timm.models._builder.load_pretrained", fetch)
    assert load(first).backbone.init_args["pretrained"] is False
