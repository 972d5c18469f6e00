"""Python's language reference: no download, for a first run and for tests."""

from __future__ import annotations

import re
from functools import cached_property
from pydoc_data.topics import topics
from typing import Any

import torch

from ssl_lightning.data.sources import stratified_split
from ssl_lightning.data.text.datamodule import Part, TextDataModule
from ssl_lightning.data.text.documents import Corpus, Texts

CLASSES = 12
WORDS = 8
"""A paragraph of fewer words, such as a heading or a line of code, is left out."""


class PythonDocs(TextDataModule):
    """Paragraphs of Python's language reference, which every Python installation carries: some
    1,400, 12 classes, no download.

    A document is a paragraph; one that is in several topics belongs to the shortest. The 12 topics
    with most paragraphs are the classes: what is asked is which topic a paragraph is from. Of these
    a fifth is the test split, stratified and fixed by seed 0. All others are pretrained on, and so
    are the paragraphs of smaller topics. The text, and with it every number, changes with Python's
    version. Source: `pydoc_data.topics`, made from docs.python.org/3/reference.
    """

    default_epochs = 40

    def __init__(self, *, vocab_size: int = 2048, batch_size: int = 32, **kwargs: Any) -> None:
        super().__init__(vocab_size=vocab_size, batch_size=batch_size, **kwargs)

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """A small transformer, that learns in some minutes on two cores."""
        encoders = super().suited_encoders({"vocab_size": 2048, **init_args})
        for encoder in encoders.values():
            encoder["init_args"].update(dim=128, depth=3, heads=4)
        return encoders

    def corpus(self, split: Part) -> Corpus | None:
        return self._corpora.get(split)

    @cached_property
    def _corpora(self) -> dict[str, Corpus]:
        topic = paragraphs()
        texts, of = list(topic), list(topic.values())
        largest = sorted(set(of), key=lambda name: (-of.count(name), name))[:CLASSES]
        labelled = [number for number, name in enumerate(of) if name in largest]
        labels = torch.tensor([largest.index(of[number]) for number in labelled])
        train, test = (
            [labelled[place] for place in part.tolist()] for part in stratified_split(labels, len(labelled) // 5)
        )
        rest = sorted(set(range(len(texts))) - set(test))

        def part(name: str, numbers: list[int], labels: bool = True) -> Corpus:
            return Texts(
                f"python_docs, {name}",
                [texts[number] for number in numbers],
                [of[number] for number in numbers] if labels else None,
            )

        return {
            "train": part("train", train),
            "test": part("test", test),
            "pretrain": part("pretrain", rest, labels=False),
        }


def paragraphs() -> dict[str, str]:
    """Each paragraph, once, and the topic that it is from."""
    found: dict[str, str] = {}
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        for paragraph in topics[name].split("\n\n"):
            text = " ".join(paragraph.split())
            if len(re.findall(r"[A-Za-z]{2,}", text)) >= WORDS:
                found.setdefault(text, name)
    return found
