"""HeldOut: the method's own scores on withheld samples, the same ones with the same masks at every
look, and no trace of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.methods.bert import BERT
from torch import Tensor
from torch.testing import assert_close

import ssl_lightning
from ssl_lightning import Batch, TextEncoder
from ssl_lightning.data.sources import Source
from ssl_lightning.data.splits import Split
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.method import SSLMethod
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.testing import TinyText
from ssl_lightning.testing.methods import tiny_encoder


class Watched(BERT):
    """Remembers every look: the samples and their masks, and the mode it was in."""

    def __init__(self, encoder: TextEncoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.looks: list[list[Tensor]] = []
        self.modes: set[bool] = set()

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        seen = list(batches)
        assert all(set(batch) == {"views", "index", "key"} for batch in seen), "labels, or something else"
        assert not torch.is_grad_enabled()
        self.modes |= {module.training for module in self.modules()}
        found = []
        for batch in seen:
            hidden = self.masks.choose(batch["views"][0], batch["key"], 0.15)
            found += [
                batch["index"],
                batch["views"][0].x,
                self.masks.corrupt(batch["views"][0], batch["key"], hidden).x,
            ]
        self.looks.append(found)
        return super().scores(iter(seen))


class Plain(BERT):
    """A method without scores."""

    scores = SSLMethod.scores


class Unlabelled(TinyText):
    """Nothing is withheld."""

    def source(self, split: Split) -> Source | None:
        return super().source(split) if split == "train" else None


def trained(root: Path, probe: HeldOut, cls: type[BERT] = Watched, data: TinyText | None = None) -> tuple[Any, Any]:
    """A method after 7 steps, with dropout, and its rows of metrics."""
    torch.manual_seed(0)
    encoder: Any = tiny_encoder(BERT)
    method = cls(encoder, warmup_epochs=0)
    trainer = ssl_lightning.Trainer(
        max_steps=7,
        max_epochs=-1,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(root),
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[probe, KNNProbe(enabled=False), OnlineLinearProbe(enabled=False), Report(enabled=False)],
    )
    trainer.fit(method, datamodule=data or TinyText(samples=64))
    return method, rows_of(trainer)


def held_out(rows: Any) -> dict[int, dict[str, float]]:
    """What was logged of it, by step."""
    found = {row["step"]: {name: value for name, value in row.items() if name.startswith("held_out/")} for row in rows}
    return {step: values for step, values in found.items() if values}


def test_it_looks_at_the_same_withheld_samples_and_leaves_no_trace(tmp_path: Path) -> None:
    method, rows = trained(tmp_path / "with", HeldOut(samples=40, every_n_steps=3))
    logged = held_out(rows)
    assert list(logged) == [3, 6, 7] and all(
        set(v) == {"held_out/mlm", "held_out/accuracy", "held_out/perplexity"} for v in logged.values()
    )
    assert len({values["held_out/mlm"] for values in logged.values()}) == 3, "the weights have moved in between"
    assert len(method.looks) == 3 and method.modes == {False} and method.training and method.encoder.dropout.training
    for look in method.looks[1:]:
        assert all(torch.equal(one, other) for one, other in zip(look, method.looks[0], strict=True))
    assert sum(len(index) for index in method.looks[0][::3]) == 40
    without, others = trained(tmp_path / "without", HeldOut(enabled=False))
    assert not held_out(others) and not without.looks
    for name, value in method.state_dict().items():
        assert torch.equal(value, without.state_dict()[name]), f"{name} is another with it"


def test_the_scores_are_those_of_the_validation_split(tmp_path: Path) -> None:
    """All of it, in the batches of the run; by hand."""
    method, rows = trained(tmp_path, HeldOut(every_n_steps=7))
    data = TinyText(samples=64)
    data.serve(method)
    source = data.source("val")
    assert source is not None
    parts = torch.arange(64).split(16)
    fetched = [{"raw": source.fetch(index), "index": index, "pass": torch.zeros_like(index)} for index in parts]
    with torch.no_grad():
        expected = BERT.scores(method.eval(), [data.make_batch(part) for part in fetched])
    for name, value in expected.items():
        assert_close(held_out(rows)[7][f"held_out/{name}"], float(value), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("cls", "data"), [(Plain, TinyText), (Watched, Unlabelled)], ids=["no scores", "nothing withheld"]
)
def test_without_scores_or_withheld_samples_nothing_is_logged(
    tmp_path: Path, cls: type[BERT], data: type[TinyText]
) -> None:
    _, rows = trained(tmp_path, HeldOut(every_n_steps=1), cls, data(samples=64))
    assert rows and not held_out(rows)


def test_it_is_paid_for_by_the_budget(tmp_path: Path) -> None:
    """30 samples forward are 10 samples' training; of steps of 16 that is 5 % every 12.5 steps, and
    the last step always."""
    probe = HeldOut(samples=30, budget=0.05)
    _, rows = trained(tmp_path, probe)
    assert probe.period == 13 and list(held_out(rows)) == [7]


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"HeldOut\(samples=0\) must be at least 1"):
        HeldOut(samples=0)


class Withheld(TinyText):
    """Texts without labels, of which some are withheld."""

    def source(self, split: Split) -> Source | None:
        source = super().source(split)
        if source is not None:
            source.labels = None
        return source if split == "train" else None

    @property
    def held_out(self) -> Source | None:
        return super().source("val")


@pytest.mark.slow
def test_perplexity_is_printed_when_the_run_ends_and_by_validate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    encoder: Any = tiny_encoder(BERT)
    settings: Any = {
        "max_steps": 3, "max_epochs": -1, "accelerator": "cpu", "precision": "32-true",
        "default_root_dir": str(tmp_path), "enable_checkpointing": False, "enable_progress_bar": False,
        "callbacks": [KNNProbe(enabled=False), OnlineLinearProbe(enabled=False)],
    }  # fmt: skip
    trainer, method = ssl_lightning.Trainer(**settings), BERT(encoder, warmup_epochs=0)
    trainer.fit(method, datamodule=Withheld(samples=64))
    summary = json.loads((trainer.run_folder / "summary.json").read_text())
    line = (
        f"On held-out samples: mlm {summary['held_out/mlm']:.4g}, accuracy {summary['held_out/accuracy']:.4g},"
        f" perplexity {summary['held_out/perplexity']:.4g}."
    )
    assert line in capsys.readouterr().out and line in (trainer.run_folder / "encoder.md").read_text()
    (returned,) = trainer.validate(method, datamodule=Withheld(samples=64))
    assert line in capsys.readouterr().out
    assert_close(returned["held_out/perplexity"], summary["held_out/perplexity"], rtol=1e-5, atol=0)


class Timed(BERT):
    """Its scores depend on the part of the run that is done."""

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        return super().scores(batches) | {"progress": torch.tensor(self.progress)}


def test_a_method_that_asks_for_its_progress_can_be_validated(tmp_path: Path) -> None:
    """Outside of a run a trainer knows no number of steps."""
    encoder: Any = tiny_encoder(BERT)
    trainer = ssl_lightning.Trainer(accelerator="cpu", default_root_dir=str(tmp_path), enable_progress_bar=False)
    (returned,) = trainer.validate(Timed(encoder), datamodule=Withheld(samples=64))
    assert returned["held_out/progress"] == 0
