"""A run without labels ends with scores, a map, a contact sheet and names of near-duplicates, in
every modality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.data.datamodule import Split, SSLDataModule
from ssl_lightning.data.sources import Source
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.evaluation.overview import pair_of
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing.tiny import ROW_LENGTH, VOCAB_SIZE, WAVE_STEM, TinyEncoder, TinyImages, TinyText, TinyWaves
from ssl_lightning.types import ViewSpec


def unlabelled(cls: type[SSLDataModule]) -> type[SSLDataModule]:
    """The same data with nothing but samples to pretrain on."""

    def source(self: Any, split: Split) -> Source | None:
        samples = cls.source(self, split) if split == "train" else None
        if samples is not None:
            samples.labels = None
        return samples

    return type(f"Unlabelled{cls.__name__}", (cls,), {"source": source})


ENCODERS: dict[type[Any], Any] = {
    TinyImages: TinyEncoder,
    TinyText: lambda: TextTransformer(vocab_size=VOCAB_SIZE, dim=8, depth=1, heads=2, max_length=ROW_LENGTH),
    TinyWaves: lambda: WaveTransformer(maps=8, dim=16, depth=1, heads=2, **WAVE_STEM),
}


@pytest.mark.parametrize(
    ("cls", "encoder"),
    [pytest.param(*each, marks=[pytest.mark.slow] * bool(n)) for n, each in enumerate(ENCODERS.items())],
)
def test_a_run_without_labels_ends_with_scores_pictures_and_names(
    cls: type[Any], encoder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    trainer = ssl_lightning.Trainer(
        max_steps=2, accelerator="cpu", default_root_dir=str(tmp_path), enable_progress_bar=False, callbacks=[Report()]
    )
    trainer.fit(SimCLR(encoder()), datamodule=unlabelled(cls)(samples=48))
    folder = trainer.run_folder
    assert folder is not None
    summary, printed = json.loads((folder / "summary.json").read_text()), capsys.readouterr().out
    assert "report/failed" not in summary and summary["protocol"]["label_free"]["judged"] == 48
    for row in ("pretrained", "untrained", "raw"):
        assert 1 <= summary[f"label_free/{row}/rankme"] <= 48
        assert (f"label_free/{row}/own_view" in summary) == (row != "raw" or cls is not TinyText)
    assert "Without labels: 48 of the 48 samples" in printed and "untrained encoder" in printed
    assert "Without labels" in (folder / "encoder.md").read_text()
    assert {"map.png", "map.json", "neighbours.png"} <= {path.name for path in (folder / "plots").iterdir()}
    names = json.loads((folder / "duplicates_outliers.json").read_text())
    assert names["samples"] == 48 and len(names["outliers"]) == 20


def test_samples_are_found_between_views_that_differ() -> None:
    assert pair_of(ViewSpec(full=2, strength=("strong_a", "strong_b"))) == ("strong_a", "strong_b")
    assert pair_of(ViewSpec(full=1, strength="weak")) == ("weak", "weak")
    assert pair_of(ViewSpec(full=1, strength="none")) == ("strong", "strong")
    assert pair_of(ViewSpec(full=0, clean=True)) == ("strong", "strong")
