"""Texts are read as the run read them: what shapes a view travels with its encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Reader, TextTransformer, Trainer, load_encoder
from ssl_lightning.cli.defaults import _of_run
from ssl_lightning.data.peek import peek
from ssl_lightning.data.text.settings import TEXT, row_length_in
from ssl_lightning.run.pretrained import artifacts_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on rows of 16 tokens, and beside it the texts."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_LIGHTNING_CACHE", str(folder / "cache"))
        (folder / "texts.csv").write_text(
            "text,label\n" + "\n".join(f"some words of the text {number},{number % 2}" for number in range(40))
        )
        data = TextFiles(str(folder / "texts.csv"), row_length=16, vocab_size=300, batch_size=8)
        encoder = TextTransformer(vocab_size=300, dim=8, depth=1, heads=2, max_length=16)
        trainer = Trainer(
            max_steps=2, accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False
        )
        trainer.fit(SimCLR(encoder), data)
    (written,) = (path.parent for path in folder.rglob("encoder.safetensors"))
    return written


@pytest.mark.slow
def test_a_reader_reads_as_the_run_did_and_longer_texts_by_windows(run: Path) -> None:
    assert json.loads((run / TEXT).read_text()) == {"row_length": 16}
    read = Reader(run)
    long = "a text of many more words than a row has room for, and some more words"
    assert read.view([long, "short"]).x.shape[1] == 16
    features = read([long, "short", ""])
    assert features.shape == (3, 8) and torch.equal(features[1:2], read(["short"]))
    windows = read.data.take([long]).windows()
    assert windows is not None and len(windows.source) > 1
    with torch.no_grad():
        parts = [read.encoder(peek(read.data, windows.source, torch.tensor([part]), "cpu")["views"][0])[0]
                 for part in range(len(windows.source))]  # fmt: skip
    assert torch.allclose(features[0], torch.stack(parts).mean(dim=0), atol=1e-6)
    (checkpoint,) = (run / "checkpoints").glob("*.ckpt")
    assert torch.equal(Reader(checkpoint)([long, "short", ""]), features)
    alone = run.parent / "elsewhere" / "encoder.safetensors"
    alone.parent.mkdir()
    alone.write_bytes((run / "encoder.safetensors").read_bytes())
    assert torch.equal(Reader(alone)([long, "short", ""]), features), "all that it needs is in the one file"
    assert (
        artifacts_of(run)
        == artifacts_of(checkpoint)
        == {name: (run / name).read_text() for name in ("tokenizer.json", TEXT)}
    )


def test_a_second_step_takes_tokenizer_and_row_length(run: Path) -> None:
    assert _of_run(TextFiles, str(run)) == {"tokenizer": str(run), "row_length": 16}


def test_a_damaged_row_length_is_refused() -> None:
    for text in ("[]", '{"row_length": "long"}', '{"row_length": 1e9}', "{"):
        with pytest.raises(ValueError, match=r"text\.json"):
            row_length_in(text)


def test_rows_too_long_for_an_encoder_are_refused_before_a_text_is_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ssl_lightning.data.text.files.Files.read", lambda *args: pytest.fail("read"))
    data = TextFiles(str(run.parent.parent / "texts.csv"), row_length=32, batch_size=8, label_column="label")
    trainer = Trainer(max_steps=1, accelerator="cpu", default_root_dir=tmp_path, logger=False)
    method = Finetune(load_encoder(run), num_classes=2)
    with pytest.raises(ValueError, match=r"TextTransformer reads up to 16 tokens, and row_length=32; set --data\.row_"):
        trainer.fit(method, data)
    assert isinstance(method.head, torch.nn.Linear)
