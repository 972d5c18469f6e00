"""Samples longer than a view are judged by all of their windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.finetune import Finetune
from torch import Tensor, nn
from vectors_file import load_vectors

from ssl_lightning import TextTransformer, Trainer, View
from ssl_lightning.data.peek import embed, features_here
from ssl_lightning.data.sources import InMemory, Subset
from ssl_lightning.data.text.documents import Counts
from ssl_lightning.data.windows import Windows, averaged, merged, starts_of, windows_of

ROOM = 14


def test_windows_cover_every_part_of_a_sample_and_are_full() -> None:
    lengths = torch.tensor([3, 14, 15, 29, 140, 10_000])
    counts = windows_of(lengths, ROOM)
    assert counts.tolist() == [1, 1, 2, 3, 10, 32]
    for length, count in zip(lengths.tolist()[:-1], counts.tolist()[:-1], strict=True):
        which = torch.arange(count)
        starts = starts_of(torch.full((count,), length), ROOM, which, torch.full((count,), count))
        covered = {place for start in starts.tolist() for place in range(start, min(length, start + ROOM))}
        assert covered == set(range(length)) and int(starts[-1]) == max(0, length - ROOM)


def test_the_windows_of_some_samples_are_found_among_all() -> None:
    counts = torch.tensor([1, 3, 2])
    windows = Windows(InMemory(torch.arange(6)), counts)
    positions, some = windows.of(torch.tensor([2, 0]))
    assert positions.tolist() == [4, 5, 0] and some.tolist() == [2, 1]
    assert averaged(torch.tensor([[4.0], [6.0], [1.0]]), some).tolist() == [[5.0], [1.0]]
    assert windows.only(torch.tensor([0])) is None
    only = windows.only(torch.tensor([1, 0]))
    assert only is not None and only.source.fetch(torch.arange(4)).tolist() == [1, 2, 3, 0]
    outputs = {"features": torch.tensor([[2.0], [1.0], [4.0]]), "label": torch.tensor([7, 5, 7])}
    rows = merged({**outputs, "sample": torch.tensor([1, 0, 1])})
    assert rows["features"].tolist() == [[1.0], [3.0]] and rows["label"].tolist() == [5, 7]
    assert merged(dict(outputs)).keys() == outputs.keys()


class Counted(nn.Module):
    """Features are the share of each token among a sample's own tokens."""

    def forward(self, view: View) -> Tensor:
        assert view.segment is not None and view.samples is not None
        ordinary = (view.segment > 0) & (view.x > 4)
        counts = torch.zeros(view.samples, 400).index_put_(
            (view.segment[ordinary] - 1, view.x[ordinary]), torch.ones(()), accumulate=True
        )
        return counts / counts.sum(1, keepdim=True)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labelled texts whose class stands at their end, beyond a row, or, of the short ones, at
    once."""
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    for split, number in (("train", 40), ("test", 20)):
        rows = [
            f'"{"the same words again " * (12 * (index % 4 > 0))}{("apple", "pear")[index % 2]} {index}",{index % 2}'
            for index in range(number)
        ]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    return tmp_path


def data_of(texts: Path, **changes: Any) -> TextFiles:
    arguments = {"label_column": "label", "row_length": ROOM + 2, "vocab_size": 400, "batch_size": 4}
    return TextFiles(str(texts), **{**arguments, **changes})  # type: ignore[arg-type]


def test_texts_longer_than_a_row_are_judged_by_all_of_their_tokens(texts: Path) -> None:
    data = data_of(texts)
    source = data.source("train")
    assert source is not None
    lengths = torch.tensor(
        [len(data.tokenizer.encode(piece.text).ids) - 2 for piece in data._corpus("train").read(Counts())]
    )
    assert int((lengths > ROOM).sum()) == 30
    windows = source.windows()
    assert windows is not None and windows.counts.tolist() == windows_of(lengths, ROOM).tolist()
    features = embed(Counted(), data, source)
    assert len(features) == 40
    pears = features[1::2] - features[::2]
    token = data.tokenizer.encode(" pear", add_special_tokens=False).ids[0]
    assert bool((features[1::2, token] > 0).all()) and bool((features[::2, token] == 0).all()), pears
    part = torch.tensor([5, 4])
    torch.testing.assert_close(embed(Counted(), data, Subset(source, part)), features[part])
    torch.testing.assert_close(embed(Counted(), data, source, part), features[part])
    raw = features_here(None, data, source, torch.arange(40))
    assert raw.shape[0] == 40 and bool((raw[1::2] != raw[::2]).any(dim=1).all())
    assert source.fetch(torch.tensor([1])).lengths.tolist() == [ROOM + 2]  # training begins at the beginning


def test_no_window_where_every_text_fits(texts: Path) -> None:
    source = data_of(texts, row_length=256).source("train")
    assert source is not None and source.windows() is None


def test_test_and_predict_give_one_row_a_text(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of(texts)
    encoder = TextTransformer(vocab_size=400, dim=8, depth=1, heads=2, max_length=16, dropout=0.0)
    method = Finetune(encoder, num_classes=2)
    trainer = Trainer(
        accelerator="cpu", precision="32-true", default_root_dir=tmp_path, logger=False, enable_progress_bar=False
    )
    trainer.test(method, data)
    assert "of 20 samples" in capsys.readouterr().out
    test = data.source("test")
    assert test is not None and test.labels is not None
    expected = method.score(embed(method, data, test), test.labels)[1]
    assert float(trainer.callback_metrics["test/top1"]) == pytest.approx(expected)
    data = data_of(texts, predict_split="test")
    trainer.predict(method, data)
    (file,) = tmp_path.rglob("vectors-test.parquet")
    rows = load_vectors(file)
    assert rows["index"].tolist() == list(range(20))
    torch.testing.assert_close(rows["features"], embed(method, data, test))
