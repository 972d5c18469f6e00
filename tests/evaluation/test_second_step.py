"""The second step: where fine-tuning begins, how the weights are chosen, and what is said."""

from __future__ import annotations

import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.linear_probe import LinearProbe

from ssl_lightning import ConvEncoder, Trainer
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sources import labels_of
from ssl_lightning.evaluation.frozen import regress, regress_in_time
from ssl_lightning.evaluation.plots.confusion import plot_confusion
from ssl_lightning.evaluation.protocol import linear_accuracy
from ssl_lightning.evaluation.refit import ENOUGH, withheld
from ssl_lightning.evaluation.regression import OutOfTime
from ssl_lightning.evaluation.supervised import Supervised
from ssl_lightning.evaluation.validation import Validation
from ssl_lightning.testing import TinyEncoder, TinyImages

warnings.filterwarnings("ignore")


def features(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [400, 12] of very different scale, one of them constant, and labels that they
    tell."""
    numbers = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % classes
    x = torch.randn(400, 12, generator=numbers) + torch.randn(classes, 12, generator=numbers)[labels]
    x = x * torch.logspace(-3, 3, 12) + 5
    x[:, 4] = 7.0
    return x, labels


@pytest.mark.parametrize("classes", [2, 5])
def test_the_regression_is_the_tables(classes: int) -> None:
    x, labels = features(classes)
    scaled = (x - x[:300].mean(0)) / torch.where(x[:300].std(0) > 1e-6, x[:300].std(0), torch.ones(()))
    fit = regress(x[:300], labels[:300], classes + 1)
    expected = linear_accuracy(scaled[:300].numpy(), labels[:300].numpy(), scaled[300:].numpy(), labels[300:].numpy())
    assert fit.accuracy(x[300:], labels[300:]) == pytest.approx(expected, abs=0.011) and expected > 0.7
    logits = (x - fit.mean) / fit.deviation @ fit.weight.T + fit.bias
    assert not bool((logits.argmax(1) == classes).any()), "a class without labels is never predicted"


def test_with_too_little_time_fewer_samples_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each try has half of the time that is left; the last one, as much as it needs."""
    x, labels = torch.randn(2_000, 3), torch.arange(2_000) % 4
    tried: dict[int, float] = {}

    def slow(x: torch.Tensor, labels: torch.Tensor, num_classes: int, deadline: float) -> Any:
        tried[len(x)] = deadline - time.monotonic()
        assert set(labels.tolist()) == set(range(4)) and len(x) == len(labels)
        if deadline < math.inf:
            raise OutOfTime
        return num_classes

    monkeypatch.setattr("ssl_lightning.evaluation.frozen.regress", slow)
    assert regress_in_time(x, labels, 7, math.inf) == (7, 2_000)
    assert regress_in_time(x, labels, 7, time.monotonic() + 8) == (7, 250)
    assert list(tried) == [2_000, 500, 250] and 3.5 < tried[2_000] <= 4 and tried[250] == math.inf


@pytest.mark.slow
def test_a_run_by_time_looks_at_as_many_samples_as_there_is_time_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of 5 minutes, at a second a sample; 250 are the fewest."""
    for module in ("supervised", "validation"):
        monkeypatch.setattr(f"ssl_lightning.evaluation.{module}.seconds_of_features", lambda *_: 1.0)
    trainer = fit(Finetune(TinyEncoder()), TinyImages(samples=1_200), tmp_path, max_steps=2, max_time={"minutes": 5})
    best = chosen(trainer)
    assert best.source is not None and len(best.source) == best.samples == 250
    assert best.limit == pytest.approx(30, abs=2) and "on 250 samples held out" in capsys.readouterr().out


def begun(method: Supervised, data: Any) -> float:
    """The accuracy of the head on the samples that it was fitted to."""
    data.serve(method)
    source = data.labelled_split
    method.size_head(data.num_classes)
    method.begin(data, source)
    x, labels = embed(method.backbone, data, source), labels_of(source)
    expected = regress(x, labels, data.num_classes).accuracy(x, labels)
    assert method.judge(data, source).top1 == pytest.approx(expected, abs=1e-6)
    return expected


@pytest.mark.parametrize("cls", [Finetune, LinearProbe])
def test_the_head_begins_as_the_regression_on_the_frozen_features(cls: type[Supervised]) -> None:
    assert begun(cls(ConvEncoder(channels=1, width=4, depth=2)), Digits(labels_per_class=10)) > 0.5


class Counting(Finetune):
    """Its validation accuracy rises until the third pass."""

    def judge(self, *args: Any) -> Any:
        return super().judge(*args)._replace(balanced=min(self.trainer.global_step, 3) / 10)


def fit(method: Supervised, data: Any, root: Path, **kwargs: Any) -> Trainer:
    trainer = Trainer(**{"accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False, **kwargs})
    trainer.fit(method, datamodule=data)
    return trainer


def chosen(trainer: Trainer) -> Validation:
    return next(each for each in trainer.callbacks if isinstance(each, Validation))


@pytest.mark.slow
def test_it_learns_from_all_labels_for_as_many_passes_as_the_validation_part_says(tmp_path: Path) -> None:
    """The later of equal passes counts; and the network that has learned from all is not the one
    that was judged."""
    method = Counting(TinyEncoder(), patience=2)
    trainer = fit(method, TinyImages(samples=128, labels_per_class=10), tmp_path, max_epochs=9)
    best = chosen(trainer)
    assert trainer.global_step == best.step == 8 and best.passes == 4, "of 2 steps each"
    assert not torch.equal(best.weights["head.weight"], method.head.weight)  # type: ignore[union-attr]
    summary = json.loads((trainer.run_folder / "summary.json").read_text())  # type: ignore[operator]
    assert summary["final/test/top1"]["labels"] == 40, "the validation part too"
    assert {"final/test/frozen", "final/test/labels_only", "final/test/balanced"} <= summary.keys()
    for picture in ("validation", "confusion"):
        assert (trainer.run_folder / "plots" / f"{picture}.png").stat().st_size > 5_000  # type: ignore[operator]


def test_a_probe_is_solved_in_a_step_from_all_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its run is planned as one step, for which nothing long is forecast, and leaves the trainer as
    it was."""
    data, encoder = TinyImages(samples=128, labels_per_class=10), TinyEncoder()
    probe = LinearProbe(encoder)
    trainer = fit(probe, data, tmp_path, max_epochs=9, enable_progress_bar=True, precision="32-true")
    lines = capsys.readouterr().out
    assert trainer.global_step == 1 and ", 1 steps (" in lines and "step 1/1" in lines and "to go" not in lines
    source = data.labelled_split
    assert source is not None
    expected = regress(embed(encoder, data, source), labels_of(source), data.num_classes)
    assert probe.head is not None and trainer.max_steps == -1
    torch.testing.assert_close(probe.head.weight, expected.weight, rtol=1e-4, atol=1e-5)


def test_all_labels_are_learned_from_only_where_none_of_them_judges_the_run() -> None:
    data = TinyImages(samples=128, labels_per_class=10)
    assert len(withheld(data) or ()) == 40
    data._sources["labelled test"] = None
    assert withheld(data) is None, "the validation part is the run's only judge"
    assert withheld(TinyImages(samples=128)) is None, "it has a validation split of its own"
    many = Digits()
    assert withheld(many) is not None and len(many.probe_splits()[1]) < ENOUGH  # type: ignore[index]


def test_a_confusion_matrix_is_drawn_for_few_and_for_many_classes(tmp_path: Path) -> None:
    for classes in (2, 100):
        labels = torch.arange(500) % classes
        plot_confusion(labels.roll(1), labels, tmp_path / f"{classes}.png", [f"class {n}" for n in range(classes)])
        assert (tmp_path / f"{classes}.png").stat().st_size > 5_000


@pytest.mark.slow
def test_a_regression_that_is_cut_says_how_many_labels_it_has_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_lightning.evaluation.supervised.seconds_of_features", lambda *_: 1.0)
    fit(LinearProbe(TinyEncoder()), TinyImages(samples=1_200), tmp_path, max_time={"minutes": 5})
    assert "learned from 250 labels" in capsys.readouterr().out
