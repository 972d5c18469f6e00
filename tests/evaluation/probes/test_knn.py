"""The live kNN probe, and what all probes share: labelled sets, cadence and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor

import ssl_lightning
from ssl_lightning.data.datamodule import Split, SSLDataModule
from ssl_lightning.data.sources import InMemory, Source, Subset
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.protocol import knn_predict
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.run.meter import Meter
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import View, ViewSpec


class Guesses(TinyImages):
    """The same images, with labels that no feature knows: accuracies are near chance, and change
    with every neighbour."""

    def source(self, split: Split) -> Source | None:
        labelled = super().source(split)
        assert isinstance(labelled, InMemory)
        return InMemory(
            labelled.samples, torch.randint(0, 4, (len(labelled),), generator=torch.Generator().manual_seed(len(split)))
        )


class Unlabelled(TinyImages):
    """The same images without labels."""

    def source(self, split: Split) -> Source | None:
        labelled = super().source(split)
        assert isinstance(labelled, InMemory)
        return InMemory(labelled.samples)


def fit(data: SSLDataModule, root: Path, *callbacks: pl.Callback, steps: int = 8, method: SimCLR | None = None) -> Any:
    """A run with the given probes (those of other kinds off), without report and checkpoints."""
    off = [
        cls(enabled=False)
        for cls in (KNNProbe, OnlineLinearProbe, CollapseMonitor, Meter, Report)
        if not any(isinstance(own, cls) for own in callbacks)
    ]
    trainer = ssl_lightning.Trainer(
        max_steps=steps,
        max_epochs=1000,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(root),
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[*off, *callbacks],
    )
    trainer.fit(method or SimCLR(TinyEncoder()), datamodule=data)
    return trainer


def curve(trainer: Any, name: str) -> dict[int, float]:
    """A metric's values by step."""
    rows = rows_of(trainer)
    return {int(row["step"]): row[name] for row in rows if name in row}


def probe_names(trainer: Any) -> set[str]:
    return {name for name in trainer.callback_metrics if name.startswith("probe/")}


class ByHand(pl.Callback):
    """At each step that the probe looks at, its accuracy by another way: embedded image by image,
    counted in a loop over classes, of which each counts alike."""

    def __init__(self, every: int, k: int, temperature: float) -> None:
        self.every, self.k, self.temperature, self.found = every, k, temperature, {}  # type: ignore[var-annotated]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step % self.every:
            return
        data, transform = trainer.datamodule, trainer.datamodule.transform("none")

        def features(source: Source) -> Tensor:
            pl_module.eval()
            rows = [
                pl_module(View(transform(source.fetch(torch.tensor([i])), torch.zeros(1, dtype=torch.int64))))
                for i in range(len(source))
            ]
            pl_module.train()
            return torch.cat(rows)

        train, val = data.source("train"), data.source("val")
        votes = knn_predict(features(train), train.labels, features(val), 4, self.k, self.temperature)
        counts, right = [int((train.labels == each).sum()) for each in range(4)], [[] for _ in range(4)]  # type: ignore[var-annotated]
        for row, label in zip(votes.tolist(), val.labels.tolist(), strict=True):
            right[label].append(max(range(4), key=lambda each, row=row: row[each] / counts[each]) == label)
        self.found[trainer.global_step] = sum(sum(each) / len(each) for each in right if each) / sum(map(bool, right))


def test_the_accuracy_is_that_of_neighbours_in_the_features_of_that_step(tmp_path: Path) -> None:
    """At each look, and at the end; the encoder changes between them."""
    torch.manual_seed(0)
    by_hand, method = ByHand(4, k=5, temperature=0.1), SimCLR(TinyEncoder(), lr=3.0)
    trainer = fit(
        Guesses(samples=48), tmp_path, KNNProbe(k=5, temperature=0.1, every_n_steps=4), by_hand, steps=12, method=method
    )
    found = curve(trainer, "probe/knn/top1")
    assert found.keys() == by_hand.found.keys() == {4, 8, 12}
    assert found == pytest.approx(by_hand.found, abs=1e-6)
    assert len(set(found.values())) > 1 and 0 < min(found.values()) < max(found.values()) < 0.6


def test_the_last_step_is_looked_at_though_it_is_not_due(tmp_path: Path) -> None:
    trainer = fit(
        TinyImages(),
        tmp_path,
        KNNProbe(every_n_steps=3),
        OnlineLinearProbe(every_n_steps=2, eval_every_n_steps=5),
        steps=7,
    )
    assert list(curve(trainer, "probe/knn/top1")) == [3, 6, 7]
    assert list(curve(trainer, "probe/linear/top1")) == [5, 7]


class Passes(pl.Callback):
    """Counts images through the backbone: those of the training, and those of the probes, which
    embed without gradient."""

    def __init__(self) -> None:
        self.training = self.probing = 0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        def count(module: Any, args: Any, output: Tensor) -> None:
            if torch.is_grad_enabled():
                self.training += len(output)
            else:
                self.probing += len(output)

        pl_module.backbone.register_forward_hook(count)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", pytest.param("10,000 images", marks=pytest.mark.slow)])
def test_by_default_the_probes_cost_at_most_5_percent_of_a_run(name: str, tmp_path: Path) -> None:
    """In forward passes; a training step costs three of them a view. The look at the run's last
    step comes on top, once."""
    data, steps = (Digits(), 130) if name == "digits" else (TinyImages(samples=10_000, batch_size=256), 330)
    passes, method = Passes(), SimCLR(TinyEncoder())
    method.views = ViewSpec(full=2, strength="none")  # not augmented: quicker, and of equal cost in passes
    trainer = fit(data, tmp_path, KNNProbe(), OnlineLinearProbe(), passes, steps=steps, method=method)
    knn, linear = curve(trainer, "probe/knn/top1"), curve(trainer, "probe/linear/top1")
    assert len(knn) >= 2 and len(linear) >= 2
    sizes = [min(len(each), most) for each, most in zip(data.probe_splits() or (), (10_000, 5_000), strict=True)]
    probe = {type(each): each for each in trainer.callbacks}
    at_the_end = (sum(sizes) if steps % probe[KNNProbe].period else 0) + (
        sizes[1] if steps % probe[OnlineLinearProbe].eval_period else 0
    )
    assert passes.training == steps * 2 * data.batch_size
    assert 0.03 * 3 * passes.training < passes.probing - at_the_end <= 0.05 * 3 * passes.training


def test_the_cadence_follows_the_sizes(tmp_path: Path) -> None:
    """Twice the samples: half as often. Nothing of it reads a clock, so a resumed run looks at the
    same steps."""
    periods = []
    for samples in (512, 1024, 2048):
        probe = KNNProbe()
        fit(TinyImages(samples=samples), tmp_path, probe, steps=1)
        periods.append(probe.period)
    # bank and queries embedded once, against 2 views of 16 samples at 3 passes each: 1024 / (0.03 *
    # 96)
    assert periods == [356, 712, 1423]


def test_the_bank_holds_at_most_10000_samples_and_the_queries_5000(tmp_path: Path) -> None:
    probe = KNNProbe()
    trainer = fit(TinyImages(samples=10_100, batch_size=512), tmp_path, probe, steps=1)
    labelled = probe.sets[""]
    assert (len(labelled.train_index), len(labelled.val_index)) == (10_000, 5_000)
    assert labelled.train_index.unique().numel() == 10_000 and len(labelled.train_labels) == 10_000
    assert "probe/knn/top1" in trainer.callback_metrics


def test_probes_judge_on_samples_that_neither_bank_nor_head_has_seen(tmp_path: Path) -> None:
    """Digits has no validation split: a part of its training samples is withheld."""
    for probe in (KNNProbe(), OnlineLinearProbe()):
        data = Digits()
        fit(data, tmp_path, probe, steps=1)
        labelled, train = probe.sets[""], data.split("train")
        assert isinstance(labelled.train, Subset) and isinstance(labelled.val, Subset) and train is not None
        assert labelled.train.source is labelled.val.source is train
        learned, judged = set(labelled.train.indices.tolist()), set(labelled.val.indices.tolist())
        assert not learned & judged and len(learned | judged) == len(train) == 1400 and len(judged) == 200


def test_each_labelled_set_is_probed_under_its_own_name(tmp_path: Path) -> None:
    data = TinyImages(probe_sets={"bright": TinyImages(samples=32, seed=1)})
    trainer = fit(
        data, tmp_path, KNNProbe(every_n_steps=2), OnlineLinearProbe(every_n_steps=2, eval_every_n_steps=2), steps=2
    )
    assert probe_names(trainer) == {
        "probe/knn/top1",
        "probe/linear/top1",
        "probe/bright/knn/top1",
        "probe/bright/linear/top1",
    }


def test_pretraining_data_without_labels_is_probed_on_another_set(tmp_path: Path) -> None:
    data = Unlabelled(probe_sets={"bright": TinyImages(samples=32)})
    assert probe_names(fit(data, tmp_path, KNNProbe(), OnlineLinearProbe())) == {
        "probe/bright/knn/top1",
        "probe/bright/linear/top1",
    }


def test_without_any_labels_probes_are_idle(tmp_path: Path) -> None:
    trainer = fit(Unlabelled(), tmp_path, KNNProbe(every_n_steps=1), OnlineLinearProbe(every_n_steps=1))
    assert trainer.global_step == 8 and not probe_names(trainer)


@pytest.mark.parametrize("cls, name", [(KNNProbe, "probe/knn/top1"), (OnlineLinearProbe, "probe/linear/top1")])
def test_each_probe_is_switched_off_by_a_flag(cls: type[Any], name: str, tmp_path: Path) -> None:
    others = {KNNProbe: OnlineLinearProbe, OnlineLinearProbe: KNNProbe}
    trainer = fit(TinyImages(), tmp_path, cls(enabled=False), others[cls]())
    assert probe_names(trainer) == {"probe/knn/top1", "probe/linear/top1"} - {name}


@pytest.mark.parametrize(
    "argument, value",
    [("k", 0), ("temperature", 0.0), ("bank", 0), ("queries", -1), ("every_n_steps", 0), ("budget", 0.0)],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        KNNProbe(**{argument: value})
