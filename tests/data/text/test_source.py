"""Samples of tokens: documents or their pieces, each with its first and last token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ssl_lightning.datamodules.python_docs import paragraphs

from ssl_lightning.data.text.documents import Texts
from ssl_lightning.data.text.source import TextSource
from ssl_lightning.data.text.store import Store, open_store
from ssl_lightning.data.text.tokenizer import train_tokenizer, vocabulary_of
from ssl_lightning.nn.packing import Ragged
from ssl_lightning.nn.vocabulary import Vocabulary

DOCS = tuple(paragraphs())[:60]
CORPUS = Texts("docs", DOCS, ["a", "b"] * 30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_store(CORPUS, train_tokenizer(CORPUS, "wordpiece", 400))


def split(samples: Ragged) -> list[list[int]]:
    return [part.tolist() for part in samples.x.split(samples.lengths.tolist())]


def documents(store: Store) -> list[list[int]]:
    return [store.tokens[start:end].tolist() for start, end in zip(store.offsets[:-1], store.offsets[1:], strict=True)]


@pytest.mark.parametrize("row_length", [8, 30, 4096])
def test_a_sample_is_the_beginning_of_its_document(store: Store, row_length: int) -> None:
    source = TextSource(store, row_length, Vocabulary.plain(400), labels=store.labels)
    index = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    samples = source.fetch(index)
    assert samples.x.dtype == samples.lengths.dtype == torch.int64 and len(source) == 60
    assert source.labels is not None and source.labels.tolist() == [0, 1] * 30
    expected = documents(store)
    assert split(samples) == [[2, *expected[number][: row_length - 2], 3] for number in index.tolist()]


def test_the_pieces_of_a_document_are_all_of_it(store: Store) -> None:
    source = TextSource(store, 30, Vocabulary.plain(400), pieces=True)
    samples = split(source.fetch(torch.arange(len(source))))
    expected = [ids[start : start + 28] for ids in documents(store) for start in range(0, len(ids), 28)]
    assert samples == [[2, *piece, 3] for piece in expected]
    index = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    assert split(source.fetch(index)) == [samples[number] for number in index.tolist()]
    assert source.labels is None


def test_other_tokens_may_begin_and_end_a_sample(store: Store) -> None:
    vocabulary = Vocabulary(
        torch.zeros(400, dtype=torch.bool), torch.zeros(400, dtype=torch.bool), pad=1, cls=0, sep=2, mask=9
    )
    first, *_, last = TextSource(store, 30, vocabulary).fetch(torch.tensor([5])).x.tolist()
    assert (first, last) == (0, 2)


def test_no_samples_are_no_tokens(store: Store) -> None:
    assert [
        len(part) for part in TextSource(store, 30, Vocabulary.plain(400)).fetch(torch.empty(0, dtype=torch.int64))
    ] == [0, 0]


def test_its_fingerprint_tells_of_what_samples_are_made(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path))
    other = train_tokenizer(CORPUS, "bpe", 400)
    retokenized = TextSource(open_store(CORPUS, other), 30, vocabulary_of(other))
    plain = Vocabulary.plain(400)
    found = [
        TextSource(store, 30, plain),
        TextSource(store, 30, plain, pieces=True),
        TextSource(store, 40, plain, pieces=True),
        retokenized,
    ]
    assert len({source.fingerprint for source in found}) == 4
    assert found[0].fingerprint == TextSource(store, 30, plain).fingerprint


def test_a_row_without_room_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="row_length=2 has no room"):
        TextSource(store, 2, Vocabulary.plain(400))
