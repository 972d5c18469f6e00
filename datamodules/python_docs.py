"""Python's language reference, for a first run and for tests; it needs no download."""

from __future__ import annotations

import re
from functools import cached_property
from pydoc_data.topics import topics
from typing import Any

import torch

from ssl_lightning.data.ledger import LeftOut, Tally
from ssl_lightning.data.sources import stratified_split
from ssl_lightning.data.text.datamodule import Part, TextDataModule
from ssl_lightning.data.text.documents import Corpus, Texts

CLASSES = 12
WORDS = 8
"""Paragraphs of fewer words, such as headings or lines of code, are left out."""


class PythonDocs(TextDataModule):
    """Paragraphs of Python's language reference, which is part of every Python installation: about
    1,400, 12 classes, no download.

    A document is a paragraph; one that occurs in several topics belongs to the shortest. The 12
    topics with the most paragraphs are the classes: the task is to tell which topic a paragraph is
    from. A fifth of their paragraphs is the test split, stratified and fixed by seed 0, without
    those that differ from one outside of it in figures and signs alone. Pretraining uses all
    others, and the paragraphs of smaller topics. The text, and with it every result,
    changes with Python's version. Source: `pydoc_data.topics`, made from
    docs.python.org/3/reference.
    """

    default_epochs = 40

    def __init__(self, *, vocab_size: int = 2048, batch_size: int = 32, **kwargs: Any) -> None:
        super().__init__(vocab_size=vocab_size, batch_size=batch_size, **kwargs)

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns a small transformer that learns in a few minutes on two cores."""
        encoders = super().suited_encoders({"vocab_size": 2048, **init_args})
        for encoder in encoders.values():
            encoder["init_args"].update(dim=128, depth=3, heads=4)
        return encoders

    def corpus(self, split: Part) -> Corpus | None:
        return self._corpora.get(split)

    def beside(self) -> Tally | None:
        _, copies = self._divided
        near = LeftOut("of the test split are nearly copies of others", len(copies), (copies or [""])[0][:40])
        return Tally("elsewhere", "paragraphs", {}, [*read_topics()[1], *([near] if copies else [])])

    @property
    def _corpora(self) -> dict[str, Corpus]:
        return self._divided[0]

    @cached_property
    def _divided(self) -> tuple[dict[str, Corpus], list[str]]:
        """The documents of each part, and what is left out of the test split as near copies."""
        topic = paragraphs()
        texts, names = list(topic), list(topic.values())
        largest = sorted(set(names), key=lambda name: (-names.count(name), name))[:CLASSES]
        labelled = [number for number, name in enumerate(names) if name in largest]
        labels = torch.tensor([largest.index(names[number]) for number in labelled])
        train, test = (
            [labelled[index] for index in part.tolist()] for part in stratified_split(labels, len(labelled) // 5)
        )
        rest = sorted(set(range(len(texts))) - set(test))
        trained = {letters(texts[number]) for number in rest}
        copies = [texts[number] for number in test if letters(texts[number]) in trained]
        test = [number for number in test if texts[number] not in copies]

        def part(name: str, numbers: list[int], labels: bool = True) -> Corpus:
            return Texts(
                f"python_docs, {name}",
                [texts[number] for number in numbers],
                [names[number] for number in numbers] if labels else None,
            )

        parts = {"train": part("train", train), "test": part("test", test), "pretrain": part("pretrain", rest, False)}
        return parts, copies


def paragraphs() -> dict[str, str]:
    """Returns each paragraph, once, and the topic that it is from."""
    return read_topics()[0]


def read_topics() -> tuple[dict[str, str], list[LeftOut]]:
    """Returns each paragraph with its topic, and what is left out."""
    topic_of: dict[str, str] = {}
    short, again = [], []
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        for paragraph in topics[name].split("\n\n"):
            text = " ".join(paragraph.split())
            if len(re.findall(r"[A-Za-z]{2,}", text)) < WORDS:
                short.append(f"{name}: {text[:40]}")
            elif text in topic_of:
                again.append(f"{name}: {text[:40]}")
            else:
                topic_of[text] = name
    reasons = {f"have fewer than {WORDS} words": short, "occur in a shorter topic too": again}
    return topic_of, [LeftOut(reason, len(each), each[0]) for reason, each in reasons.items() if each]


def letters(text: str) -> str:
    """The letters of a text: those of "3.1: added ','" and "3.6: Added '_'" are the same."""
    return "".join(re.findall(r"[a-z]", text.lower()))
