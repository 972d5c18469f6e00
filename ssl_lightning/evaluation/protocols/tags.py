"""Tags of words, by a linear classifier on the contextual token that each word begins with.

Notation for shapes: S sentences, W words of them, K tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.sources import stratified_sample
from ...data.tagged import Tagged
from .base import Judgement, Needs, Protocol, Samples, score
from .entities import OUTSIDE, agreement, are_spans
from .token_regression import TokenClassifier, token_classifier
from .token_store import TokenStore


@dataclass(frozen=True, kw_only=True)
class Tags(Protocol):
    """Logistic regression on the frozen contextual token that a word begins with (Devlin et al.
    2018, BERT, Section 5.3, without fine-tuning and without a CRF). The penalty is chosen on a
    fifth of the sentences to learn from. A word that has no token is predicted to be `O`.

    Of tags in IOB2 `f1` is that of entities: one counts where type, first and last word are right.
    Of others there is the accuracy alone.

    Args:
        words: that the classifier learns from; of more, a part of each tag is drawn.

    Raises:
        ValueError: words is below 2.
    """

    name: ClassVar[str] = "tags"
    needs: ClassVar[Needs] = Needs("tokens", "tags")
    source: ClassVar[str] = "Devlin et al. 2018 (1810.04805), Section 5.3; Tjong Kim Sang and De Meulder 2003 (CoNLL)"
    words: int = 50_000

    def __post_init__(self) -> None:
        if self.words < 2:
            raise ValueError(f"words={self.words} is too small; give 2 or more.")

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "token": "the first of a word", "entities": "IOB2, as seqeval"}

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        known, judged = train.target, test.target
        tags = list(train.names)
        spans = are_spans(tags)
        x, y, sentence = words_of(train.x, known, self.words)
        classifier = token_classifier(x, y, sentence, len(tags), seed=seed)
        predicted = predictions(classifier, test.x, judged, tags.index(OUTSIDE) if OUTSIDE in tags else -1)
        remarks = [*train.x.remarks, classifier.remark]
        if lacking := sum(int((each < 0).sum()) for each in _seen(judged)):
            remarks.append(f"{lacking:,} of {judged.words:,} judged words have no token, and count as {OUTSIDE}.")
        return Judgement(scores_of(judged, predicted, tags, spans), tuple(remarks))


def words_of(tokens: TokenStore, tagged: Tagged, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens [m, D] of at most so many words, their tags [m], and their sentences [m]."""
    rows = torch.cat([torch.cat([torch.full((len(each), 1), piece), each], dim=1)
                      for piece, each in enumerate(tagged.places)])  # [W, 4]  # fmt: skip
    y = torch.cat(list(tagged.tags))[tagged.starts[rows[:, 2]] + rows[:, 3]]
    kept = stratified_sample(y, most)
    rows, y = rows[kept], y[kept]
    x = torch.stack([tokens[piece][token] for piece, token in rows[:, :2].tolist()])
    return x, y, rows[:, 2]


def predictions(classifier: TokenClassifier, tokens: TokenStore, tagged: Tagged, absent: int) -> list[Tensor]:
    """The tag of each word, by sentence.

    Args:
        classifier: of tokens.
        tokens: of the pieces.
        tagged: the sentences.
        absent: the tag of words without a token.
    """
    predicted = [torch.full_like(each, absent) for each in tagged.tags]
    for piece, places in enumerate(tagged.places):
        if len(places):
            best = classifier.logits(tokens[piece][places[:, 0]]).argmax(dim=1)
            for (_, sentence, word), tag in zip(places.tolist(), best.tolist(), strict=True):
                predicted[sentence][word] = tag
    return predicted


def scores_of(judged: Tagged, predicted: list[Tensor], tags: list[str], spans: bool) -> dict[str, Any]:
    """Entity F1, where tags are spans, and accuracy, with resamples of sentences."""
    sentences = len(judged.tags)
    right = torch.stack([(a == b).sum() for a, b in zip(judged.tags, predicted, strict=True)]).double()
    counts = torch.tensor([len(each) for each in judged.tags]).double()
    scores = {"accuracy": score([lambda weights: (weights @ right) / (weights @ counts)], sentences)}
    if not spans:
        return scores
    words = [[[tags[tag] if tag >= 0 else OUTSIDE for tag in each.tolist()] for each in part]
             for part in (judged.tags, predicted)]  # fmt: skip
    agree = torch.tensor([agreement(*each) for each in zip(*words, strict=True)]).double()  # [S, 3]

    def f1(weights: Tensor) -> Tensor:
        both, said, there = (weights @ agree).unbind(1)
        return 2 * both / (said + there).clamp(min=1)

    return {"f1": score([f1], sentences), **scores}


def _seen(tagged: Tagged) -> list[Tensor]:
    """Of each sentence's words 0, or -1 where no piece has a token of it."""
    seen = [torch.full_like(each, -1) for each in tagged.tags]
    for places in tagged.places:
        for _, sentence, word in places.tolist():
            seen[sentence][word] = 0
    return seen
