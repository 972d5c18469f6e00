"""Which runs alarm within 50 steps: encoders of noise or of a line in noise, and learning rates far
too high; not those that are healthy, or whose embeddings may be alike."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.bert import BERT
from ssl_lightning.methods.byol import BYOL
from ssl_lightning.methods.mae import MAE
from ssl_lightning.methods.moco import MoCo
from ssl_lightning.methods.moco_v3 import MoCoV3
from ssl_lightning.methods.simclr import SimCLR
from ssl_lightning.methods.swav import SwAV
from torch import Tensor

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.data.datamodule import SSLDataModule
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.probes.look import Features
from ssl_lightning.evaluation.report import Report
from ssl_lightning.nn.spread import agreement
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.methods import tiny_data, tiny_encoder
from ssl_lightning.types import View

CONFIGS = Path(__file__).parents[3] / "configs"
METHODS = Registry("ssl_lightning.methods")
TWO_VIEWS = (SimCLR, BYOL, SwAV, MoCo, MoCoV3)
DATA = os.environ.get("SSL_LIGHTNING_DATA", "")
ROOTS = {"spoken_digits": f"{DATA}/fsdd/recordings", "fashion_mnist": f"{DATA}/fashion_mnist"}


class Noise(TinyEncoder):
    """The same features for every image, with a little noise, which BatchNorm enlarges."""

    def forward(self, view: View) -> Tensor:
        return super().forward(view) * 0 + 1 + 1e-3 * torch.randn(len(view.x), self.dim)


class NoisyLine(TinyEncoder):
    """Features along one line, in noise: most of them differ, and some directions are filled."""

    def forward(self, view: View) -> Tensor:
        line = super().forward(view)[:, :1] * torch.linspace(-1, 1, self.dim)
        return line + 0.1 * torch.randn(len(view.x), self.dim)


def watched(root: Path, method: Any, data: SSLDataModule, steps: int) -> tuple[list[str], list[dict[str, float]]]:
    """The alarms and the metrics of a run."""
    off = [each(enabled=False) for each in (KNNProbe, OnlineLinearProbe, HeldOut, Report)]
    trainer = ssl_lightning.Trainer(
        max_steps=steps, max_epochs=1000, accelerator="cpu", precision="32-true", default_root_dir=str(root),
        callbacks=off, enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(method, datamodule=data)
    return [str(each.message) for each in caught if "healthy is" in str(each.message)], rows_of(trainer)


def some(names: Any, default: Any) -> list[Any]:
    """Those of the default suite as they are, the others as slow."""
    return [each if each in default else pytest.param(each, marks=pytest.mark.slow) for each in names]


def method_of(cls: Any, encoder: Any) -> Any:
    """With BatchNorm in its head, and without small crops, which take time."""
    return cls(encoder, norm="batch", **({"local_views": 0} if cls is SwAV else {}))


@pytest.mark.slow
@pytest.mark.parametrize("cls", some(TWO_VIEWS, (SimCLR, SwAV)))
@pytest.mark.parametrize("encoder", [NoisyLine, pytest.param(Noise, marks=pytest.mark.slow)])
def test_features_of_noise_alarm_whatever_a_head_makes_of_them(
    encoder: type[TinyEncoder], cls: Any, tmp_path: Path
) -> None:
    """Behind BatchNorm they pass for healthy embeddings, by their deviation, rank and loss."""
    torch.manual_seed(0)
    alarms, rows = watched(tmp_path, method_of(cls, encoder(32)), TinyImages(samples=128, batch_size=64), 30)
    (alarm,) = alarms
    assert alarm.startswith(f"{cls.__name__}, step 30: ") and "collapse/agreement" in alarm
    assert "collapsed to noise" in alarm and "Lower the learning rate" in alarm and cls.collapse_remedy in alarm
    assert max(row["collapse/std"] for row in rows if "collapse/std" in row) > 0.3
    assert all(abs(row["collapse/agreement"]) < 0.04 for row in rows if "collapse/agreement" in row)


@pytest.mark.slow
@pytest.mark.parametrize("cls", some(TWO_VIEWS, (SimCLR,)))
def test_healthy_runs_are_silent(cls: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = method_of(cls, ConvEncoder(channels=1, width=8, depth=3))
    alarms, rows = watched(tmp_path, method, Digits(batch_size=64), 30)
    assert alarms == []
    agreements = [row["collapse/agreement"] for row in rows if "collapse/agreement" in row]
    assert len(agreements) == 3 and min(agreements) > 0.1
    assert all(0.9 < row["collapse/growth"] < 1.5 for row in rows if "collapse/growth" in row)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("name", some(sorted(METHODS), ("simclr", "mae", "bert", "finetune")))
def test_a_learning_rate_of_100_alarms_at_the_first_look(name: str, tmp_path: Path) -> None:
    """Whatever the method: of every kind of encoder, data and optimizer. Its loss may be infinite
    before, which is an error."""
    cls: Any = METHODS[name]
    torch.manual_seed(0)
    try:
        alarms, _ = watched(tmp_path, cls(tiny_encoder(cls), lr=100), tiny_data(cls), 10)
    except FloatingPointError as error:
        assert name == "wav2vec2" and "lower learning rate" in str(error)
        return
    (alarm,) = [each for each in alarms if "collapse/growth" in each]
    assert alarm.startswith(f"{cls.__name__}, step 10: the weights have grown")
    assert "Lower the learning rate or lengthen the warm-up: --model.lr" in alarm


@pytest.mark.slow
def test_lars_whose_rate_is_a_part_of_each_weight_alarms_at_1000(tmp_path: Path) -> None:
    """At 100 it learns more within 40 steps than at its own rate of 0.3."""
    losses = []
    for lr, step in ((0.3, ""), (100, ""), (1000, "SimCLR, step 10: the weights have grown")):
        torch.manual_seed(0)
        method = SimCLR(ConvEncoder(channels=1, width=8, depth=3), optimizer="lars", lr=lr)
        alarms, rows = watched(tmp_path / str(lr), method, Digits(batch_size=256), 40)
        assert [each.startswith(step) for each in alarms] == [True] * bool(step), alarms
        losses.append([row["train/loss"] for row in rows if "train/loss" in row][-1])
    assert losses[1] < losses[0] - 0.5 < losses[2]


@pytest.mark.parametrize("cls", [BERT, pytest.param(MAE, marks=pytest.mark.slow)])
def test_embeddings_may_be_alike_where_a_method_predicts_its_input(cls: Any, tmp_path: Path) -> None:
    """A constant encoder is told by its loss, and not advised about two views and a teacher."""

    class Alike(cls):
        def step(self, batch: Any) -> Any:
            return {**super().step(batch), "embeddings": torch.ones(len(batch["index"]), 4)}

    alarms, rows = watched(tmp_path, Alike(tiny_encoder(cls)), tiny_data(cls), 40)
    assert alarms == [] and {row["collapse/std"] for row in rows if "collapse/std" in row} == {0.0}


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "advice, views, expected",
    [(None, 2, "(plots/views.png)"), ("plant trees", 2, "(plots/views.png); plant trees"), ("", 2, None),
     (None, 1, None), ("plant trees", 1, "; plant trees")],
)  # fmt: skip
def test_a_method_says_what_helps_it(advice: str | None, views: int, expected: str | None, tmp_path: Path) -> None:
    class Plugged(SimCLR):
        collapse_remedy = advice

        def __init__(self, encoder: TinyEncoder) -> None:
            super().__init__(encoder)
            self.views = ssl_lightning.ViewSpec(full=views)

        def step(self, batch: Any) -> Any:
            z = self.projector(self.encoder(batch["views"][0]))
            return {"loss": z.square().mean(), "embeddings": torch.ones(len(z), 4)}

    alarms, _ = watched(tmp_path, Plugged(TinyEncoder()), TinyImages(), 30)
    assert len(alarms) == (expected is not None)
    assert not alarms or f"{expected}. The learning rate is now" in alarms[0]


# Agreement.


def slowly(pairs: Tensor) -> float:
    """The same from the singular vectors and a loop over directions."""
    x = pairs.double() - pairs.double().mean(dim=(0, 1))
    _, _, directions = torch.linalg.svd(x.flatten(0, 1))
    both = total = 0.0
    for direction in directions[1:]:
        a, b = x[:, 0] @ direction, x[:, 1] @ direction
        both, total = both + 2 * float(a @ b), total + float(a @ a + b @ b)
    return both / total


def ratio(pairs: Tensor) -> float:
    both, variance = agreement(pairs).tolist()
    return both / variance if variance else 0.0


@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
def test_agreement_equals_its_formula_and_the_share_of_what_is_shared(noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(256, 1, 32, generator=generator) * torch.tensor([9.0 + 9 * noise] + [1.0] * 31)
    pairs = shared + noise * torch.randn(256, 2, 32, generator=generator) + 5
    assert ratio(pairs) == pytest.approx(slowly(pairs), abs=1e-3)
    assert ratio(pairs) == pytest.approx(1 / (1 + noise**2), abs=0.03)
    assert ratio(pairs * 1e-4) == pytest.approx(ratio(pairs), abs=1e-5)
    assert ratio(pairs[torch.randperm(256, generator=generator)]) == pytest.approx(ratio(pairs), abs=1e-5)
    assert ratio(pairs[:, :1].expand(-1, 2, -1)) == pytest.approx(1.0)


def test_what_does_not_vary_or_varies_along_a_line_does_not_agree() -> None:
    line = torch.linspace(-1, 1, 64)[:, None, None] * torch.randn(32, generator=torch.Generator().manual_seed(0))
    bent = line * (1 + line.sign())
    for pairs in (torch.full((64, 2, 32), 0.1), line.expand(-1, 2, -1) + 3, torch.zeros(64, 2, 32)):
        assert agreement(pairs).tolist() == [0.0, 0.0]
    assert ratio(bent.expand(-1, 2, -1)) == pytest.approx(1.0)


def test_features_are_paired_by_view() -> None:
    first, second, third = (torch.arange(8.0).view(4, 2) + 10 * view for view in range(3))
    features, encoder = Features(), torch.nn.Identity()

    def pairs(*calls: Tensor) -> Tensor | None:
        features.listen(encoder)
        for call in calls:
            encoder(call)
        features.stop()
        encoder(first)  # not heard
        return features.take(4)

    expected = torch.stack([first, second], dim=1)
    for calls in ([first, second], [torch.cat([first, second, third])], [torch.cat([first, second]), third]):
        got = pairs(*calls)
        assert got is not None and torch.equal(got, expected)
    for calls in ([], [first], [first[:3], second], [first, second[:, :1]], [first[:, :, None], second[:, :, None]]):
        assert pairs(*calls) is None


# The recipes that ship.


@pytest.mark.slow
@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipes_are_silent(config: Path, tmp_path: Path) -> None:
    """60 steps of each whose data is here."""
    arguments = []
    if config.stem in ROOTS:
        arguments = ["--data.root", ROOTS[config.stem]]
    if config.stem in ("cifar10", "imagenet", "stl10", "text_files") or not Path(ROOTS.get(config.stem, "/")).is_dir():
        pytest.skip("its data is not here")
    if config.parent.name in ("finetune", "linear_probe"):
        pytest.skip("it starts from a run")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not main([
            "fit", "--config", str(config), *arguments, "--trainer.max_epochs", "1000", "--trainer.max_steps", "60",
            "--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu", "--report.enabled", "false",
            "--online_probe.enabled", "false", "--knn_probe.enabled", "false", "--held_out.enabled", "false",
            "--checkpoint.enabled", "false", "--trainer.enable_progress_bar", "false",
        ])  # fmt: skip
    assert [str(each.message) for each in caught if "healthy is" in str(each.message)] == []
