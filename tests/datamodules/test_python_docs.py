"""Python's language reference as a labelled data set, in which no test paragraph is trained on."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch
from ssl_lightning.datamodules.python_docs import PythonDocs, letters, paragraphs

from ssl_lightning.data.text.documents import Texts


def test_no_paragraph_of_the_test_split_is_trained_on_and_all_others_are() -> None:
    data = PythonDocs()
    train, test, pretrain = (data.corpus(split) for split in ("train", "test", "pretrain"))
    assert isinstance(train, Texts) and isinstance(test, Texts) and isinstance(pretrain, Texts)
    assert not set(map(letters, pretrain.texts)) & set(map(letters, test.texts))
    left_out = set(paragraphs()) - set(pretrain.texts) - set(test.texts)
    assert len(left_out) <= 5 and set(map(letters, left_out)) <= set(map(letters, pretrain.texts))
    assert set(train.texts) < set(pretrain.texts) and pretrain.labels is None and data.corpus("val") is None
    assert len({*train.texts, *test.texts}) == len(train.texts) + len(test.texts)
    topic = paragraphs()
    whole = {name: " ".join(text.split()) for name, text in topics.items()}
    assert all(text in whole[name] for text, name in topic.items())
    assert all(
        topic[text] == label
        for part in (train, test)
        for text, label in zip(part.texts, part.labels or (), strict=True)
    )


@pytest.mark.slow
def test_there_are_twelve_classes_in_proportion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path))
    data = PythonDocs()
    train, test = data.split("train"), data.split("test")
    assert train is not None and test is not None and train.labels is not None and test.labels is not None
    parts = [part.bincount(minlength=12) / len(part) for part in (train.labels, test.labels)]
    assert data.class_names is not None and len(data.class_names) == 12 == len(parts[0])
    assert float((parts[0] - parts[1]).abs().max()) < 0.01 and 400 < len(train) < 2000
    assert len(data.vocabulary) == 2048
    assert bool((torch.cat([part for part in parts]) > 0).all())
